/**
 * The client's side of a subscription, without its socket: events and the time go in, actions come out.
 * The twin of Rust's `src/client/session.rs`, in the same order, but for further sessions on its connection: the state that
 * each session has for itself is a {@link "./subscriber".Subscriber}.
 *
 * Pure: no clock, timer, socket or promise. Invariants: each `connect` is followed by a `disconnect` before the next;
 * `send` comes only between the two, after a welcome; each question ends in one `answered` or `failed`.
 *
 *     idle ─connect→ connecting ─connected→ greeting ─welcome→ live
 *      ↑                 ↑  └──────── lost ─────┴───────────────┤
 *      │                 └─────────── waiting ←────────────────-┤
 *      └── close, or a code that forbids to come back ──────────┘      asleep: the page is suspended
 */

import type { ConnectionState, Counters, Verification } from "./api.js";
import { isAskedFor, mayReconnect, reasonOf, reconnectDelay } from "./backoff.js";
import { imageChecksum } from "./checksum.js";
import { DecodeError, decodeFrame, type WireUpdate } from "./decode.js";
import { Explanation, type Why } from "./explanation.js";
import type { Image } from "./image.js";
import type { Command, Happening, Input, Moment, Output, Question, Sink } from "./io.js";
import { LagMeter } from "./lag.js";
import { Liveness, type Finding } from "./liveness.js";
import { checkHz } from "./options.js";
import type {
  Answer,
  Checksum,
  Goodbye,
  Pong,
  RequestId,
  ServerError,
  Welcome,
} from "./protocol.js";
import { Questions } from "./questions.js";
import { RequestError } from "./request-error.js";
import { RequestRate } from "./requests.js";
import { FIRST_SESSION, splitFrame } from "./session-number.js";
import { Subscriber } from "./subscriber.js";
import { canonical } from "./topic.js";

/** A connected server must have sent its welcome within this. */
const GREETING_MS = 10_000;
const TOPICS_LIMIT = 1_024;

type Link =
  /** Not connected, and not about to be. */
  | { readonly kind: "idle" }
  | { readonly kind: "waiting"; readonly until: number; readonly why: Why }
  | { readonly kind: "connecting"; readonly until: number; readonly heard: boolean }
  /** Connected, and not welcomed yet. */
  | { readonly kind: "greeting"; readonly until: number; readonly heard: boolean }
  | { readonly kind: "live"; readonly since: number; readonly welcome: Welcome }
  /** The page is suspended. */
  | { readonly kind: "asleep" };

interface How {
  /** The reason is unknown. */
  readonly explain?: boolean;
  /** An `error` has reported it. */
  readonly told?: boolean;
  /** The server is fine, so there is no wait. */
  readonly atOnce?: boolean;
}

export interface SessionOptions {
  /** In [0, 1): for the waits between attempts. */
  readonly random: () => number;
  /** Whether `explain` is of use: the transport does not say why opening failed. */
  readonly canExplain: boolean;
}

export class Session {
  readonly counters: Counters = { frames: 0, bytes: 0, changes: 0, missed: 0, reconnects: 0 };

  private link: Link = { kind: "idle" };
  private state: ConnectionState = { kind: "closed", code: 1000, reason: "not connected yet" };
  /** Counts connections made and dropped: after an event was passed out, it shows whether a handler changed them. */
  private generation = 0;
  private readonly rate = new RequestRate();
  private readonly first: Subscriber;
  /** All that share the connection, including the first, by number. */
  private readonly subscribers = new Map<number, Subscriber>();
  private readonly liveness = new Liveness();
  private goodbye: Goodbye | null = null;
  private readonly questions = new Questions();
  private lastRequest = 0;
  private attempt = 0;
  /** The server asked for the wait. */
  private patient = false;
  private readonly lag = new LagMeter();
  private readonly explanation = new Explanation();

  /** Of the input that is being handled. */
  private at: Moment = { now: 0, wall: 0 };
  private out: Sink = [] as Output[];

  /** Does nothing before the command to connect. */
  constructor(private readonly how: SessionOptions) {
    this.first = this.add(FIRST_SESSION);
  }

  get image(): Image {
    return this.first.image;
  }

  /** The server's welcome; null while there is no session. */
  get welcome(): Welcome | null {
    return this.link.kind === "live" ? this.link.welcome : null;
  }

  /** Whether a number is that of one of its sessions, or of one that the server has not closed yet. */
  has(session: number): boolean {
    return this.subscribers.has(session);
  }

  /** @throws {RangeError} if it was never opened, or has ended */
  subscriber(session: number): Subscriber {
    const subscriber = this.subscribers.get(session);
    if (subscriber && !subscriber.isClosing) return subscriber;
    throw new RangeError("the session is ended");
  }

  private add(session: number): Subscriber {
    const line = {
      counters: this.counters,
      rate: this.rate,
      welcome: () => this.welcome,
      generation: () => this.generation,
      nextId: () => ++this.lastRequest,
      push: (output: Output) => void this.out.push(output),
      updated: () => this.settle(),
    };
    const subscriber = new Subscriber(session, line);
    this.subscribers.set(session, subscriber);
    return subscriber;
  }

  /** When to pass in the next tick; Infinity for never. */
  get deadline(): number {
    const link = "until" in this.link ? this.link.until : Infinity;
    return Math.min(link, this.liveness.due, this.rate.due);
  }

  get isOver(): boolean {
    return this.link.kind === "idle";
  }

  /**
   * Takes an input and pushes what follows from it.
   *
   * @throws {RangeError} if a command is out of range: then nothing follows
   */
  handle(at: Moment, input: Input, out: Sink): void {
    this.at = at;
    this.out = out;
    switch (input.kind) {
      case "connected":
        if (this.link.kind === "connecting") this.link = { ...this.link, kind: "greeting" };
        break;
      case "text":
        this.receive(() => {
          throw new DecodeError("a text frame on a binary session");
        });
        break;
      case "binary":
        this.receive(() => this.frame(input.bytes));
        break;
      case "closed":
        if (this.isConnected) {
          const { atOnce = false } = input;
          const explain = "heard" in this.link && !this.link.heard && this.how.canExplain;
          this.lost(input.code, input.reason, { explain, atOnce, told: atOnce });
        }
        break;
      case "command":
        this.command(input.command);
        break;
      case "page":
        this.page(input.change);
        break;
      case "turn":
        for (const { requests } of this.subscribers.values()) requests.turned();
        this.sendDue();
        break;
      case "delivered":
        this.lag.handlers_ms = input.behind_ms;
        this.judge();
        break;
      case "explained":
        this.explained(input.reason);
        break;
      case "tick":
        this.lag.handlers_ms = input.behind_ms;
        this.tick();
        break;
      default:
        input satisfies never;
    }
    let turn = false;
    for (const { requests } of this.subscribers.values()) turn = requests.announceTurn() || turn;
    if (turn) this.out.push({ kind: "turn" });
  }

  private get isConnected(): boolean {
    const { kind } = this.link;
    return kind === "connecting" || kind === "greeting" || kind === "live";
  }

  private tick(): void {
    const { link } = this;
    if ("until" in link && this.at.now >= link.until) {
      if (link.kind === "waiting") return this.retry(link.why);
      const greeting = link.kind === "greeting";
      const reason = greeting ? "the server did not say welcome" : "no answer to the handshake";
      return this.lost(1006, reason, { explain: !greeting && this.how.canExplain });
    }
    this.act(this.liveness.tick(this.at));
    this.judge();
    if (this.at.now >= this.rate.due) this.sendDue();
  }

  private act(findings: Finding[]): void {
    for (const finding of findings)
      switch (finding.kind) {
        case "stale": {
          const { kind } = this.state;
          if (kind === "live" || kind === "lagging") this.enter(finding);
          break;
        }
        case "dead":
          this.lost(1006, finding.reason, { atOnce: finding.atOnce });
          break;
        case "ask":
          this.first.request({ op: "ping" });
          break;
        default:
          finding satisfies never;
      }
  }

  private command(command: Command): void {
    switch (command.kind) {
      case "connect":
        if (!this.isOver) return;
        this.attempt = 0;
        return this.open({ kind: "connecting" });
      case "reconnect":
        if (this.link.kind === "waiting") this.retry(this.link.why);
        return;
      case "close":
        for (const subscriber of this.subscribers.values()) subscriber.push({ kind: "discard" });
        return this.end({ kind: "closed", code: 1000, reason: "closed by the application" });
      case "open": {
        checkHz(command.options.maxHz);
        const subscriber = this.add(command.session);
        subscriber.options.change(command.options);
        if (this.welcome) subscriber.begin(this.welcome);
        return;
      }
      case "end":
        return this.endOf(this.subscriber(command.session));
      case "subscribe":
        return this.subscribe(command);
      case "unsubscribe":
        return this.of(command).unsubscribe(command.topics.map(canonical));
      case "cap":
        return this.of(command).cap(command.maxHz);
      case "stats":
        return this.of(command).stats(command.enabled);
      case "ask":
        return this.ask(this.of(command), command.ticket, command.question);
      default:
        command satisfies never;
    }
  }

  private of({ session = FIRST_SESSION }: { session?: number }): Subscriber {
    return this.subscriber(session);
  }

  private subscribe(command: Extract<Command, { kind: "subscribe" }>): void {
    checkHz(command.options.maxHz);
    const of = this.of(command);
    const topics = command.topics.map(canonical);
    let count = topics.filter((topic) => !of.subscriptions.wanted.has(topic)).length;
    for (const { subscriptions } of this.subscribers.values()) count += subscriptions.wanted.size;
    if (count > TOPICS_LIMIT)
      throw new RangeError(`more than ${TOPICS_LIMIT} topics in the sessions of a connection`);
    of.subscribe(topics, command.options);
  }

  private endOf(subscriber: Subscriber): void {
    if (subscriber === this.first) throw new RangeError("the first session ends with its client");
    subscriber.push({ kind: "discard" });
    subscriber.subscriptions.wanted.clear();
    if (this.welcome) {
      subscriber.isClosing = true;
      subscriber.request({ op: "close" });
    } else this.subscribers.delete(subscriber.number);
  }

  private ask(of: Subscriber, ticket: number, question: Question): void {
    if (!this.welcome) {
      const error = new Error(`there is no session to ${PURPOSES[question.op]} in`);
      this.out.push({ kind: "failed", ticket, error });
      return;
    }
    const id = of.request(question);
    this.questions.add(id, { ticket, op: question.op, sent_at: this.at.now });
  }

  /** Sends what is queued, as far as the rate allows. */
  private sendDue(): void {
    for (const subscriber of this.subscribers.values())
      for (;;) {
        const next = subscriber.requests.next(this.at.now);
        if (!next) break;
        const { request, id } = subscriber.worded(next);
        this.questions.sent(id, this.at.now);
        const { number } = subscriber;
        const session =
          number !== FIRST_SESSION && isOfSession(request.op) ? { session: number } : {};
        // As text: the server reads JSON on a MessagePack session, and the page needs no encoder.
        this.out.push({ kind: "send", text: JSON.stringify({ ...request, id, ...session }) });
      }
  }

  private receive(read: () => void): void {
    if (!this.isConnected) return;
    const { generation } = this;
    if ("heard" in this.link) this.link = { ...this.link, heard: true };
    const slept = this.liveness.hear(this.at);
    try {
      read();
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      this.broken(generation, error);
    }
    if (slept) this.act(this.liveness.check(this.at));
  }

  private frame(bytes: Uint8Array): void {
    const { generation } = this;
    this.counters.frames++;
    this.counters.bytes += bytes.byteLength;
    const { session, message: said } = splitFrame(bytes);
    const message = decodeFrame(said);
    const of = this.subscribers.get(session);
    if (!of) throw new DecodeError(`session ${session} was never opened`);
    if (of.isClosing && message.type !== "closed" && message.type !== "error") return;
    if (isTurningPoint(message)) {
      this.flush(isOfSession(message.type) ? [of] : this.subscribers.values());
      if (this.generation !== generation) return; // a handler has closed it
    }
    if (message.type === "update") of.update(message);
    else if (message.type !== "unknown") this.answer(of, message);
  }

  /** Everything requested in any session is under way or here. */
  private settle(): void {
    if (this.welcome && this.isAnswered) this.enterLive();
  }

  private get isAnswered(): boolean {
    return [...this.subscribers.values()].every((subscriber) => subscriber.isAnswered);
  }

  private flush(subscribers: Iterable<Subscriber> = this.subscribers.values()): void {
    for (const subscriber of subscribers) subscriber.push({ kind: "flush" });
  }

  private answer(of: Subscriber, answer: Answer): void {
    switch (answer.type) {
      case "welcome":
        this.welcomed(answer);
        break;
      case "opened":
        of.opened(answer);
        break;
      case "closed":
        this.subscribers.delete(of.number);
        break;
      case "reset":
        for (const subscriber of this.subscribers.values()) subscriber.wound(answer.begins);
        for (const subscriber of this.subscribers.values()) subscriber.tellWound();
        break;
      case "subscribed":
        of.subscribed(answer);
        break;
      case "unsubscribed":
        of.givenUp(answer.topics.map(({ topic }) => topic));
        break;
      case "checksum":
        this.answered(answer.id, "checksum", () => compare(of, answer));
        break;
      case "pong":
        this.answered(answer.id, "ping", (sent_at) => this.timed(answer, sent_at));
        break;
      case "replay":
        this.answered(answer.id, "replay", () => answer);
        break;
      case "published":
        this.answered(answer.id, "publish", () => answer);
        break;
      case "error":
        this.refused(of, answer);
        break;
      case "fault":
        break;
      case "stats":
        of.emit("stats", answer);
        break;
      case "lag":
        this.lag.server_ms = answer.lag_ms;
        this.judge();
        break;
      case "goodbye":
        this.goodbye = answer;
        this.emit("goodbye", answer);
        break;
      default:
        answer satisfies never;
    }
    if (this.state.kind === "stale") this.enterLive();
  }

  private answered(
    id: RequestId | undefined,
    op: Question["op"],
    answer: (sent_at: number) => Extract<Output, { kind: "answered" }>["answer"],
  ): void {
    const question = this.questions.take(id, op);
    if (!question) return;
    const { ticket, sent_at } = question;
    this.out.push({ kind: "answered", ticket, answer: answer(sent_at) });
  }

  private timed(pong: Pong, sent_at: number) {
    return { ...pong, sent_at, received_at: this.liveness.heardAt };
  }

  /** A request that cannot be read, or names a session that is not open, is refused in the first session. */
  private refused(of: Subscriber, answer: ServerError): void {
    const whose = [...this.subscribers.values()].find((other) => other.hasAsked(answer.id)) ?? of;
    whose.refused(answer.id);
    const question = this.questions.take(answer.id);
    const error = new RequestError(answer.code, answer.message);
    if (question) this.out.push({ kind: "failed", ticket: question.ticket, error });
    whose.emit("error", answer);
  }

  private welcomed(welcome: Welcome): void {
    if (this.explanation.forget()) this.out.push({ kind: "explain_no_more" });
    const link: Link = { kind: "live", since: this.liveness.heardAt, welcome };
    this.link = link;
    const { generation } = this;
    this.rate.begin(this.at.now, welcome.limits?.requests_per_second);
    for (const subscriber of this.subscribers.values()) {
      subscriber.begin(welcome);
      if (this.generation !== generation) return; // a listener has closed it
    }
    this.sendDue();
    this.liveness.begin(this.at, welcome.heartbeat_ms);
    if (this.isAnswered) this.enterLive();
  }

  /** A malformed message, so nothing that is kept is sure: begin again with a snapshot. */
  private broken(generation: number, { message }: DecodeError): void {
    this.emit("error", { code: "malformed", message });
    if (this.generation !== generation) return;
    this.flush();
    for (const subscriber of this.subscribers.values())
      if (subscriber.image.epoch !== null) subscriber.replace(subscriber.image.epoch);
    this.lost(1006, message, { told: true });
  }

  /** Whether what handlers receive is the present. */
  private judge(): void {
    const { kind } = this.state;
    if (kind !== "live" && kind !== "lagging") return;
    const by_ms = this.lag.judge(this.at.now, kind === "lagging");
    if (by_ms !== null) this.enter(by_ms === 0 ? { kind: "live" } : { kind: "lagging", by_ms });
  }

  private lost(code: number, reason: string, how: How): void {
    const { generation } = this;
    this.flush();
    if (!this.isConnected || this.generation !== generation) return; // a handler has closed it
    const { link, goodbye } = this;
    const lasted = link.kind === "live" && this.at.now - link.since >= link.welcome.heartbeat_ms;
    const isGeneric = reason === reasonOf(code, "");
    const better = how.explain ? this.explanation.found : isGeneric && goodbye?.reason;
    const why = { code, reason: better || reason };
    this.disconnect();
    if (!mayReconnect(code)) {
      this.end({ kind: "closed", ...why });
      if (!how.told) this.tellDisconnected(why);
      return;
    }
    // Do not hammer a server that accepts and drops at once: only a session that lasted resets the count.
    this.attempt = lasted || how.atOnce ? 1 : this.attempt + 1;
    const { attempt } = this;
    this.patient = goodbye !== null || isAskedFor(code);
    const explain = how.explain && this.explanation.search(this.at.now, why);
    if (explain) this.out.push({ kind: "explain" });
    if (how.atOnce) {
      this.retry(why);
    } else {
      // The goodbye of a session applies to the next attempt, however many there were before.
      const delay = reconnectDelay(goodbye ? 1 : attempt, this.how.random(), code, goodbye);
      const until = this.at.now + delay;
      this.link = { kind: "waiting", until, why };
      this.enter({ kind: "reconnecting", attempt, retry_at: until, ...why });
    }
    if (!explain && !how.told && !this.explanation.isSearched) this.tellDisconnected(why);
  }

  private tellDisconnected({ code, reason }: Why): void {
    const message = reason.startsWith("HTTP") ? reason : `${reason} (${code})`;
    this.emit("error", { code: "disconnected", message });
  }

  private explained(found: string | null): void {
    const why = this.explanation.end(found);
    if (!why || this.state.kind !== "reconnecting") return;
    this.enter({ ...this.state, reason: why.reason });
    this.tellDisconnected(why);
  }

  private open(state: ConnectionState): void {
    this.generation++;
    this.out.push({ kind: "connect" });
    this.link = { kind: "connecting", until: this.at.now + GREETING_MS, heard: false };
    this.enter(state);
  }

  private retry(why: Why): void {
    this.counters.reconnects++;
    const { attempt } = this;
    const reason = this.explanation.found ?? why.reason;
    this.open({ kind: "reconnecting", attempt, retry_at: null, code: why.code, reason });
  }

  private page(change: "sleep" | "wake" | "stir"): void {
    const { link } = this;
    switch (change) {
      case "sleep":
        return this.sleep();
      case "wake":
        if (link.kind !== "asleep") return this.page("stir");
        this.attempt = 1;
        return this.retry(PUT_AWAY);
      case "stir":
        if (link.kind === "asleep") return;
        if (this.state.kind !== "reconnecting" || this.patient)
          return this.act(this.liveness.checkIfQuiet(this.at));
        if (link.kind === "waiting") this.retry(link.why);
        return;
      default:
        change satisfies never;
    }
  }

  /** The page is suspended, perhaps for good: a connection would keep the browser from caching it. */
  private sleep(): void {
    if (this.link.kind === "asleep" || this.isOver) return;
    const { generation } = this;
    this.flush();
    if (this.isOver || this.generation !== generation) return;
    this.disconnect();
    this.link = { kind: "asleep" };
    this.enter({ kind: "reconnecting", attempt: 1, retry_at: null, ...PUT_AWAY });
  }

  private disconnect(): void {
    const { isConnected } = this;
    this.generation++;
    this.liveness.end();
    this.link = { kind: "idle" };
    this.goodbye = null;
    this.lag.server_ms = 0;
    this.rate.end();
    for (const { ticket } of this.questions.end())
      this.out.push({ kind: "failed", ticket, error: new Error("the session ended") });
    for (const subscriber of this.subscribers.values()) {
      subscriber.disconnected();
      if (subscriber.isClosing) this.subscribers.delete(subscriber.number);
    }
    if (isConnected) this.out.push({ kind: "disconnect" });
  }

  private end(state: Extract<ConnectionState, { kind: "closed" }>): void {
    if (!this.isOver) this.disconnect();
    if (this.explanation.forget()) this.out.push({ kind: "explain_no_more" });
    this.enter(state);
  }

  private enterLive(): void {
    const { kind } = this.state;
    if (kind !== "live" && kind !== "lagging") this.enter({ kind: "live" });
  }

  private enter(state: ConnectionState): void {
    this.state = state;
    this.emit("state", state);
  }

  private emit<Type extends Happening["type"]>(
    type: Type,
    event: Extract<Happening, { type: Type }>["event"],
  ): void {
    this.out.push({ kind: "event", type, event } as Happening);
  }
}

const PURPOSES = {
  ping: "ping",
  checksum: "verify",
  replay: "control a replay",
  publish: "post",
} as const;
const PUT_AWAY: Why = { code: 1001, reason: "the page is put away" };

/** The answer follows the update that brought the image to its position: both are of the same moment. */
function compare({ image }: Subscriber, { topics }: Checksum): Verification[] {
  return topics.map(({ topic, checksum, error }) =>
    checksum === undefined
      ? { topic, matches: null, reason: error?.message ?? "no checksum" }
      : { topic, matches: imageChecksum(image, topic) === checksum },
  );
}

/** Requests and messages of one session of a connection; others are of all. */
function isOfSession(name: string): boolean {
  return OF_SESSIONS.has(name);
}

const OF_SESSIONS = new Set([
  ...["open", "close", "subscribe", "unsubscribe", "stats", "checksum"],
  ...["update", "subscribed", "unsubscribed"],
]);

/** Earlier updates are delivered before it: after it what was known is void, goes on, or is the last. */
function isTurningPoint(message: WireUpdate | Answer | { type: "unknown" }): boolean {
  switch (message.type) {
    case "update":
      return message.entries.some(({ kind }) => kind === "reset");
    case "welcome":
    case "goodbye":
    case "reset":
      return true;
    case "subscribed":
      return message.resumed !== undefined;
    case "opened":
    case "closed":
    case "unsubscribed":
    case "checksum":
    case "pong":
    case "fault":
    case "replay":
    case "published":
    case "error":
    case "stats":
    case "lag":
    case "unknown":
      return false;
    default:
      return message satisfies never;
  }
}
