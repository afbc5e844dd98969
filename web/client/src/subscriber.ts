/**
 * One of the sessions that share a connection: its topics, its position on the tape, and what it knows.
 *
 * The part of {@link "./session".Session} that each of them has for itself. Pure, too. Invariant: the cursor is a moment up to which
 * everything has come of each topic whose image is complete.
 */

import type { Counters, SubscribeOptions } from "./api.js";
import type { WireUpdate } from "./decode.js";
import { Image } from "./image.js";
import type { Happening, Output } from "./io.js";
import { checkHz, Options } from "./options.js";
import type {
  Cursor,
  Epoch,
  Opened,
  Request,
  RequestId,
  Subscribed,
  Topic,
  Welcome,
} from "./protocol.js";
import { chunks, Requests, type Outgoing, type RequestRate } from "./requests.js";
import { FIRST_SESSION } from "./session-number.js";
import { Subscriptions } from "./subscriptions.js";

/** What a session has in common with others on its connection. */
export interface Line {
  readonly counters: Counters;
  readonly rate: RequestRate;
  /** Null while there is no connection. */
  welcome(): Welcome | null;
  /** Counts connections made and dropped. */
  generation(): number;
  nextId(): number;
  push(output: Output): void;
  /** An update has come, and is about to be delivered. */
  updated(): void;
}

export class Subscriber {
  readonly image = new Image();
  readonly requests: Requests;
  readonly subscriptions = new Subscriptions();
  readonly options = new Options();
  /** It is given up, and the server has not confirmed it yet. */
  isClosing = false;
  private wantsStats = false;
  /** The last moment up to which everything has come. */
  private cursor: Cursor | null = null;
  /** Something of the image is from an earlier connection, and goes on only if the server resumes it. */
  private isCarried = false;
  /** The connection's `reset` has come, and the session's own reset entry has not. */
  private isWound = false;
  /** Topics of unanswered subscribe requests: until the answer a moved position does not cover them. */
  private readonly asked = new Map<unknown, readonly Topic[]>();
  /** The request to open it, until that is answered. */
  private opening: RequestId | null = null;

  constructor(
    readonly number: number,
    private readonly line: Line,
  ) {
    this.requests = new Requests(line.rate);
  }

  /** Whether the server has granted everything that was requested. */
  get isAnswered(): boolean {
    return this.asked.size === 0;
  }

  /** Whether a request of that number is its own. */
  hasAsked(id: RequestId | undefined): boolean {
    return id !== undefined && (this.asked.has(id) || this.opening === id);
  }

  subscribe(topics: readonly Topic[], options: SubscribeOptions): void {
    const { wanted } = this.subscriptions;
    const added = topics.filter((topic) => !wanted.has(topic));
    for (const topic of added) wanted.add(topic);
    this.options.change(options);
    // In a running session a snapshot is requested, even of a topic whose end is still under way.
    if (this.line.welcome() && topics.length > 0)
      this.requests.subscribe(added.length > 0 ? added : topics);
  }

  unsubscribe(topics: readonly Topic[]): void {
    for (const topic of topics) this.subscriptions.wanted.delete(topic);
    if (topics.length === 0) return;
    if (!this.line.welcome()) return this.givenUp(topics);
    this.requests.unsubscribe(topics);
    // The topic that was to carry the options may be one of these.
    if (this.options.isUnsent) this.requestOptions();
  }

  cap(maxHz: number | null): void {
    checkHz(maxHz);
    if (maxHz === this.options.maxHz) return;
    this.options.change({ maxHz });
    if (this.line.welcome()) this.requestOptions();
  }

  stats(enabled: boolean): void {
    this.wantsStats = enabled;
    if (this.line.welcome()) this.request({ op: "stats", enabled });
  }

  /** Options are sent with a topic: one that was requested already begins nothing. */
  private requestOptions(): void {
    const [topic] = this.subscriptions.wanted;
    if (topic !== undefined) this.requests.subscribe([topic]);
  }

  request(request: Request): number {
    const id = this.line.nextId();
    this.requests.push(request, id);
    return id;
  }

  /** The final form of a queued request that is sent now. */
  worded(outgoing: Outgoing): { request: Request; id: number } {
    if ("request" in outgoing) return outgoing;
    const { op, topics } = outgoing;
    const id = this.line.nextId();
    if (op === "unsubscribe") return { request: { op, topics }, id };
    this.asked.set(id, topics);
    this.options.isUnsent = false;
    return { request: { op, topics, ...this.options.fields }, id };
  }

  /** Resumes where it was, in a connection that was just welcomed, or begins in it. */
  begin(welcome: Welcome): void {
    const generation = this.line.generation();
    const { image } = this;
    const goesOn = image.epoch === welcome.epoch && image.position >= (welcome.begins ?? 0);
    if (image.epoch !== null && !goesOn) this.replace(welcome.epoch);
    if (this.line.generation() !== generation) return; // a listener has closed it
    this.isCarried = goesOn;
    if (goesOn) this.dropUnsure();
    if (this.number === FIRST_SESSION) image.begin(welcome);
    else this.opening = this.request({ op: "open" });
    const { resumable, fresh } = this.subscriptions.split();
    this.resume(resumable);
    this.requests.subscribe(fresh);
    this.options.isUnsent = false;
    if (this.wantsStats) this.request({ op: "stats", enabled: true });
  }

  /** For a session that is not the first: its positions count from here. */
  opened(answer: Opened): void {
    this.opening = null;
    const welcome = this.line.welcome();
    if (welcome) this.image.begin({ ...answer, epoch: welcome.epoch });
  }

  /** For a topic without a complete snapshot, an instrument may have left the sector meanwhile without a `left`. */
  private dropUnsure(): void {
    const { position, time } = this.image;
    const changes = this.image.dropImages((kind, of) => this.subscriptions.covers(kind, of));
    if (changes.length === 0) return;
    const update = { type: "update", position, time, whole: true, changes } as const;
    this.push({ kind: "update", update });
  }

  /** Of these topics only what changed since the cursor comes; others begin with a snapshot. */
  private resume(topics: readonly Topic[]): void {
    if (!this.cursor) return;
    for (const part of chunks(topics)) {
      const since = this.cursor;
      const id = this.request({ op: "subscribe", topics: part, since, ...this.options.fields });
      // From now on, not when it is sent: what comes meanwhile does not move the cursor of these.
      this.asked.set(id, part);
    }
  }

  update(wire: WireUpdate): void {
    const update = this.image.apply(wire, (kind, of) => this.subscriptions.isWhole(kind, of));
    const welcome = this.line.welcome();
    // After the last part of a flush nothing is pending. Before the first batch of the tape there is nothing to resume from.
    if (welcome && this.isAnswered && update.whole && update.position > 0) {
      this.subscriptions.caughtUp();
      this.cursor = { epoch: welcome.epoch, position: update.position };
    }
    this.line.updated();
    this.line.counters.changes += update.changes.length;
    if (update.changes.some(({ kind }) => kind === "reset")) {
      if (!this.isWound) this.dropped(this.image.epoch as Epoch);
      this.isWound = false;
    }
    this.push({ kind: "update", update });
  }

  /** A reset at that position: what was known from before is void, and comes again with its next update. */
  wound(begins: number): void {
    if (this.isWound || this.image.epoch === null || this.image.position >= begins) return;
    this.isWound = true;
    this.image.reset();
  }

  /** Reports it, once all sessions of the connection have dropped what they knew. */
  tellWound(): void {
    if (this.isWound) this.dropped(this.image.epoch as Epoch);
  }

  private dropped(epoch: Epoch): void {
    this.isCarried = false;
    this.push({ kind: "drop" });
    this.emit("replaced", { epoch });
  }

  subscribed(answer: Subscribed): void {
    this.asked.delete(answer.id);
    // An earlier answer may have said so, and what is kept now is of this connection.
    if (answer.resumed === false && this.isCarried) this.replace(answer.epoch);
    else if (answer.resumed && this.cursor) this.emit("resumed", this.cursor);
    for (const { topic, error } of answer.topics) {
      if (!error) {
        this.subscriptions.accepted(topic);
        continue;
      }
      // One that was requested again since is still wanted: the last answer decides.
      const again = [...this.asked.values()].some((topics) => topics.includes(topic));
      if (!again && !this.requests.refused(topic)) this.subscriptions.wanted.delete(topic);
      this.emit("error", { code: error.code, message: error.message, topic });
    }
    this.emit("subscribed", answer);
  }

  refused(id: RequestId | undefined): void {
    this.asked.delete(id);
    if (this.opening === id) this.opening = null;
  }

  givenUp(topics: readonly Topic[]): void {
    for (const topic of topics) this.subscriptions.ended(topic);
    this.image.forget((kind, of) => this.subscriptions.covers(kind, of));
  }

  /** Drops all that was known. */
  replace(epoch: Epoch): void {
    this.cursor = null;
    this.isWound = false;
    this.image.reset();
    this.subscriptions.imageDropped();
    this.dropped(epoch);
  }

  /** The connection is gone. */
  disconnected(): void {
    this.asked.clear();
    this.opening = null;
    this.requests.end();
    // The rest of these would be taken for complete when they are wanted again.
    const givenUp = this.subscriptions.givenUp();
    if (givenUp.length > 0) this.givenUp(givenUp);
    this.subscriptions.sessionEnded();
  }

  emit<Type extends Happening["type"]>(
    type: Type,
    event: Extract<Happening, { type: Type }>["event"],
  ): void {
    this.push({ kind: "event", type, event } as Happening);
  }

  push(output: OfSession): void {
    const { number } = this;
    this.line.push(number === FIRST_SESSION ? output : { ...output, session: number });
  }
}

type OfSession = Extract<
  Output,
  | { kind: "event" }
  | { kind: "update" }
  | { kind: "flush" }
  | { kind: "drop" }
  | { kind: "discard" }
>;
