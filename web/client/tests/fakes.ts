import { encode } from "@msgpack/msgpack";
import {
  TickcastClient,
  type ClientEvents,
  type ClientOptions,
  type Clock,
  type WebSocketLike,
} from "../src/client.js";
import { AAPL, MOMENT } from "./frames.js";

/** A clock that moves only when told to. */
export class FakeClock implements Clock {
  private time = 1_000;
  private slept = 0;
  private timers: { at: number; callback: () => void }[] = [];
  private tasks: (() => void)[] = [];

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

  /** Tasks wait for {@link turn}; where a test waits for a promise they run by themselves. */
  soon(callback: () => void): void {
    this.tasks.push(callback);
    setImmediate(() => this.turn());
  }

  /** Runs the tasks that wait, and those that they bring. */
  turn(): void {
    for (let task = this.tasks.shift(); task; task = this.tasks.shift()) task();
  }

  /** Time goes by in which nothing runs: timers are late then. */
  stall(ms: number): void {
    this.time += ms;
  }

  /** The machine sleeps: only the clock on the wall goes on. */
  sleep(ms: number): void {
    this.slept += ms;
  }

  wall(): number {
    return this.time + this.slept;
  }

  advance(ms: number): void {
    this.turn();
    const end = this.time + ms;
    for (;;) {
      const [next] = this.timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (!next) break;
      this.timers = this.timers.filter((timer) => timer !== next);
      this.time = Math.max(this.time, next.at);
      next.callback();
      this.turn();
    }
    this.time = end;
  }
}

export class FakeSocket implements WebSocketLike {
  binaryType = "blob";
  onmessage: WebSocketLike["onmessage"] = null;
  onclose: WebSocketLike["onclose"] = null;
  onerror: WebSocketLike["onerror"] = null;
  closed = false;
  private readonly sent: FakeRequest[] = [];

  constructor(
    readonly url: string,
    readonly protocols: string[],
    private readonly clock: FakeClock,
  ) {}

  /** What was sent, and not taken out here. */
  get requests(): FakeRequest[] {
    this.clock.turn();
    return this.sent;
  }

  send(text: string): void {
    this.sent.push(JSON.parse(text) as FakeRequest);
  }

  close(): void {
    this.closed = true;
  }

  /**
   * Delivers one frame of the server: a message, or the values of an update, of that session. What it brings about is done when
   * it returns.
   */
  deliver(message: object, session = 0): void {
    this.onmessage?.({ data: marked(message, session) });
    this.clock.turn();
  }

  /** Delivers frames that are there before anything else can run. */
  deliverTogether(...messages: object[]): void {
    for (const message of messages) this.onmessage?.({ data: marked(message, 0) });
  }

  /** Answers what was asked since the last call to open and to subscribe, in the session that it is of. */
  accept(resumed?: boolean, epoch = 7): void {
    for (const { op, id, topics, session } of this.requests.splice(0)) {
      if (op === "open") this.deliver({ type: "opened", id, position: 100, time: MOMENT }, session);
      if (op !== "subscribe") continue;
      const answers = topics.map((topic) => ({ topic, instrument: 3 }));
      const answer = {
        type: "subscribed",
        id,
        epoch,
        position: 100,
        ...(resumed === undefined ? {} : { resumed }),
        topics: answers,
      };
      this.deliver(answer, session);
    }
  }

  drop(code = 1006, reason = ""): void {
    this.onclose?.({ code, reason });
  }
}

/** A message as a frame of a session. */
function marked(message: object, session: number): ArrayBuffer {
  const bytes = encode(message);
  return new Uint8Array(session === 0 ? bytes : [session, ...bytes]).buffer;
}

export interface FakeRequest {
  op: string;
  id: number;
  session?: number;
  topics: string[];
  since?: object;
}

/** A client with its sockets, its clock, and everything it has said. */
export function world(options: ClientOptions = {}) {
  const sockets: FakeSocket[] = [];
  const clock = new FakeClock();
  class Socket extends FakeSocket {
    constructor(url: string, protocols: string[]) {
      super(url, protocols, clock);
      sockets.push(this);
    }
  }
  const client = new TickcastClient("ws://test/v1/ws", {
    WebSocket: Socket,
    clock,
    random: () => 0.5,
    fetch: null,
    ...options,
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
    "subscribed",
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
export function liveWorld(options: ClientOptions = {}): World {
  const it = world(options);
  it.client.subscribe(["trades:AAPL"]);
  it.client.connect();
  it.socket().deliver(welcome());
  it.socket().accept();
  it.socket().deliver([1, 0, 3, 63, AAPL, 3, 33, 10, 2, 42, 0, 1, 100, 1, 0, 1, 100]);
  it.said();
  return it;
}
