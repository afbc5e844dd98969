import type { Clock, Counters, Stats, TickcastClient } from "@tickcast/client";
import type { Rates } from "./messages.js";

const NOTHING: Rates = { ticks: 0, delivered: 0, frames: 0, bytes: 0 };

/** Adds up what several sessions bring, and how fast. */
export class Meter {
  rates = NOTHING;
  /** Of the first session. */
  lag_ms = 0;
  private readonly stats: (Stats | null)[];
  /** Since the last measure, as the server told. */
  private told = { ticks: 0, delivered: 0 };
  private before: { counters: Counters; at: number };

  constructor(
    private readonly clients: readonly TickcastClient[],
    private readonly clock: Clock,
  ) {
    this.stats = clients.map(() => null);
    this.before = { counters: this.counters, at: clock.now() };
    clients.forEach((client, i) => {
      client.on("stats", (stats) => this.receive(i, stats));
      client.on("state", ({ kind }) => {
        if (kind !== "live") this.stats[i] = null; // another session counts from 0
      });
    });
  }

  get counters(): Counters {
    const sum: Counters = { frames: 0, bytes: 0, changes: 0, missed: 0, reconnects: 0 };
    for (const { counters } of this.clients)
      for (const name of Object.keys(sum) as (keyof Counters)[]) sum[name] += counters[name];
    return sum;
  }

  measure(): void {
    const { counters, at } = { counters: this.counters, at: this.clock.now() };
    const seconds = (at - this.before.at) / 1000;
    if (seconds <= 0) return;
    this.rates = {
      ticks: this.told.ticks / seconds,
      delivered: this.told.delivered / seconds,
      frames: (counters.frames - this.before.counters.frames) / seconds,
      bytes: (counters.bytes - this.before.counters.bytes) / seconds,
    };
    this.told = { ticks: 0, delivered: 0 };
    this.before = { counters, at };
  }

  private receive(client: number, stats: Stats): void {
    const before = this.stats[client];
    this.stats[client] = stats;
    if (client === 0) this.lag_ms = stats.lag_ms;
    if (!before || stats.events < before.events) return;
    this.told.ticks += stats.events - before.events;
    this.told.delivered += stats.delivered - before.delivered;
  }
}
