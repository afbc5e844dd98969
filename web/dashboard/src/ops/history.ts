import type { ServerStats } from "@tickcast/client";

/** Seconds that are remembered. */
export const SPAN_S = 300;
/** The fewest that a drawing spans: with fewer, small changes would look large. */
const LEAST_SPAN_S = 60;
/** Two values further apart than this are not joined by a line: nothing is known of the time between. */
const GAP_S = 3;

/** What is drawn over time, of one second. */
export interface Point {
  /** The server's clock, in seconds since 1970. */
  at: number;
  sessions: number;
  ticksIn: number;
  sends: number;
  bytes: number;
  ticksOut: number;
  merged: number;
  p50: number | null;
  p99: number | null;
  memory: number | null;
  /** Share of busy time, by shard. */
  busy: readonly number[];
  /** Batches by how long they took. */
  counts: readonly number[];
}

/** How long batches took over a stretch of time. */
export interface Spread {
  boundsUs: readonly number[];
  counts: readonly number[];
  total: number;
}

/** The last minutes, second by second. */
export class History {
  private readonly kept: Point[] = [];
  private boundsUs: readonly number[] = [];
  private startedAt = 0;

  get points(): readonly Point[] {
    return this.kept;
  }

  /** Takes the next second in. One that is no newer, as after a resumed session, is ignored. */
  add(stats: ServerStats): void {
    const started = stats.time / 1000 - stats.uptime_ms;
    // Another process: its counts are unrelated to those before. Its clock may be set by a little.
    if (Math.abs(started - this.startedAt) > 2_000) this.kept.length = 0;
    this.startedAt = started;
    const point = pointOf(stats);
    const last = this.kept.at(-1);
    if (last && point.at <= last.at) return;
    this.boundsUs = stats.latency.bounds_us;
    this.kept.push(point);
    while (this.kept[0]!.at < point.at - SPAN_S) this.kept.shift();
  }

  /** What is to be drawn: runs of joined points, `x` from 0 (the oldest, or a minute ago) to 1 (the newest). */
  lines(value: (point: Point) => number | null | undefined): { x: number; y: number }[][] {
    const newest = this.kept.at(-1)?.at ?? 0;
    const span = Math.max(LEAST_SPAN_S, newest - (this.kept[0]?.at ?? 0));
    const runs: { x: number; y: number }[][] = [];
    let before: number | null = null;
    for (const point of this.kept) {
      const y = value(point);
      if (y === null || y === undefined) {
        before = null;
        continue;
      }
      if (before === null || point.at - before > GAP_S) runs.push([]);
      runs.at(-1)!.push({ x: 1 - (newest - point.at) / span, y });
      before = point.at;
    }
    return runs;
  }

  /** How long batches took in the last `seconds`. */
  spread(seconds: number): Spread {
    const since = (this.kept.at(-1)?.at ?? 0) - seconds;
    const counts = this.boundsUs.map(() => 0).concat(0);
    for (const point of this.kept)
      // Half a second of grace, as seconds are not exactly that.
      if (point.at > since + 0.5) point.counts.forEach((count, i) => (counts[i]! += count));
    return { boundsUs: this.boundsUs, counts, total: sum(counts) };
  }
}

/** The time in µs that `share` of all took at most, interpolated in its bucket; null if there were none. */
export function quantileUs({ boundsUs, counts, total }: Spread, share: number): number | null {
  if (total === 0) return null;
  const rank = share * total;
  let below = 0;
  for (let i = 0; i < boundsUs.length; i++) {
    const count = counts[i]!;
    if (count > 0 && below + count >= rank) {
      const low = boundsUs[i - 1] ?? 0;
      return low + (boundsUs[i]! - low) * Math.max(0, (rank - below) / count);
    }
    below += count;
  }
  return boundsUs.at(-1) ?? null;
}

/** The buckets that hold anything and one to each side of them, with their lower ends. */
export function filled({ boundsUs, counts }: Spread): {
  fromUs: number;
  toUs: number | null;
  count: number;
}[] {
  const buckets = counts.map((count, i) => ({
    fromUs: boundsUs[i - 1] ?? 0,
    toUs: boundsUs[i] ?? null,
    count,
  }));
  const first = counts.findIndex((count) => count > 0);
  if (first < 0) return [];
  const last = counts.findLastIndex((count) => count > 0);
  return buckets.slice(Math.max(0, first - 1), last + 2);
}

function pointOf(stats: ServerStats): Point {
  const of = (value: (shard: ServerStats["shards"][number]) => number) =>
    sum(stats.shards.map(value));
  return {
    at: stats.time / 1e6,
    sessions: stats.sessions.open,
    ticksIn: stats.tape.events_per_s,
    sends: of((shard) => shard.sends_per_s),
    bytes: of((shard) => shard.bytes_per_s),
    ticksOut: of((shard) => shard.ticks_per_s),
    merged: of((shard) => shard.merged_per_s),
    p50: stats.latency.p50_us,
    p99: stats.latency.p99_us,
    memory: stats.memory_bytes,
    busy: stats.shards.map((shard) => shard.busy),
    counts: stats.latency.counts,
  };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
