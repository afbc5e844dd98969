import { imageChecksum } from "./checksum.js";
import { mayReconnect, reconnectDelay } from "./backoff.js";
import { Conflation } from "./conflation.js";
import { DecodeError, decodeFrame } from "./decode.js";
import { Emitter } from "./emitter.js";
import { Image } from "./image.js";
import {
  SUBPROTOCOL,
  type Answer,
  type Change,
  type Checksum,
  type Cursor,
  type Epoch,
  type Goodbye,
  type Pong,
  type ReplayAction,
  type ReplayState,
  type Request,
  type Stats,
  type Subscribed,
  type Topic,
  type Update,
  type Welcome,
} from "./protocol.js";
import { ReplayControl, RequestError } from "./replay.js";
import type { ServerStats } from "./server-stats.js";
import { Subscriptions } from "./subscriptions.js";

/** How far what {@link TickcastClient.image} holds can be trusted to be the present. */
export type ConnectionState =
  | { readonly kind: "connecting" }
  | { readonly kind: "live" }
  /** Connected, but nothing was heard for two heartbeats. */
  | { readonly kind: "stale"; readonly heard_at: number }
  /** `retry_at` is null while attempt `attempt` is being made. Times are the clock's, in ms. */
  | { readonly kind: "reconnecting"; readonly attempt: number; readonly retry_at: number | null }
  /** Will not come back by itself: closed by the application, or for a reason that retrying does not mend. */
  | { readonly kind: "closed"; readonly code: number; readonly reason: string };

export interface ClientEvents {
  state: ConnectionState;
  update: Update;
  /** Exactly `missed` entries of the ring `topic` were lost to this session. */
  gap: { readonly topic: Topic; readonly missed: number };
  /** A lost session was continued: nothing that the rings still held was lost. */
  resumed: Cursor;
  /**
   * Everything kept was dropped, and comes anew: the server's tape is another one, or goes on at another moment, as after a
   * seek in a replay; or a frame was malformed. Told before the update that brings what is new.
   */
  replaced: { readonly epoch: Epoch };
  /** The state of the market, an instrument or the feed changed. */
  status: Extract<Change, { kind: "trading" | "feed" }>;
  subscribed: Subscribed;
  /** How this session does, each second where {@link TickcastClient.requestStats} asked for it. */
  stats: Stats;
  /** What the server tells of itself, where the topic `stats` is subscribed to. */
  server: ServerStats;
  /** A request, one topic of it, or a frame was wrong; the client carries on by itself. */
  error: { readonly code: string; readonly message: string; readonly topic?: Topic };
  goodbye: Goodbye;
}

export interface SubscribeOptions {
  /** Updates a second at most, for the whole session: 0.1 to 1,000; null lifts the cap. */
  maxHz?: number | null;
  /** Whether quotes carry `ts_event`, for the whole session. */
  times?: boolean;
}

/** The part of the browser's WebSocket that is used; that of the package `ws` fits as well. */
export interface WebSocketLike {
  binaryType: string;
  onmessage: Handler<{ data: unknown }>;
  onclose: Handler<{ code: number; reason: string }>;
  onerror: Handler<object>;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

// As a method it takes the events of either implementation, each of which has more fields than are used.
type Handler<Event> = { handle(event: Event): void }["handle"] | null;

export interface Clock {
  /** Milliseconds, from any start. */
  now(): number;
  /** Calls `callback` once after `ms`, unless the returned function is called before. */
  after(ms: number, callback: () => void): () => void;
}

export interface ClientOptions {
  /** Default: the global one, which browsers, workers and Node since 22 have. */
  WebSocket?: new (url: string, protocols: string[]) => WebSocketLike;
  /** Default: `performance.now` and `setTimeout`. */
  clock?: Clock;
  /** In [0, 1). Default: `Math.random`. */
  random?: () => number;
}

export interface UpdatesOptions {
  /** Ends the loop. */
  signal?: AbortSignal;
  /** Entries of a ring that wait at most; by default 1,024. */
  entries?: number;
}

/** How the copy of one topic compares with the server's image. */
export interface Verification {
  readonly topic: Topic;
  /** Null where the server has no checksum for it: `reason` says why. */
  readonly matches: boolean | null;
  readonly reason?: string;
}

/** An answer to {@link TickcastClient.ping}; times of the client are its clock's, in ms. */
export interface Ping extends Pong {
  readonly sent_at: number;
  readonly received_at: number;
}

/** Since the client was made. */
export interface Counters {
  frames: number;
  bytes: number;
  /** Things that updates said: changed images and ring entries. */
  changes: number;
  missed: number;
  reconnects: number;
}

interface PromiseResolvers<T> {
  resolve(value: T): void;
  reject(error: Error): void;
}

const CONNECT_TIMEOUT_MS = 10_000;
const TOPICS_LIMIT = 1_024;
/** In one request. Symbols have at most 64 bytes, so this stays well below the limit of a message. */
const TOPICS_PER_REQUEST = 256;
const MIN_HZ = 0.1;
const MAX_HZ = 1_000;
/** Heartbeats of silence after which the data is called stale, and after which the connection is given up. */
const STALE_HEARTBEATS = 2;
const DEAD_HEARTBEATS = 3;

/**
 * A session with a server that survives lost connections: it comes back by itself, takes up where it was,
 * and says so truthfully by `state` events. Create, listen with {@link on}, {@link connect}.
 */
export class TickcastClient extends Emitter<ClientEvents> {
  readonly image = new Image();
  readonly counters: Counters = { frames: 0, bytes: 0, changes: 0, missed: 0, reconnects: 0 };
  /** Plays, pauses and winds what the server plays. */
  readonly replay = new ReplayControl((action) => this.control(action));

  private currentState: ConnectionState = {
    kind: "closed",
    code: 1000,
    reason: "not connected yet",
  };
  private readonly subscriptions = new Subscriptions();
  private sessionOptions: SubscribeOptions = {};
  private socket: WebSocketLike | null = null;
  private welcome: Welcome | null = null;
  private goodbye: Goodbye | null = null;
  /** The last moment of which everything has come. */
  private cursor: Cursor | null = null;
  /** Whether something of the image is from an earlier session, and goes on only if the server resumes it. */
  private carried = false;
  /** What requests to subscribe wait for: until it is answered a moved position does not cover it. */
  private readonly unanswered = new Map<unknown, readonly Topic[]>();
  private readonly verifying = new Map<unknown, PromiseResolvers<Verification[]>>();
  private readonly pinging = new Map<unknown, PromiseResolvers<Ping> & { sent_at: number }>();
  private readonly controlling = new Map<unknown, PromiseResolvers<ReplayState>>();
  private wantsStats = false;
  private lastRequest = 0;
  private attempt = 0;
  private welcomedAt = 0;
  private heardAt = 0;
  private cancelTimer = () => {};

  private readonly WebSocket: NonNullable<ClientOptions["WebSocket"]>;
  private readonly clock: Clock;
  private readonly random: () => number;

  /**
   * @param url of the endpoint, as in `wss://example.com/v1/ws`
   * @throws {TypeError} where there is no WebSocket and none was given
   */
  constructor(
    readonly url: string,
    options: ClientOptions = {},
  ) {
    super();
    const WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (!WebSocket)
      throw new TypeError(
        "there is no WebSocket here: pass one, as in new TickcastClient(url, { WebSocket }) with that of the package ws",
      );
    this.WebSocket = WebSocket;
    this.clock = options.clock ?? systemClock;
    this.random = options.random ?? Math.random;
  }

  get state(): ConnectionState {
    return this.currentState;
  }

  /** What the server said of itself; null while there is no session. */
  get session(): Welcome | null {
    return this.welcome;
  }

  /** Connects, and keeps connected until {@link close}. */
  connect(): void {
    if (this.currentState.kind !== "closed") return;
    this.attempt = 0;
    this.open({ kind: "connecting" });
  }

  /** Ends a wait between two attempts. */
  reconnectNow(): void {
    if (this.currentState.kind !== "reconnecting" || this.currentState.retry_at === null) return;
    this.cancelTimer();
    this.retry();
  }

  close(): void {
    this.dropSocket();
    this.enter({ kind: "closed", code: 1000, reason: "closed by the application" });
  }

  /**
   * Adds topics, now and after every reconnect.
   *
   * @throws {RangeError} beyond the 1,024 topics of a session, or where `maxHz` is out of its range: nothing is subscribed then.
   */
  subscribe(topics: readonly Topic[], options: SubscribeOptions = {}): void {
    checkHz(options.maxHz);
    const added = topics.filter((topic) => !this.subscriptions.wanted.has(topic));
    if (this.subscriptions.wanted.size + added.length > TOPICS_LIMIT)
      throw new RangeError(`more than ${TOPICS_LIMIT} topics in one session`);
    for (const topic of added) this.subscriptions.wanted.add(topic);
    this.sessionOptions = { ...this.sessionOptions, ...options };
    // In a running session a snapshot is asked for, even of a topic whose end is still on its way.
    if (this.welcome && topics.length > 0)
      this.requestTopics([], added.length > 0 ? added : topics);
  }

  unsubscribe(topics: readonly Topic[]): void {
    for (const topic of topics) this.subscriptions.wanted.delete(topic);
    if (topics.length === 0) return;
    if (this.welcome) this.request({ op: "unsubscribe", topics });
    else this.end(topics);
  }

  /** Updates a second at most, as asked for; null where there is no cap. */
  get maxHz(): number | null {
    return this.sessionOptions.maxHz ?? null;
  }

  /**
   * Caps the updates of the whole session, or lifts the cap with null. Nothing is sent anew for that.
   *
   * @throws {RangeError} where it is not from 0.1 to 1,000
   */
  setMaxHz(maxHz: number | null): void {
    checkHz(maxHz);
    if (maxHz === this.maxHz) return;
    this.sessionOptions = { ...this.sessionOptions, maxHz };
    // A cap comes with a topic: one that was asked for already begins nothing.
    const [topic] = this.subscriptions.wanted;
    if (this.welcome && topic !== undefined) this.requestTopics([], [topic]);
  }

  /** Asks for a `stats` event once a second, in this session and those after it. */
  requestStats(enabled: boolean): void {
    this.wantsStats = enabled;
    if (this.welcome) this.request({ op: "stats", enabled });
  }

  /**
   * Asks the server for its time.
   *
   * @returns rejects where there is no session, or it ends
   */
  ping(): Promise<Ping> {
    if (!this.welcome) return Promise.reject(new Error("there is no session to ping in"));
    const sent_at = this.clock.now();
    const id = this.request({ op: "ping" });
    return new Promise((resolve, reject) => this.pinging.set(id, { resolve, reject, sent_at }));
  }

  /**
   * The updates from now on, for `for await`. One who takes them slowly gets what has come together meanwhile as one update:
   * the newest values, and every entry of rings, the oldest beyond `entries` counted as missed. Ends when the client is closed.
   *
   * @throws {Error} from the loop where the connection has ended for a reason that coming back does not mend
   */
  updates({ signal, entries }: UpdatesOptions = {}): AsyncIterableIterator<Update> {
    const waiting = new Conflation(entries);
    let closed: ConnectionState | null = null;
    let wake = () => {};
    const abort = () => wake();
    signal?.addEventListener("abort", abort);
    const stops = [
      this.on("update", (update) => {
        waiting.add(update);
        wake();
      }),
      this.on("replaced", () => waiting.clear()),
      this.on("state", (state) => {
        closed = state.kind === "closed" ? state : null;
        wake();
      }),
    ];
    const stop = () => {
      for (const stop of stops) stop();
      signal?.removeEventListener("abort", abort);
    };
    return iterate(stop, async () => {
      for (;;) {
        if (signal?.aborted) return null;
        const update = waiting.take();
        if (update) return update;
        const end = closed as Extract<ConnectionState, { kind: "closed" }> | null;
        if (end?.code === 1000) return null;
        if (end) throw new Error(`closed with ${end.code}: ${end.reason}`);
        await new Promise<void>((resolve) => (wake = resolve));
      }
    });
  }

  /**
   * Compares what is kept of image topics with the server's, by checksum at one and the same position. A copy that
   * does not match is mended by unsubscribing and subscribing its topic.
   *
   * @param topics of single instruments, at most 64
   * @returns rejects where there is no session, it ends, or the server refuses
   */
  verify(topics: readonly Topic[]): Promise<Verification[]> {
    if (!this.welcome) return Promise.reject(new Error("there is no session to verify in"));
    const id = this.request({ op: "checksum", topics });
    return new Promise((resolve, reject) => this.verifying.set(id, { resolve, reject }));
  }

  private control(action: ReplayAction): Promise<ReplayState> {
    if (!this.welcome)
      return Promise.reject(new Error("there is no session to control a replay in"));
    const id = this.request({ op: "replay", ...action });
    return new Promise((resolve, reject) => this.controlling.set(id, { resolve, reject }));
  }

  private open(state: ConnectionState): void {
    const socket = new this.WebSocket(this.url, [SUBPROTOCOL]);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.receive(data);
    socket.onclose = ({ code, reason }) => this.lost(code, reason);
    socket.onerror = () => {}; // a close event follows, and says more
    this.enter(state);
    this.cancelTimer = this.clock.after(CONNECT_TIMEOUT_MS, () =>
      this.lost(1006, "no answer to the handshake"),
    );
  }

  private receive(data: unknown): void {
    this.heardAt = this.clock.now();
    try {
      if (!(data instanceof ArrayBuffer)) throw new DecodeError("a text frame on a binary session");
      this.counters.frames++;
      this.counters.bytes += data.byteLength;
      const message = decodeFrame(new Uint8Array(data));
      if (message.type === "update") {
        const update = this.image.apply(message, (kind, of) =>
          this.subscriptions.isWhole(kind, of),
        );
        this.receiveUpdate(update);
      } else if (message.type !== "unknown") {
        this.receiveAnswer(message);
      }
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      // What is kept can no longer be trusted: begin anew with a snapshot.
      this.emit("error", { code: "malformed", message: error.message });
      if (this.image.epoch !== null) this.replace(this.image.epoch);
      this.lost(1006, error.message);
    }
  }

  private receiveUpdate(update: Update): void {
    if (this.welcome && this.unanswered.size === 0) {
      // Behind the last part of a flush nothing is owed.
      if (update.whole) {
        this.subscriptions.caughtUp();
        this.cursor = { epoch: this.welcome.epoch, position: update.position };
      }
      this.enterLive();
    }
    this.counters.changes += update.changes.length;
    if (update.changes.some(({ kind }) => kind === "reset")) {
      this.carried = false;
      this.emit("replaced", { epoch: this.image.epoch as Epoch });
    }
    this.emit("update", update);
    for (const change of update.changes) this.announce(change);
  }

  private announce(change: Change): void {
    if (change.kind === "trading" || change.kind === "feed") this.emit("status", change);
    if (change.kind === "stats") this.emit("server", change.stats);
    if ((change.kind !== "trades" && change.kind !== "closed_bars") || change.missed === 0) return;
    const kind = change.kind === "trades" ? "trades" : `bars.${change.interval}`;
    this.counters.missed += change.missed;
    this.emit("gap", { topic: `${kind}:${change.instrument.symbol}`, missed: change.missed });
  }

  private receiveAnswer(answer: Answer): void {
    switch (answer.type) {
      case "welcome":
        this.begin(answer);
        break;
      case "subscribed":
        this.unanswered.delete(answer.id);
        this.receiveSubscribed(answer);
        break;
      case "unsubscribed":
        this.end(answer.topics.map(({ topic }) => topic));
        break;
      case "error":
        this.unanswered.delete(answer.id);
        for (const waiting of [this.verifying, this.pinging, this.controlling]) {
          waiting.get(answer.id)?.reject(new RequestError(answer.code, answer.message));
          waiting.delete(answer.id);
        }
        this.emit("error", answer);
        break;
      case "goodbye":
        this.goodbye = answer;
        this.emit("goodbye", answer);
        break;
      case "stats":
        this.emit("stats", answer);
        break;
      case "checksum":
        this.verifying.get(answer.id)?.resolve(this.compare(answer));
        this.verifying.delete(answer.id);
        break;
      case "replay":
        this.controlling.get(answer.id)?.resolve(answer);
        this.controlling.delete(answer.id);
        break;
      case "pong": {
        const { resolve, sent_at } = this.pinging.get(answer.id) ?? {};
        this.pinging.delete(answer.id);
        if (resolve && sent_at !== undefined)
          resolve({ ...answer, sent_at, received_at: this.heardAt });
        break;
      }
    }
    if (this.currentState.kind === "stale") this.enterLive();
  }

  private begin(welcome: Welcome): void {
    this.cancelTimer();
    this.welcome = welcome;
    this.welcomedAt = this.heardAt;
    const goesOn =
      this.image.epoch === welcome.epoch && this.image.position >= (welcome.begins ?? 0);
    if (this.image.epoch !== null && !goesOn) this.replace(welcome.epoch);
    this.carried = goesOn;
    this.image.begin(welcome);
    const { resumable, fresh } = this.subscriptions.split();
    this.requestTopics(resumable, fresh);
    if (this.wantsStats) this.request({ op: "stats", enabled: true });
    if (this.unanswered.size === 0) this.enterLive();
    this.watch(STALE_HEARTBEATS);
  }

  /** Of `resumable` topics only what changed since the cursor comes; `fresh` ones begin with a snapshot. */
  private requestTopics(resumable: readonly Topic[], fresh: readonly Topic[]): void {
    const { maxHz, times } = this.sessionOptions;
    const session = {
      ...(maxHz === undefined ? {} : { max_hz: maxHz }),
      ...(times === undefined ? {} : { times }),
    };
    if (this.cursor) this.requestSubscribe(resumable, { since: this.cursor, ...session });
    this.requestSubscribe(fresh, session);
  }

  private requestSubscribe(
    topics: readonly Topic[],
    fields: Omit<Extract<Request, { op: "subscribe" }>, "op" | "id" | "topics">,
  ): void {
    for (let from = 0; from < topics.length; from += TOPICS_PER_REQUEST) {
      const part = topics.slice(from, from + TOPICS_PER_REQUEST);
      this.unanswered.set(this.request({ op: "subscribe", topics: part, ...fields }), part);
    }
  }

  private request(request: Request): number {
    const id = ++this.lastRequest;
    // As text: the server reads JSON on a MessagePack session, and the page needs no encoder.
    this.socket?.send(JSON.stringify({ ...request, id }));
    return id;
  }

  private receiveSubscribed(answer: Subscribed): void {
    // Another request may have been told so before, and what is kept now is of this session.
    if (answer.resumed === false && this.carried) this.replace(answer.epoch);
    else if (answer.resumed && this.cursor) this.emit("resumed", this.cursor);
    for (const { topic, error } of answer.topics) {
      if (!error) {
        this.subscriptions.accepted(topic);
        continue;
      }
      // One that was asked for once more since is wanted still: the last answer decides.
      const asked = [...this.unanswered.values()].some((topics) => topics.includes(topic));
      if (!asked) this.subscriptions.wanted.delete(topic);
      this.emit("error", { code: error.code, message: error.message, topic });
    }
    this.emit("subscribed", answer);
  }

  /** The answer follows the update that brought the image to its position: they speak of the same moment. */
  private compare({ topics }: Checksum): Verification[] {
    return topics.map(({ topic, checksum, error }) =>
      checksum === undefined
        ? { topic, matches: null, reason: error?.message ?? "no checksum" }
        : { topic, matches: imageChecksum(this.image, topic) === checksum },
    );
  }

  private end(topics: readonly Topic[]): void {
    for (const topic of topics) this.subscriptions.ended(topic);
    this.image.forget((kind, instrument) => this.subscriptions.covers(kind, instrument));
  }

  private replace(epoch: Epoch): void {
    this.cursor = null;
    this.carried = false;
    this.image.reset();
    this.subscriptions.imageDropped();
    this.emit("replaced", { epoch });
  }

  /** Wakes up when `heartbeats` of silence are over, without a timer to set for each frame. */
  private watch(heartbeats: number): void {
    const heartbeat = this.welcome?.heartbeat_ms ?? 0;
    const due = this.heardAt + heartbeats * heartbeat;
    this.cancelTimer = this.clock.after(Math.max(0, due - this.clock.now()), () => {
      const silence = this.clock.now() - this.heardAt;
      if (silence >= DEAD_HEARTBEATS * heartbeat) {
        this.lost(1006, "the server fell silent");
      } else if (silence >= STALE_HEARTBEATS * heartbeat) {
        if (this.currentState.kind === "live")
          this.enter({ kind: "stale", heard_at: this.heardAt });
        this.watch(DEAD_HEARTBEATS);
      } else {
        this.watch(STALE_HEARTBEATS);
      }
    });
  }

  private lost(code: number, reason: string): void {
    const lasted =
      this.welcome !== null && this.clock.now() - this.welcomedAt >= this.welcome.heartbeat_ms;
    const goodbye = this.goodbye;
    this.dropSocket();
    if (!mayReconnect(code)) {
      this.enter({ kind: "closed", code, reason });
      return;
    }
    // A server that accepts and drops at once is not hammered: only a session that lasted starts over.
    this.attempt = lasted ? 1 : this.attempt + 1;
    const delay = reconnectDelay(this.attempt, this.random(), code, goodbye);
    this.enter({
      kind: "reconnecting",
      attempt: this.attempt,
      retry_at: this.clock.now() + delay,
    });
    this.cancelTimer = this.clock.after(delay, () => this.retry());
  }

  private retry(): void {
    this.counters.reconnects++;
    this.open({ kind: "reconnecting", attempt: this.attempt, retry_at: null });
  }

  private dropSocket(): void {
    this.cancelTimer();
    this.welcome = null;
    this.goodbye = null;
    this.unanswered.clear();
    for (const waiting of [this.verifying, this.pinging, this.controlling]) {
      for (const { reject } of waiting.values()) reject(new Error("the session ended"));
      waiting.clear();
    }
    // What is left of these would be taken for whole when they are wanted again.
    const givenUp = this.subscriptions.givenUp();
    if (givenUp.length > 0) this.end(givenUp);
    this.subscriptions.sessionEnded();
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close();
  }

  private enterLive(): void {
    if (this.currentState.kind !== "live") this.enter({ kind: "live" });
  }

  private enter(state: ConnectionState): void {
    this.currentState = state;
    this.emit("state", state);
  }
}

function checkHz(maxHz: number | null | undefined): void {
  if (maxHz == null || (maxHz >= MIN_HZ && maxHz <= MAX_HZ)) return;
  throw new RangeError(`maxHz ${maxHz} is not from ${MIN_HZ} to ${MAX_HZ}`);
}

/** @param next null ends it */
function iterate<T>(stop: () => void, next: () => Promise<T | null>): AsyncIterableIterator<T> {
  let done = false;
  const end = (): IteratorResult<T> => {
    done = true;
    stop();
    return { done: true, value: undefined };
  };
  return {
    async next() {
      if (done) return end();
      try {
        const value = await next();
        return value === null ? end() : { done: false, value };
      } catch (error) {
        end();
        throw error;
      }
    },
    return: () => Promise.resolve(end()),
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, callback) {
    // A longer timer would fire at once.
    const timer = setTimeout(callback, Math.min(ms, 2 ** 31 - 1));
    return () => clearTimeout(timer);
  },
};
