import { encode } from "@msgpack/msgpack";
import {
  TickcastClient,
  type ClientEvents,
  type Clock,
  type WebSocketLike,
} from "../src/client.js";
import { AAPL, MOMENT } from "./frames.js";

/** A clock that moves only when told to. */
export class FakeClock implements Clock {
  private time = 1_000;
  private timers: { at: number; callback: () => void }[] = [];

  now(): number {
    return this.time;
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { at: this.time + ms, callback };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  }

  advance(ms: number): void {
    const end = this.time + ms;
    for (;;) {
      const [next] = this.timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (!next) break;
      this.timers = this.timers.filter((timer) => timer !== next);
      this.time = next.at;
      next.callback();
    }
    this.time = end;
  }
}

export class FakeSocket implements WebSocketLike {
  binaryType = "blob";
  onmessage: WebSocketLike["onmessage"] = null;
  onclose: WebSocketLike["onclose"] = null;
  onerror: WebSocketLike["onerror"] = null;
  readonly requests: { op: string; id: number; topics: string[]; since?: object }[] = [];
  closed = false;

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {}

  send(text: string): void {
    this.requests.push(JSON.parse(text) as (typeof this.requests)[number]);
  }

  close(): void {
    this.closed = true;
  }

  /** Delivers one frame of the server: a message, or the values of an update. */
  deliver(message: object): void {
    this.onmessage?.({ data: encode(message).slice().buffer });
  }

  /** Answers the last request to subscribe. */
  accept(resumed?: boolean, epoch = 7): void {
    for (const { op, id, topics } of this.requests.splice(0)) {
      if (op !== "subscribe") continue;
      const answers = topics.map((topic) => ({ topic, instrument: 3 }));
      this.deliver({
        type: "subscribed",
        id,
        epoch,
        position: 100,
        ...(resumed === undefined ? {} : { resumed }),
        topics: answers,
      });
    }
  }

  drop(code = 1006): void {
    this.onclose?.({ code, reason: "" });
  }
}

/** A client with its sockets, its clock, and everything it has said. */
export function world() {
  const sockets: FakeSocket[] = [];
  class Socket extends FakeSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols);
      sockets.push(this);
    }
  }
  const clock = new FakeClock();
  const client = new TickcastClient("ws://test/v1/ws", {
    WebSocket: Socket,
    clock,
    random: () => 0.5,
  });
  const events: [keyof ClientEvents, unknown][] = [];
  const types = [
    "state",
    "gap",
    "resumed",
    "replaced",
    "status",
    "error",
    "goodbye",
    "update",
  ] as const;
  for (const type of types) client.on(type, (event) => events.push([type, event]));
  return {
    client,
    clock,
    sockets,
    /** The newest socket. */
    socket: () => sockets.at(-1)!,
    /** What was said since the last call, of the given types. */
    said: (...wanted: (keyof ClientEvents)[]) =>
      events.splice(0).filter(([type]) => wanted.includes(type)),
  };
}

export type World = ReturnType<typeof world>;

export const HEARTBEAT_MS = 5_000;

export function welcome(epoch = 7, position = 100) {
  return {
    type: "welcome",
    protocol: "tickcast.v1",
    server: "tickcast/test",
    epoch,
    position,
    time: MOMENT,
    heartbeat_ms: HEARTBEAT_MS,
    limits: { topics: 1024, message_bytes: 65_536, requests_per_second: 50, max_hz: 1000 },
  };
}

/** A client that is live on `trades:AAPL` at position 101, with trades 10 and 11. */
export function liveWorld(): World {
  const it = world();
  it.client.subscribe(["trades:AAPL"]);
  it.client.connect();
  it.socket().deliver(welcome());
  it.socket().accept();
  it.socket().deliver([1, 0, 3, 63, AAPL, 3, 33, 10, 2, 42, 0, 1, 100, 1, 0, 1, 100]);
  it.said();
  return it;
}
