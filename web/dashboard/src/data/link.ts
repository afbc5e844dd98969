import {
  Emitter,
  systemClock,
  type Bar,
  type Change,
  type ClientEvents,
  type Clock,
  type ConnectionState,
  type Counters,
  type Epoch,
  type Feed,
  type Instrument,
  type Interval,
  type Micros,
  type Position,
  type Post,
  type Quote,
  type Topic,
  type Verification,
  type TransportName,
  type Welcome,
} from "@tickcast/client";
import type { Batch, Condition, Demand, Opened, ToPage, ToRelay } from "./messages.js";
import { DisplayPace } from "./pace.js";
import { unpack } from "./pack.js";
import { Percentiles } from "./percentiles.js";
import type { Port } from "./tab.js";

/**
 * Whether what the page shows is the present. Times are those of `performance.now()`. The cause of a lag is the network,
 * the worker, or the page.
 */
export type LinkState = ConnectionState;

export interface LinkEvents {
  state: LinkState;
  /** At most one per frame: what has changed since the last one, merged. */
  update: {
    readonly position: Position;
    readonly time: Micros;
    readonly changes: readonly Change[];
  };
  /** Everything kept is of another tape, and comes again. */
  replaced: { readonly epoch: Epoch | null };
  /** Exactly `missed` entries of the ring `topic` were lost before they reached the page. */
  gap: ClientEvents["gap"];
  /** A topic was refused, or a frame malformed. */
  error: ClientEvents["error"];
}

/** The figures of the connection. */
export interface Measures {
  /** Changes a second of what is subscribed, on the server's tape. */
  readonly ticks: number;
  /** Values a second that were sent for them. */
  readonly delivered: number;
  /** Ticks merged into one of these; null while none come. */
  readonly conflation: number | null;
  readonly frames: number;
  readonly bytes: number;
  /** From when an update was due on the server to when it was drawn here, in ms, over the last ten seconds; null if unknown. */
  readonly p50: number | null;
  readonly p99: number | null;
  /** Topics that are subscribed now, over all tabs. */
  readonly topics: number;
}

/** The part of the page's frame loop that is used. */
export interface Frames {
  /** Calls `painter` in each frame, before those that are added later. */
  add(painter: (now: number) => void): () => void;
  request(): void;
}

export interface LinkOptions {
  clock?: Clock;
  page?: Pick<Document, "visibilityState" | "addEventListener">;
  /** Calls back when what this frame has painted is about to reach the screen. */
  painted?: (callback: () => void) => void;
  /** Calls back in the next frame, with its time. */
  nextFrame?: (callback: (now: number) => void) => void;
  /** When the clock was at 0, in ms since 1970. */
  origin?: number;
}

/** A demand changes this often at most, so that scrolling causes no storm of requests. */
const DEMAND_MS = 100;
const ALIVE_MS = 20_000;
/** A delay above this is lagging, until it is below half of it. */
const LAGGING_MS = 1_000;

/**
 * The page's end of the data: like a {@link "@tickcast/client".TickcastClient}, but socket, decoding and merging are
 * in a worker that the browser's tabs share, and the page says what it shows instead of subscribing to topics.
 *
 * - **The universe comes by itself**: definitions and the day (last price, change, volume) of all instruments, the latter once a
 *   second, and the states of the market and the feed. That is enough to sort, rank, colour and search.
 * - **{@link watch}**: what a view shows, with some margin, has its quote and day as fast as the page draws.
 * - **{@link open}**: the open symbol has its trades and bars, history first.
 * - **`update`** comes at most once a frame, before the painters, with both as `Change`s like the client's own.
 * - A hidden page gets only a trickle, and one merged update when it is shown.
 *
 * Make it with `connectLink` of `connect.ts`.
 */
export class Link extends Emitter<LinkEvents> {
  state: LinkState = { kind: "connecting" };
  /** The server's welcome; null while there is no session. */
  session: Welcome | null = null;
  /** What the server is reached by; null while it is not. */
  transport: TransportName | null = null;
  epoch: Epoch | null = null;
  /** The tape's position and time that the page has reached. */
  position = 0 as Position;
  time = 0 as Micros;
  /** What feeds the server; null while unknown. */
  feed: Feed | null = null;
  counters: Counters = { frames: 0, bytes: 0, changes: 0, missed: 0, reconnects: 0 };
  measures: Measures = {
    ticks: 0,
    delivered: 0,
    conflation: null,
    frames: 0,
    bytes: 0,
    p50: null,
    p99: null,
    topics: 0,
  };

  private readonly known = new Map<number, { instrument: Instrument; quote: Quote; day: Bar }>();
  private readonly views = new Map<string, readonly string[]>();
  private readonly topics = new Map<string, readonly Topic[]>();
  private opened: Opened | null = null;
  private serial = 0;
  private demandedAt = -Infinity;
  private demandPending = false;
  private readonly latencies = new Percentiles();
  private readonly pace = new DisplayPace();
  /** When the updates of a batch that is not drawn yet were due; null when there is none. */
  private undrawn: readonly number[] | null = null;
  private readonly verifying = new Map<
    number,
    { resolve(results: readonly Verification[]): void; reject(error: Error): void }
  >();
  private lastVerification = 0;
  private readonly posting = new Map<number, { resolve(): void; reject(error: Error): void }>();
  private lastPost = 0;

  private readonly clock: Clock;
  private readonly page: NonNullable<LinkOptions["page"]>;
  private readonly painted: NonNullable<LinkOptions["painted"]>;
  private readonly nextFrame: NonNullable<LinkOptions["nextFrame"]>;
  private readonly origin: number;

  constructor(
    private readonly port: Port<ToRelay>,
    private readonly frames: Frames,
    options: LinkOptions = {},
  ) {
    super();
    this.clock = options.clock ?? systemClock;
    this.page = options.page ?? document;
    this.painted = options.painted ?? afterPaint;
    this.nextFrame = options.nextFrame ?? ((callback) => requestAnimationFrame(callback));
    this.origin = options.origin ?? performance.timeOrigin;
    frames.add((now) => this.draw(now));
    this.page.addEventListener("visibilitychange", () => {
      // What waited to be drawn while the page was hidden was not late.
      if (this.undrawn) this.undrawn = [];
      this.demand();
    });
    this.stayAlive();
    this.demand();
  }

  /**
   * Sets which symbols the part `view` of the page shows, or is about to; none if it shows nothing any more.
   * Cheap enough to be called in each frame.
   */
  watch(view: string, symbols: readonly string[]): void {
    const before = this.views.get(view) ?? [];
    if (before.length === symbols.length && before.every((symbol, i) => symbol === symbols[i]))
      return;
    if (symbols.length === 0) this.views.delete(view);
    else this.views.set(view, [...symbols]);
    this.demandSoon();
  }

  /** Opens a symbol in place of the one before: its trades and its bars of `interval` come, past ones first. */
  open(symbol: string, interval: Interval): void {
    if (symbol === "") this.opened = null;
    else if (this.opened?.symbol === symbol) this.opened = { ...this.opened, interval };
    else this.opened = { symbol, interval, serial: ++this.serial };
    this.demand();
  }

  /** Subscribes further topics for the part `view` of the page. */
  follow(view: string, topics: readonly Topic[]): void {
    if (topics.length === 0) this.topics.delete(view);
    else this.topics.set(view, topics);
    this.demandSoon();
  }

  /** Ends a wait between two attempts to connect. */
  reconnectNow(): void {
    this.port.postMessage({ kind: "reconnect" });
  }

  /** Compares the copies of watched topics with the server's images, at most 64 of them. */
  verify(topics: readonly Topic[]): Promise<readonly Verification[]> {
    const id = ++this.lastVerification;
    return new Promise((resolve, reject) => {
      this.verifying.set(id, { resolve, reject });
      this.port.postMessage({ kind: "verify", id, topics });
    });
  }

  /** Posts a message or a state to a channel. */
  post(post: Post): Promise<void> {
    const id = ++this.lastPost;
    return new Promise((resolve, reject) => {
      this.posting.set(id, { resolve, reject });
      this.port.postMessage({ kind: "post", id, post });
    });
  }

  /** Takes a message of the relay. */
  receive(message: ToPage): void {
    switch (message.kind) {
      case "batch":
        this.receiveBatch(message);
        break;
      case "condition":
        this.receiveCondition(message.condition);
        break;
      case "gap":
        this.emit("gap", message.gap);
        break;
      case "error":
        this.emit("error", message.error);
        break;
      case "posted": {
        const { id, failure } = message;
        const waiting = this.posting.get(id);
        this.posting.delete(id);
        if (failure === null) waiting?.resolve();
        else waiting?.reject(new Error(failure));
        break;
      }
      case "verified": {
        const { id, results, failure } = message;
        const waiting = this.verifying.get(id);
        this.verifying.delete(id);
        if (failure === null) waiting?.resolve(results);
        else waiting?.reject(new Error(failure));
        break;
      }
    }
  }

  private receiveBatch(batch: Batch): void {
    if (batch.anew) {
      this.known.clear();
      this.emit("replaced", { epoch: this.epoch });
      // The relay may have assumed that the page is gone, and have dropped it.
      this.demand();
    }
    const { position, time } = batch;
    [this.position, this.time] = [position, time];
    const changes: Change[] = batch.instruments.map((instrument) => this.define(instrument));
    // Entries that were under way when another symbol was opened are not of this one.
    const entries = batch.serial === (this.opened?.serial ?? null);
    for (const change of unpack(batch, (number) => this.known.get(number)))
      if (entries || !isOfOpen(change)) changes.push(change);
    for (const change of batch.others) {
      if (change.kind === "feed") this.feed = change.feed;
      changes.push(change);
    }
    this.undrawn = batch.due;
    this.emit("update", { position, time, changes });
    this.frames.request();
  }

  private define(instrument: Instrument): Change {
    const known = this.known.get(instrument.number);
    if (known) known.instrument = instrument;
    else this.known.set(instrument.number, { instrument, quote: {}, day: {} });
    return { kind: "instrument", instrument };
  }

  /** What the last batch changed is being painted: the next one may come. */
  private draw(now: number): void {
    const due = this.undrawn;
    if (!due) return;
    this.undrawn = null;
    this.nextFrame((next) => {
      this.pace.add(next - now);
      if (this.pace.hz !== this.hz) this.demandSoon();
    });
    this.painted(() => {
      const at = this.clock.now();
      for (const moment of due) this.latencies.add(Math.max(0, this.origin + at - moment), at);
      this.port.postMessage({ kind: "drawn" });
    });
  }

  private receiveCondition(condition: Condition): void {
    const { session, transport, epoch, feed, counters, rates, topics } = condition;
    this.session = session;
    this.transport = transport;
    this.epoch = epoch;
    this.feed = feed;
    this.counters = counters;
    const { ticks, delivered, frames, bytes } = rates;
    const conflation = delivered > 0 ? ticks / delivered : null;
    const [p50, p99] = this.latencies.of([0.5, 0.99], this.clock.now()) ?? [null, null];
    this.measures = {
      ticks,
      delivered,
      conflation,
      frames,
      bytes,
      p50: p50 ?? null,
      p99: p99 ?? null,
      topics,
    };
    this.enter(this.judged(condition));
    this.frames.request();
  }

  private judged({ state, lag_ms }: Condition): LinkState {
    const local = (at: number) => at - this.origin;
    if (state.kind === "stale") return { ...state, heard_at: local(state.heard_at) };
    if (state.kind === "reconnecting" && state.retry_at !== null)
      return { ...state, retry_at: local(state.retry_at) };
    if ((state.kind !== "live" && state.kind !== "lagging") || this.hidden) return state;
    const by_ms = Math.max(lag_ms - 1_000 / this.hz, this.measures.p50 ?? 0);
    if (state.kind === "lagging" && state.by_ms >= by_ms) return state;
    const limit = this.state.kind === "lagging" ? LAGGING_MS / 2 : LAGGING_MS;
    return by_ms > limit ? { kind: "lagging", by_ms } : state;
  }

  private enter(state: LinkState): void {
    const same = JSON.stringify(state) === JSON.stringify(this.state);
    this.state = state;
    if (!same) this.emit("state", state);
  }

  private get hidden(): boolean {
    return this.page.visibilityState === "hidden";
  }

  private hz = 60;

  private demandSoon(): void {
    if (this.demandPending) return;
    const wait = this.demandedAt + DEMAND_MS - this.clock.now();
    if (wait <= 0) return this.demand();
    this.demandPending = true;
    this.clock.after(wait, () => {
      if (this.demandPending) this.demand();
    });
  }

  private demand(): void {
    this.demandPending = false;
    this.demandedAt = this.clock.now();
    this.hz = this.pace.hz;
    const demand: Demand = {
      watched: [...new Set([...this.views.values()].flat())],
      open: this.opened,
      topics: [...new Set([...this.topics.values()].flat())],
      hz: this.hz,
      hidden: this.hidden,
    };
    this.port.postMessage({ kind: "demand", demand });
  }

  private stayAlive(): void {
    this.clock.after(ALIVE_MS, () => {
      this.port.postMessage({ kind: "alive" });
      this.stayAlive();
    });
  }
}

/** Whether a page has it of the open symbol only. */
function isOfOpen({ kind }: Change): boolean {
  return kind === "trades" || kind === "closed_bars" || kind === "bar";
}

/** A message is handled after the frame that is being painted. */
function afterPaint(callback: () => void): void {
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = () => {
    port1.close();
    callback();
  };
  port2.postMessage(null);
}
