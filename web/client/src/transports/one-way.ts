/**
 * A connection over something that only brings updates: a stream, or polls. To the session it is what a WebSocket is.
 *
 * Each session has a {@link Lane}: the topics it asked for, how far it has them, and the flow that brings them. A flow cannot be asked
 * for other topics, so a change ends it and opens the next one from where it was; topics that are new come whole. What else a session
 * asks goes by HTTP, or is refused.
 *
 *     opening ─ the first flow says where the tape is ─▶ greeted ─ a request ─▶ lanes with flows
 *        └────────────────── a flow ends, or begins anew unasked ────────────────────┴─▶ over: the session comes back
 *
 * Invariant: an update that a lane has passed on is counted in its `at`; what a closed flow brings is dropped.
 */

import { encode } from "@msgpack/msgpack";
import { after, moved, type Place } from "../frame-head.js";
import type { Request, RequestId, Subscribed, Topic, TopicAnswer, Welcome } from "../protocol.js";
import { FIRST_SESSION } from "../session-number.js";
import { unescapeSymbol } from "../topic.js";
import type { Connection, TransportEvents, TransportName } from "../transport.js";
import type { Endpoint } from "./endpoint.js";

/** What a flow is to bring. */
export interface FlowQuery {
  /** Topics that the session has up to `since`. */
  readonly topics: readonly Topic[];
  readonly since: string | null;
  /** Topics of which it has nothing. */
  readonly fresh: readonly Topic[];
  readonly maxHz: number | null;
  readonly times: boolean;
}

export interface FlowEvents {
  /** Before all else: what a session is told at first. */
  welcome(welcome: Welcome): void;
  /** Topics are granted or refused. `resumed`: of those with a `since`. */
  answered(answer: Pick<Subscribed, "position" | "topics" | "resumed">): void;
  /** An update, and from where it counts. */
  update(bytes: Uint8Array, from: Place): void;
  /** Another message of the server's, as it came. */
  message(bytes: Uint8Array): void;
  /** The last event: it goes no further. */
  ended(code: number, reason: string): void;
}

export interface Flow {
  close(): void;
}

export type OpenFlow = (query: FlowQuery, events: FlowEvents) => Flow;

/** What a server is asked while a session has no topics: it says that it is there, and the session is not told. */
const NOTHING: readonly Topic[] = ["status"];

export class OneWay implements Connection {
  private readonly lanes = new Map<number, Lane>();
  private welcome: Welcome | null = null;
  private isOver = false;

  constructor(
    readonly transport: TransportName,
    private readonly openFlow: OpenFlow,
    private readonly endpoint: Endpoint,
    private readonly soon: (callback: () => void) => void,
    private readonly events: TransportEvents,
  ) {
    this.lane(FIRST_SESSION).reopen();
  }

  send(text: string): void {
    const { session = FIRST_SESSION, ...request } = JSON.parse(text) as Request & {
      session?: number;
    };
    const { id } = request;
    switch (request.op) {
      case "open": {
        const { position, time } = this.welcome!;
        this.lane(session).at = { position, time };
        return this.tell({ type: "opened", id, position, time }, session);
      }
      case "close":
        this.lanes.get(session)?.close();
        this.lanes.delete(session);
        return this.tell({ type: "closed", id }, session);
      case "subscribe":
        return this.lane(session).subscribe(request);
      case "unsubscribe":
        return this.lane(session).unsubscribe(id, request.topics);
      case "ping":
        return void this.ping(id);
      case "replay": {
        const { op: _, id: __, ...action } = request;
        return void this.replay(id, action);
      }
      case "publish":
        return void this.publish(request);
      case "stats":
      case "checksum":
        return this.refuse(id, "not_supported", `${request.op}: only a WebSocket answers that`);
      default:
        request satisfies never;
    }
  }

  close(): void {
    this.isOver = true;
    for (const lane of this.lanes.values()) lane.close();
    this.endpoint.close();
  }

  private lane(number: number): Lane {
    const known = this.lanes.get(number);
    if (known) return known;
    const lane = new Lane({
      open: (query, events) => this.openFlow(query, events),
      soon: (callback) => this.soon(callback),
      isFirst: number === FIRST_SESSION,
      welcomed: (welcome) => this.welcomed(welcome),
      epoch: () => this.welcome?.epoch ?? 0,
      tell: (message) => this.tell(message, number),
      pass: (bytes) => this.pass(bytes, number),
      lost: (code, reason) => this.lost(code, reason),
    });
    this.lanes.set(number, lane);
    return lane;
  }

  /** Returns whether it is of the tape that this connection is of. */
  private welcomed(welcome: Welcome): boolean {
    if (this.welcome) return this.welcome.epoch === welcome.epoch;
    this.welcome = welcome;
    this.lane(FIRST_SESSION).at = { position: welcome.position, time: welcome.time };
    this.events.opened();
    this.tell(welcome);
    return true;
  }

  /** As an answer of the server's. */
  private tell(message: object, session = FIRST_SESSION): void {
    this.pass(encode(message), session);
  }

  private pass(bytes: Uint8Array, session: number): void {
    if (this.isOver) return;
    this.events.binary(session === FIRST_SESSION ? bytes : Uint8Array.of(session, ...bytes));
  }

  private refuse(id: RequestId | undefined, code: string, message: string): void {
    this.tell({ type: "error", id, code, message });
  }

  private lost(code: number, reason: string): void {
    if (this.isOver) return;
    this.close();
    this.events.closed(code, reason);
  }

  /** The server's time, by HTTP. Without an answer the session notices that there is none. */
  private async ping(id: RequestId | undefined): Promise<void> {
    const { status, body } = await this.endpoint.json("feed");
    const time = body["now_us"];
    const { position } = this.lane(FIRST_SESSION).at;
    if (typeof time === "number") this.tell({ type: "pong", id, time, position });
    else if (status !== 0) this.refuse(id, "unavailable", `the server's time: HTTP ${status}`);
  }

  /** A post to a channel, as the line of it. */
  private async publish(post: Extract<Request, { op: "publish" }>): Promise<void> {
    const { op: _, id, topic, ...rest } = post;
    const [kind, channel = ""] = topic.split(/:(.*)/s);
    const line = {
      type: kind === "states" ? "state" : "message",
      channel: unescapeSymbol(channel),
      ...rest,
    };
    const { status, body } = await this.endpoint.json("publish", line);
    const { position, rejected } = body as { position?: number; rejected?: { reason: string }[] };
    const [why] = rejected ?? [];
    if (status !== 200) return this.failed(id, status, body);
    if (why) return this.refuse(id, "bad_request", why.reason);
    this.tell({ type: "published", id, position });
  }

  private async replay(id: RequestId | undefined, action: object): Promise<void> {
    const asks = Object.keys(action).length > 0;
    const { status, body } = await this.endpoint.json("replay", asks ? action : null);
    if (status === 200) return this.tell({ type: "replay", id, ...body });
    this.failed(id, status, body);
  }

  /** What was asked by HTTP is refused. */
  private failed(
    id: RequestId | undefined,
    status: number,
    body: Readonly<Record<string, unknown>>,
  ): void {
    const { detail } = body;
    const message = typeof detail === "string" ? detail : `HTTP ${status}`;
    const code = CODES[status] ?? (status >= 500 || status === 0 ? "unavailable" : "bad_request");
    this.refuse(id, code, message);
  }
}

/** What the server's statuses are as codes of errors. */
const CODES: Readonly<Record<number, string>> = { 403: "not_allowed", 409: "not_supported" };

/** What a lane needs of its connection. */
interface LaneHost {
  readonly isFirst: boolean;
  open(query: FlowQuery, events: FlowEvents): Flow;
  soon(callback: () => void): void;
  welcomed(welcome: Welcome): boolean;
  epoch(): number;
  tell(message: object): void;
  pass(bytes: Uint8Array): void;
  lost(code: number, reason: string): void;
}

/** A request to subscribe that is not answered yet. */
interface Asked {
  readonly id: RequestId | undefined;
  readonly topics: readonly Topic[];
  readonly resumes: boolean;
}

class Lane {
  /** Where its session is, whose updates count from there. */
  at: Place = { position: 0, time: 0 };

  /** What the session wants. */
  private readonly wanted = new Set<Topic>();
  /** Of these it has everything up to `since`. */
  private readonly had = new Set<Topic>();
  private since: string | null = null;
  private maxHz: number | null = null;
  private times = false;
  private asked: Asked[] = [];
  private answers = new Map<Topic, TopicAnswer>();

  private flow: Flow | null = null;
  /** What the flow brings. */
  private brings: ReadonlySet<Topic> = new Set();
  private state: "idle" | "opening" | "flowing" | "closed" = "idle";
  private isChanged = false;
  private isScheduled = false;

  constructor(private readonly host: LaneHost) {}

  subscribe(request: Extract<Request, { op: "subscribe" }>): void {
    const { id, topics, since, max_hz, times } = request;
    for (const topic of topics) {
      this.wanted.add(topic);
      this.answers.delete(topic);
    }
    if (since) {
      for (const topic of topics) this.had.add(topic);
      this.since = `${since.epoch}-${since.position}`;
    }
    if (max_hz !== undefined) this.maxHz = max_hz;
    if (times !== undefined) this.times = times;
    this.asked.push({ id, topics, resumes: since !== undefined });
    this.change();
  }

  unsubscribe(id: RequestId | undefined, topics: readonly Topic[]): void {
    for (const topic of topics) {
      this.wanted.delete(topic);
      this.had.delete(topic);
    }
    // Nothing of them may come behind the answer.
    this.stop();
    this.host.tell({ type: "unsubscribed", id, topics: topics.map((topic) => ({ topic })) });
    this.change();
  }

  close(): void {
    this.stop();
    this.state = "closed";
  }

  /** Ends the flow, and opens one for what is wanted now. */
  reopen(): void {
    this.stop();
    this.isChanged = false;
    const isSilent = this.wanted.size === 0;
    if (isSilent && !this.host.isFirst) return;
    const topics = [...this.had].filter((topic) => this.wanted.has(topic));
    const fresh = [...this.wanted].filter((topic) => !this.had.has(topic));
    this.brings = new Set(this.wanted);
    this.state = "opening";
    const query: FlowQuery = {
      topics,
      since: topics.length > 0 ? this.since : null,
      fresh: isSilent ? NOTHING : fresh,
      maxHz: this.maxHz,
      times: this.times,
    };
    // Of a flow that has ended nothing is heard.
    let isOpen = true;
    const when =
      <Args extends unknown[]>(act: (...args: Args) => void) =>
      (...args: Args) => {
        if (isOpen) act(...args);
      };
    const flow = this.host.open(query, {
      welcome: when((welcome) => this.welcomed(welcome)),
      answered: when((answer) => this.answered(answer, topics)),
      update: when((bytes, from) => this.update(bytes, from, isSilent)),
      message: when((bytes) => {
        if (this.host.isFirst) this.host.pass(bytes);
      }),
      ended: when((code, reason) => this.host.lost(code, reason)),
    });
    this.flow = { close: () => ((isOpen = false), flow.close()) };
  }

  private stop(): void {
    this.flow?.close();
    this.flow = null;
    if (this.state !== "closed") this.state = "idle";
  }

  /** What is asked in one task opens one flow. One that is just opening is not given up for it. */
  private change(): void {
    this.isChanged = true;
    if (this.isScheduled || this.state === "opening") return;
    this.isScheduled = true;
    this.host.soon(() => {
      this.isScheduled = false;
      if (this.isChanged && (this.state === "idle" || this.state === "flowing")) this.reopen();
    });
  }

  private welcomed(welcome: Welcome): void {
    if (!this.host.welcomed(welcome)) this.host.lost(1006, "the server's tape is another one");
  }

  private answered(
    answer: Parameters<FlowEvents["answered"]>[0],
    resuming: readonly Topic[],
  ): void {
    const asksToResume = this.asked.some(({ resumes }) => resumes);
    if (answer.resumed === false && !asksToResume)
      return this.host.lost(1006, "what was known is void");
    if (answer.resumed === false) for (const topic of resuming) this.had.delete(topic);
    for (const topic of answer.topics) {
      this.answers.set(topic.topic, topic);
      if (topic.error) this.wanted.delete(topic.topic);
    }
    const epoch = this.host.epoch();
    this.asked = this.asked.filter(({ id, topics, resumes }) => {
      const answers = topics.map((topic) => this.answers.get(topic));
      if (answers.includes(undefined)) return true;
      const { position, resumed } = answer;
      const told = { type: "subscribed", id, epoch, position, topics: answers };
      this.host.tell(resumes ? { ...told, resumed: resumed ?? true } : told);
      return false;
    });
    if (this.state === "opening") this.state = "flowing";
    // Of those that were refused nothing comes, not even that the server is there.
    if (this.host.isFirst && this.wanted.size === 0 && this.brings.size > 0) this.isChanged = true;
    // What was asked while the flow was opening.
    if (this.isChanged) this.change();
  }

  private update(bytes: Uint8Array, from: Place, isSilent: boolean): void {
    if (isSilent) return this.host.pass(NO_NEWS);
    const place = after(bytes, from);
    const update = moved(bytes, from, this.at);
    if (!place || !update) return this.host.lost(1006, "an update that is none");
    this.at = { position: Math.max(place.position, this.at.position), time: place.time };
    if (place.whole) this.hasAll(place.position);
    this.host.pass(update);
  }

  /** A flush has ended: up to there it has all that was granted. */
  private hasAll(position: number): void {
    // Before the first batch of the tape there is nothing to go on from.
    if (position === 0) return;
    this.since = `${this.host.epoch()}-${position}`;
    for (const topic of this.brings) if (this.answers.has(topic)) this.had.add(topic);
  }
}

const NO_NEWS = encode([0, 0]);
