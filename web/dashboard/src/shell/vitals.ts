import type { Micros, Stats, TickcastClient } from "tickcast-client";
import type { FrameLoop } from "../frames.js";
import { Latencies } from "./latencies.js";

/** How the data come, over the last second or so. */
export interface Rates {
  /** Changes of what the page watches, on the server's tape. */
  readonly ticks: number;
  /** Values that were told in their place. */
  readonly delivered: number;
  readonly frames: number;
  readonly bytes: number;
  /** Ticks a value delivered stands for; null while nothing was. */
  readonly conflation: number | null;
  /** From when the server's tape was at it to when it was drawn, in ms; null where that is not known. */
  readonly p50: number | null;
  readonly p99: number | null;
}

const NOTHING: Rates = {
  ticks: 0,
  delivered: 0,
  frames: 0,
  bytes: 0,
  conflation: null,
  p50: null,
  p99: null,
};

/** The clock of `GET /v1/feed`: two moments that belong together, and how fast time runs from there. */
interface FeedClock {
  feed_us: number;
  wall_us: number;
  speed: number;
}

const CLOCK_MS = 15_000;

/** Measures what the page's badge shows. */
export class Vitals {
  rates = NOTHING;
  private readonly latencies = new Latencies();
  /** Times of updates that are not drawn yet. */
  private undrawn: Micros[] = [];
  private clock: FeedClock | null = null;
  private stats: Stats | null = null;
  private statsRates = { ticks: 0, delivered: 0 };
  private before = { frames: 0, bytes: 0, at: performance.now() };

  constructor(
    private readonly client: TickcastClient,
    frames: FrameLoop,
  ) {
    client.on("update", ({ changes, time }) => {
      if (changes.length > 0) this.undrawn.push(time);
    });
    client.on("state", ({ kind }) => {
      if (kind !== "live") return;
      client.requestStats(true);
      void this.readClock();
    });
    client.on("subscribed", () => client.requestStats(true));
    client.on("status", ({ kind }) => kind === "feed" && void this.readClock());
    client.on("stats", (stats) => this.receive(stats));
    frames.add(() => this.drawn());
    setInterval(() => this.measure(), 1_000);
    setInterval(() => void this.readClock(), CLOCK_MS);
  }

  private receive(stats: Stats): void {
    const before = this.stats;
    this.stats = stats;
    if (!before || stats.events < before.events) return;
    this.statsRates = {
      ticks: stats.events - before.events,
      delivered: stats.delivered - before.delivered,
    };
  }

  private drawn(): void {
    const times = this.undrawn;
    if (times.length === 0) return;
    this.undrawn = [];
    if (!this.clock || document.hidden) return;
    const { feed_us, wall_us, speed } = this.clock;
    const wall = performance.timeOrigin + performance.now();
    for (const time of times)
      this.latencies.add(wall - (wall_us + (time - feed_us) / speed) / 1000, performance.now());
  }

  private measure(): void {
    const { frames, bytes } = this.client.counters;
    const now = performance.now();
    const seconds = (now - this.before.at) / 1000;
    const live = this.client.state.kind === "live";
    const { ticks, delivered } = live ? this.statsRates : { ticks: 0, delivered: 0 };
    const [p50, p99] = this.latencies.percentiles([0.5, 0.99], now);
    this.rates = {
      ticks,
      delivered,
      conflation: delivered > 0 ? ticks / delivered : null,
      frames: (frames - this.before.frames) / seconds,
      bytes: (bytes - this.before.bytes) / seconds,
      p50: p50 ?? null,
      p99: p99 ?? null,
    };
    this.before = { frames, bytes, at: now };
  }

  private async readClock(): Promise<void> {
    try {
      const answer = await fetch("/v1/feed");
      const { clock, speed } = (await answer.json()) as {
        clock: { feed_us: number; wall_us: number };
        speed: number | "max" | null;
      };
      // At full speed nothing is due at any time: there is no latency to speak of.
      this.clock = speed === "max" ? null : { ...clock, speed: speed || 1 };
    } catch {
      this.clock = null; // the server is away; it is asked again when it is back
    }
  }
}
