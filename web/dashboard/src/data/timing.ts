import type { Clock, FurtherSession, Micros, Ping, TickcastClient } from "@tickcast/client";

/** Of `GET /v1/feed`: two moments that belong together, in µs, and how fast the tape's clock runs from there. */
export interface FeedClock {
  readonly feed_us: number;
  readonly wall_us: number;
  /** Null: as fast as it can, so that nothing is due at any time. */
  readonly speed: number | null;
}

/** Pings that are remembered. */
const PINGS = 8;

/** Computes when by this machine's clock the server's tape was at a moment, so that latencies can be measured. */
export class Timing {
  private pings: { offset_ms: number; round_trip_ms: number }[] = [];
  private clock: FeedClock | null = null;

  /** @param origin when the clock that pings are timed by was at 0, in ms since 1970 */
  constructor(private readonly origin: number) {}

  /** How far the server's clock is ahead of this machine's, in ms; null before the first ping. */
  get offset_ms(): number | null {
    const best = this.best();
    return best ? best.offset_ms : null;
  }

  /** The quickest round trip of late, in ms; the offset is wrong by at most half of it. */
  get round_trip_ms(): number | null {
    const best = this.best();
    return best ? best.round_trip_ms : null;
  }

  /** A request took as long as its answer, more or less: the quicker they were, the less it can be wrong. */
  addPing({ sent_at, received_at, time }: Pick<Ping, "sent_at" | "received_at" | "time">): void {
    const middle = this.origin + (sent_at + received_at) / 2;
    this.pings.push({ offset_ms: time / 1000 - middle, round_trip_ms: received_at - sent_at });
    if (this.pings.length > PINGS) this.pings.shift();
  }

  setFeedClock(clock: FeedClock | null): void {
    this.clock = clock;
  }

  /** Another server may have another clock. */
  forget(): void {
    this.pings = [];
    this.clock = null;
  }

  /** When what is of `time` on the tape was due, in ms since 1970 by this machine's clock; null if unknown. */
  due(time: Micros): number | null {
    const offset = this.offset_ms;
    if (offset === null || !this.clock || !this.clock.speed) return null;
    const { feed_us, wall_us, speed } = this.clock;
    return (wall_us + (time - feed_us) / speed) / 1000 - offset;
  }

  private best() {
    return this.pings.reduce<(typeof this.pings)[number] | null>(
      (best, ping) => (best && best.round_trip_ms <= ping.round_trip_ms ? best : ping),
      null,
    );
  }
}

/** The first pings come soon, since one that meets a burst shows little. */
const FIRST_PING_MS = 500;
const PING_MS = 5_000;
const FEED_MS = 15_000;

/**
 * Keeps `timing` up to date: requests the server's time, and the feed's clock whenever `universe`
 * receives another state of the feed.
 */
export function keepTime(
  timing: Timing,
  { client, universe }: { client: TickcastClient; universe: Pick<FurtherSession, "on"> },
  clock: Clock,
  readFeedClock: () => Promise<FeedClock | null>,
): void {
  const readFeed = () =>
    void readFeedClock().then(
      (read) => timing.setFeedClock(read),
      () => {}, // the server is away; the request is sent again when it is back
    );
  let pings = 0;
  const ping = () => {
    if (!client.session) return;
    pings++;
    // No answer if the session ends: the next one gets the request.
    void client.ping().then(
      (answer) => timing.addPing(answer),
      () => {},
    );
  };
  client.on("state", ({ kind }) => {
    if (kind !== "live") return;
    pings = 0;
    readFeed();
    ping();
  });
  universe.on("replaced", () => {
    timing.forget();
    pings = 0;
    readFeed();
    ping();
  });
  universe.on("status", ({ kind }) => kind === "feed" && readFeed());
  let time = 0;
  universe.on("update", (update) => {
    // A recording that starts over has a new clock.
    if (update.time < time) readFeed();
    time = update.time;
  });
  const again = (wait: () => number, what: () => void) => {
    clock.after(wait(), () => {
      if (client.session) what();
      again(wait, what);
    });
  };
  again(() => (pings < PINGS ? FIRST_PING_MS : PING_MS), ping);
  again(() => FEED_MS, readFeed);
}

/** The clock in an answer of `GET /v1/feed`. */
export function feedClock(answer: unknown): FeedClock | null {
  const { clock, speed } = (answer ?? {}) as {
    clock?: { feed_us?: unknown; wall_us?: unknown };
    speed?: unknown;
  };
  if (typeof clock?.feed_us !== "number" || typeof clock.wall_us !== "number") return null;
  const { feed_us, wall_us } = clock;
  // A tape that is only published to runs at the wall's pace.
  return {
    feed_us,
    wall_us,
    speed: speed === "max" ? null : typeof speed === "number" ? speed : 1,
  };
}
