/**
 * Polls, where not even a stream gets through, as behind a proxy that collects an answer before it passes it on.
 *
 * Invariant: one poll of a flow is under way, and each begins where the one before ended.
 */

import { decode } from "@msgpack/msgpack";
import type { Clock } from "../clock.js";
import { decodeFrame } from "../decode.js";
import { refusal } from "../probe.js";
import type { Epoch, Micros, Position, Topic, TopicAnswer, Welcome } from "../protocol.js";
import type { Connection, Transport, TransportEvents } from "../transport.js";
import { Endpoint } from "./endpoint.js";
import { OneWay, type Flow, type FlowEvents, type FlowQuery } from "./one-way.js";

/** For how long a poll waits for news, in seconds: the heartbeat of such a session. */
const WAIT_S = 10;
const HEARTBEAT_MS = 12_000;
/** The least time from one poll to the next. */
const SPACING_MS = 500;

export class PollTransport implements Transport {
  readonly name = "poll";
  readonly tells = true;

  constructor(
    private readonly fetch: typeof globalThis.fetch,
    private readonly clock: Required<Clock>,
  ) {}

  open(url: string, events: TransportEvents): Connection {
    const endpoint = new Endpoint(url, this.fetch, this.clock);
    const flow = (query: FlowQuery, events: FlowEvents) =>
      new Polls(endpoint, this.clock, query, events);
    return new OneWay(this.name, flow, endpoint, this.clock.soon, events);
  }
}

/** An answer of `/v1/poll` in MessagePack. */
interface Answer {
  readonly epoch: Epoch;
  readonly position: Position;
  readonly time: Micros;
  readonly since: string;
  readonly resumed?: boolean;
  readonly update: Uint8Array;
}

class Polls implements Flow {
  private readonly ending = new AbortController();
  private since: string | null;
  private readonly refused: TopicAnswer[] = [];
  private fresh: readonly Topic[];
  private isAnswered = false;

  constructor(
    private readonly endpoint: Endpoint,
    private readonly clock: Required<Clock>,
    private readonly query: FlowQuery,
    private readonly events: FlowEvents,
  ) {
    this.since = query.since;
    this.fresh = query.fresh;
    void this.run().catch(() => this.ended("nothing answers there, or the connection was lost"));
  }

  close(): void {
    this.ending.abort();
  }

  private async run(): Promise<void> {
    const { maxHz } = this.query;
    const spacing = Math.max(SPACING_MS, maxHz === null ? 0 : 1000 / maxHz);
    while (!this.ending.signal.aborted) {
      const begun = this.clock.now();
      const more = await this.poll();
      // The rest of an answer, and what a refused topic held up, is there already.
      if (!more) await this.pause(begun + spacing - this.clock.now());
    }
  }

  /** Returns whether more is to be had at once. */
  private async poll(): Promise<boolean> {
    const answer = await this.endpoint.get(this.url(), this.ending.signal);
    if (answer.status === 400 && (await this.leavesOut(answer.clone()))) return true;
    if (!answer.ok) {
      this.ended(await refusal(answer, this.clock));
      return false;
    }
    const body = new Uint8Array(await answer.arrayBuffer());
    if (this.ending.signal.aborted) return false;
    return this.take(decode(body) as Answer);
  }

  private url(): string {
    const { topics, times } = this.query;
    const have = [...topics, ...(this.isWhole ? this.fresh : [])];
    return this.endpoint.url("poll", ["room", "key"], {
      format: "msgpack",
      ...(have.length > 0 ? { topics: have.join(",") } : {}),
      ...(this.isWhole || this.fresh.length === 0 ? {} : { new: this.fresh.join(",") }),
      ...(times ? { times: "true" } : {}),
      ...(this.since === null ? {} : { since: this.since }),
      // The first answer says at once how things stand.
      ...(this.isAnswered && this.isWhole ? { wait: String(WAIT_S) } : {}),
    });
  }

  /** Whether the new topics have come whole. */
  private isWhole = false;

  private take({ epoch, position, time, since, resumed, update }: Answer): boolean {
    const message = decodeFrame(update);
    if (message.type !== "update") throw new TypeError("a poll without an update");
    if (!this.isAnswered) {
      this.isAnswered = true;
      this.events.welcome(welcome(epoch, position, time));
      const granted = [...this.query.topics, ...this.fresh].map((topic) => ({ topic }));
      const topics = [...granted, ...this.refused];
      this.events.answered({
        position,
        topics,
        ...(this.query.since === null || resumed === undefined ? {} : { resumed }),
      });
    } else if (resumed === false) {
      this.ended("what was known is void");
      return false;
    }
    if (this.ending.signal.aborted) return false;
    this.since = since;
    if (message.positions !== null) this.isWhole = true;
    this.events.update(update, { position, time });
    return message.positions === null;
  }

  /** A topic that is none is left out of the next poll. Returns whether that is what was wrong. */
  private async leavesOut(answer: Response): Promise<boolean> {
    const said: unknown = await answer.json().catch(() => null);
    const { topic, detail } = (said ?? {}) as Record<string, string | undefined>;
    if (topic === undefined || !this.fresh.includes(topic)) return false;
    this.refused.push({ topic, error: { code: "unknown_topic", message: detail ?? "" } });
    this.fresh = this.fresh.filter((other) => other !== topic);
    if (this.fresh.length > 0 || this.query.topics.length > 0) return true;
    this.events.answered({ position: 0 as Position, topics: this.refused });
    this.close();
    return true;
  }

  private ended(reason: string): void {
    if (this.ending.signal.aborted) return;
    this.ending.abort();
    this.events.ended(1006, reason);
  }

  private pause(ms: number): Promise<void> {
    const { signal } = this.ending;
    return new Promise((resolve) => {
      const done = () => {
        cancel();
        signal.removeEventListener("abort", done);
        resolve();
      };
      const cancel = this.clock.after(Math.max(0, ms), done);
      signal.addEventListener("abort", done);
    });
  }
}

/** What a server would say. */
function welcome(epoch: Epoch, position: Position, time: Micros): Welcome {
  return {
    type: "welcome",
    protocol: "tickcast.v1",
    server: "tickcast",
    epoch,
    position,
    time,
    heartbeat_ms: HEARTBEAT_MS,
    limits: { topics: 1024, message_bytes: 65_536, requests_per_second: 50, max_hz: 1000 },
  };
}
