import type { Speed } from "./protocol.js";

/**
 * A server's own figures on the topic `stats`. Rates (`..._per_s`) are means over the last `period_ms`;
 * sessions and shards are numbers. `docs/protocol.md` describes every field.
 */
export interface ServerStats {
  /** The server's wall clock, µs since 1970. */
  readonly time: number;
  readonly period_ms: number;
  readonly version: string;
  readonly uptime_ms: number;
  readonly memory_bytes: number | null;
  readonly tape: {
    readonly position: number;
    readonly batches_per_s: number;
    readonly events: number;
    readonly events_per_s: number;
    readonly publications: number;
    readonly faults: number;
    readonly instruments: number;
  };
  readonly recording: {
    /** `live` or `ended`; empty if the tape is not recorded. */
    readonly state: string;
    readonly position: number;
    readonly files: number;
    readonly bytes: number;
    /** Why it ended. */
    readonly error: string;
  };
  readonly feed: {
    readonly kind: string;
    readonly state: string;
    readonly speed: Speed;
    /** The tape's clock, µs since 1970. */
    readonly clock: number;
    readonly behind_ms: number;
    readonly reanchored: number;
  };
  readonly sessions: {
    readonly open: number;
    readonly max: number;
    readonly blocked: number;
    readonly opened: number;
    readonly closed: number;
    readonly closed_by_code: Readonly<Record<string, number>>;
    readonly refused: number;
  };
  readonly shards: readonly ShardStats[];
  readonly latency: {
    readonly bounds_us: readonly number[];
    /** One more than bounds. */
    readonly counts: readonly number[];
    readonly p50_us: number | null;
    readonly p90_us: number | null;
    readonly p99_us: number | null;
    readonly p999_us: number | null;
  };
  readonly topics: {
    readonly by_rate: readonly TopicStats[];
    readonly by_watchers: readonly TopicStats[];
    readonly partial: boolean;
  };
  readonly slow: readonly SlowSession[];
}

export interface ShardStats {
  readonly sessions: number;
  readonly blocked: number;
  readonly views: number;
  /** From 0 to 1. */
  readonly busy: number;
  readonly turns_per_s: number;
  readonly frames_built_per_s: number;
  readonly sends_per_s: number;
  readonly bytes_per_s: number;
  readonly ticks_per_s: number;
  readonly merged_per_s: number;
  readonly behind: number;
  readonly late: boolean;
}

export interface TopicStats {
  readonly topic: string;
  readonly watchers: number;
  readonly per_s: number | null;
}

export interface SlowSession {
  readonly session: number;
  readonly shard: number;
  readonly topics: number;
  readonly lag: number;
  readonly lag_ms: number;
  readonly stalled_s: number;
  readonly waiting: number;
  readonly merged: number | null;
  readonly backlog_bytes: number;
}

/** Reads the map of the wire: a field that another version of the server does not send is zero, empty or null, a speed 1. */
export function readServerStats(map: Record<string, unknown>): ServerStats {
  const stats = shaped(SHAPE, map);
  const { speed } = (map["feed"] ?? {}) as { speed?: unknown };
  return speed === "max" ? { ...stats, feed: { ...stats.feed, speed } } : stats;
}

/** `value` if it has the shape of `example`, field by field; what is missing or of another type is as in the example. */
function shaped<T>(example: T, value: unknown): T {
  if (example === null) return (typeof value === "number" ? value : null) as T;
  if (Array.isArray(example))
    return (Array.isArray(value) ? value.map((item) => shaped(example[0], item)) : []) as T;
  if (typeof example !== "object") return typeof value === typeof example ? (value as T) : example;
  const given = (typeof value === "object" && value !== null ? value : {}) as Record<
    string,
    unknown
  >;
  const entries = Object.entries(example);
  // An example without fields is one for any names.
  const fields: [string, unknown][] =
    entries.length > 0 ? entries : Object.keys(given).map((name) => [name, 0]);
  return Object.fromEntries(fields.map(([name, field]) => [name, shaped(field, given[name])])) as T;
}

const TOPIC: TopicStats = { topic: "", watchers: 0, per_s: null };

const SHAPE: ServerStats = {
  time: 0,
  period_ms: 0,
  version: "",
  uptime_ms: 0,
  memory_bytes: null,
  tape: {
    position: 0,
    batches_per_s: 0,
    events: 0,
    events_per_s: 0,
    publications: 0,
    faults: 0,
    instruments: 0,
  },
  recording: { state: "", position: 0, files: 0, bytes: 0, error: "" },
  feed: { kind: "", state: "", speed: 1, clock: 0, behind_ms: 0, reanchored: 0 },
  sessions: {
    open: 0,
    max: 0,
    blocked: 0,
    opened: 0,
    closed: 0,
    closed_by_code: {},
    refused: 0,
  },
  shards: [
    {
      sessions: 0,
      blocked: 0,
      views: 0,
      busy: 0,
      turns_per_s: 0,
      frames_built_per_s: 0,
      sends_per_s: 0,
      bytes_per_s: 0,
      ticks_per_s: 0,
      merged_per_s: 0,
      behind: 0,
      late: false,
    },
  ],
  latency: {
    bounds_us: [0],
    counts: [0],
    p50_us: null,
    p90_us: null,
    p99_us: null,
    p999_us: null,
  },
  topics: { by_rate: [TOPIC], by_watchers: [TOPIC], partial: false },
  slow: [
    {
      session: 0,
      shard: 0,
      topics: 0,
      lag: 0,
      lag_ms: 0,
      stalled_s: 0,
      waiting: 0,
      merged: null,
      backlog_bytes: 0,
    },
  ],
};
