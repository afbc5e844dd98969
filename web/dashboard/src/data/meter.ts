import type { Clock, Counters, FurtherSession, Stats, TickcastClient } from "@tickcast/client";
import type { Rates } from "./messages.js";

const NOTHING: Rates = { ticks: 0, delivered: 0, frames: 0, bytes: 0 };

/** How much the sessions of a connection receive, and how fast. */
export class Meter {
  rates = NOTHING;
  /** Of the first session. */
  lag_ms = 0;
  private readonly stats: (Stats | null)[];
  /** Since the last measure, as the server reported. */
  private told = { ticks: 0, delivered: 0 };
  private before: { counters: Counters; at: number };

  constructor(
    private readonly client: TickcastClient,
    sessions: readonly Pick<FurtherSession, "on">[],
    private readonly clock: Clock,
  ) {
    this.stats = sessions.map(() => null);
    this.before = { counters: this.counters, at: clock.now() };
    sessions.forEach((session, i) => session.on("stats", (stats) => this.receive(i, stats)));
    client.on("state", ({ kind }) => {
      if (kind !== "live" && kind !== "lagging") this.stats.fill(null); // others count from 0
    });
  }

  get counters(): Counters {
    return { ...this.client.counters };
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

  private receive(session: number, stats: Stats): void {
    const before = this.stats[session];
    this.stats[session] = stats;
    if (session === 0) this.lag_ms = stats.lag_ms;
    if (!before || stats.events < before.events) return;
    this.told.ticks += stats.events - before.events;
    this.told.delivered += stats.delivered - before.delivered;
  }
}
