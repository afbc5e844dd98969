/**
 * The shell around a {@link "./session".Session}: it keeps its time, opens its connections, calls handlers and settles
 * promises. The session decides; the shell acts.
 *
 * Invariant: outputs are done in order as they are pushed, and one timer is armed no later than the session's deadline.
 */

import { Alarm } from "./alarm.js";
import type { ClientOptions, ConnectionState, SubscribeOptions } from "./api.js";
import { completeClock, systemClock, type Clock } from "./clock.js";
import { Deliveries } from "./delivery.js";
import type { Command, Happening, Input, Output, Question } from "./io.js";
import { followPresence, thisPage, type PageLike } from "./presence.js";
import { Prober } from "./probe.js";
import type { Topic } from "./protocol.js";
import { FIRST_SESSION, MOST_SESSIONS } from "./session-number.js";
import { Session } from "./session.js";
import { Tickets } from "./tickets.js";
import type { Connection, Transport, TransportName } from "./transport.js";
import { AutomaticTransport, type Named, type TransportMemory } from "./transports/automatic.js";
import { PollTransport } from "./transports/poll.js";
import { SseTransport } from "./transports/sse.js";
import { WebSocketTransport } from "./transports/websocket.js";

export class Shell {
  readonly session: Session;
  /** As listeners received it last. */
  state: ConnectionState = { kind: "closed", code: 1000, reason: "not connected yet" };

  /** By the number of the session. */
  private readonly ways = new Map<number, Way>();
  private connection: Connection | null = null;
  private leavePage = () => {};
  private readonly out = { push: (output: Output) => this.perform(output) };
  private readonly transport: Transport;
  private readonly clock: Required<Clock>;
  private readonly page: PageLike | null;
  private readonly alarm: Alarm;
  private readonly prober: Prober | null;
  private readonly tickets = new Tickets();

  /** @throws {TypeError} if there is no WebSocket and neither that nor a transport was given */
  constructor(
    private readonly url: string,
    options: ClientOptions,
  ) {
    this.clock = completeClock(options.clock ?? systemClock);
    const { fetch = globalThis.fetch?.bind(globalThis) ?? null } = options;
    this.transport = options.transport ?? transportOf(url, options, fetch, this.clock);
    // What the transport says by itself is not requested.
    this.prober = fetch && !this.transport.tells ? new Prober(url, fetch, this.clock) : null;
    this.page = options.page === undefined ? thisPage() : options.page;
    this.session = new Session({
      random: options.random ?? Math.random,
      canExplain: this.prober !== null,
    });
    this.alarm = new Alarm(this.clock, (now) => {
      this.handle({ kind: "tick", behind_ms: this.behind() }, now);
    });
    this.ways.set(FIRST_SESSION, this.way());
  }

  /** What the present connection goes over; null while there is none, or that is not known. */
  get transportName(): TransportName | null {
    const { connection, transport } = this;
    if (!connection) return null;
    return connection.transport === undefined ? (transport.name ?? "other") : connection.transport;
  }

  /** Where updates of a session are delivered. */
  deliveries(session: number): Deliveries {
    return this.wayOf(session).deliveries;
  }

  /** Calls `tell` with the events for listeners of a session. */
  listen(session: number, tell: (happening: Happening) => void): void {
    this.wayOf(session).tell = tell;
  }

  /** Calls it for every state, the session's end included, until the returned function is called. */
  onState(session: number, listener: (state: ConnectionState) => void): () => void {
    const { listeners } = this.wayOf(session);
    listeners.add(listener);
    return () => listeners.delete(listener);
  }

  /**
   * Opens one more session on the connection, and returns its number.
   *
   * @throws {RangeError} if there are as many as there may be, or an option is out of its range
   */
  open(options: SubscribeOptions): number {
    const numbers = Array.from({ length: MOST_SESSIONS }, (_, number) => number);
    const session = numbers.find((number) => !this.session.has(number));
    if (session === undefined)
      throw new RangeError(`more than ${MOST_SESSIONS} sessions on one connection`);
    this.command({ kind: "open", session, options });
    this.ways.set(session, this.way());
    return session;
  }

  end(session: number): void {
    this.command({ kind: "end", session });
    const way = this.wayOf(session);
    this.ways.delete(session);
    const state = { kind: "closed", code: 1000, reason: "the session is ended" } as const;
    for (const listener of way.listeners) listener(state);
  }

  connect(): void {
    if (!this.session.isOver) return;
    if (this.page) this.leavePage = this.follow(this.page);
    this.command({ kind: "connect" });
  }

  command(command: Command): void {
    this.handle({ kind: "command", command });
  }

  ask<T>(question: Question, session = FIRST_SESSION): Promise<T> {
    return this.tickets.open((ticket) => this.command({ kind: "ask", session, ticket, question }));
  }

  private way(): Way {
    const way: Way = {
      tell: () => {},
      listeners: new Set(),
      deliveries: new Deliveries(this.clock, {
        happened: (happening) => way.tell(happening),
        gap: (topic, missed) => this.tellGap(way, topic, missed),
        settled: () => this.handle({ kind: "delivered", behind_ms: this.behind() }),
      }),
    };
    return way;
  }

  /** @throws {RangeError} if the session has ended */
  private wayOf(session: number): Way {
    const way = this.ways.get(session);
    if (way) return way;
    throw new RangeError("the session is ended");
  }

  private behind(): number {
    return Math.max(...[...this.ways.values()].map(({ deliveries }) => deliveries.behind()));
  }

  private handle(input: Input, now = this.clock.now()): void {
    this.session.handle({ now, wall: this.clock.wall() }, input, this.out);
    this.alarm.arm(this.session.deadline);
  }

  private perform(output: Output): void {
    switch (output.kind) {
      case "connect":
        return this.dial();
      case "send":
        return this.connection?.send(output.text);
      case "disconnect":
        return this.drop();
      case "event":
      case "update":
      case "flush":
      case "drop":
      case "discard": {
        const way = this.ways.get(output.session ?? FIRST_SESSION);
        return way && this.handOver(way, output);
      }
      case "turn":
        return this.clock.soon(() => this.handle({ kind: "turn" }));
      case "explain":
        return this.prober?.start((reason) => this.handle({ kind: "explained", reason }));
      case "explain_no_more":
        return this.prober?.stop();
      case "answered":
        return this.tickets.resolve(output.ticket, output.answer);
      case "failed":
        return this.tickets.reject(output.ticket, output.error);
      default:
        output satisfies never;
    }
  }

  private handOver(way: Way, output: Extract<Output, { session?: number }>): void {
    switch (output.kind) {
      case "event":
        if (output.type === "state") this.enter(output.event);
        return way.tell(output);
      case "update":
        return way.deliveries.fold(output.update);
      case "flush":
        return way.deliveries.flush();
      case "drop":
        return way.deliveries.drop();
      case "discard":
        return way.deliveries.close();
      default:
        output satisfies never;
    }
  }

  private dial(): void {
    this.connection = this.transport.open(this.url, {
      opened: () => this.handle({ kind: "connected" }),
      text: (text) => this.handle({ kind: "text", text }),
      binary: (bytes) => this.handle({ kind: "binary", bytes }),
      closed: (code, reason, atOnce = false) =>
        this.handle({ kind: "closed", code, reason, atOnce }),
    });
  }

  private drop(): void {
    const { connection } = this;
    this.connection = null;
    connection?.close();
  }

  private follow(page: PageLike): () => void {
    const tell = (change: "sleep" | "wake" | "stir") => () => this.handle({ kind: "page", change });
    return followPresence(page, { sleep: tell("sleep"), wake: tell("wake"), stir: tell("stir") });
  }

  private enter(state: ConnectionState): void {
    this.state = state;
    for (const { listeners } of this.ways.values())
      for (const listener of listeners) listener(state);
    if (state.kind !== "closed") return;
    this.leavePage();
    this.leavePage = () => {};
  }

  private tellGap(way: Way, topic: Topic, missed: number): void {
    if (missed === 0) return;
    this.session.counters.missed += missed;
    way.tell({ kind: "event", type: "gap", event: { topic, missed } });
  }
}

/** From a session to the application. */
interface Way {
  readonly deliveries: Deliveries;
  /** Of its loops. */
  readonly listeners: Set<(state: ConnectionState) => void>;
  tell: (happening: Happening) => void;
}

/** @throws {TypeError} if there is nothing to reach a server with */
function transportOf(
  url: string,
  { WebSocket = globalThis.WebSocket, transports = TRANSPORTS, memory }: ClientOptions,
  fetch: typeof globalThis.fetch | null,
  clock: Required<Clock>,
): Transport {
  const made = transports.flatMap((name): Named[] => {
    switch (name) {
      case "websocket":
        return WebSocket ? [new WebSocketTransport(WebSocket, clock)] : [];
      case "sse":
        return fetch ? [new SseTransport(fetch, clock)] : [];
      case "poll":
        return fetch ? [new PollTransport(fetch, clock)] : [];
      default:
        name satisfies never;
        throw new TypeError(
          `transports: there is no ${String(name)}, but ${TRANSPORTS.join(", ")}`,
        );
    }
  });
  const [only, ...more] = made;
  if (!only)
    throw new TypeError(
      "there is no WebSocket here: pass one, as in new TickcastClient(url, { WebSocket }) with that of the package ws",
    );
  if (more.length === 0) return only;
  return new AutomaticTransport(made, memory ?? memoryOf(url), clock);
}

const TRANSPORTS = ["websocket", "sse", "poll"] as const;

/** By the browser, where it keeps anything for this page; workers and Node have no such thing. */
function memoryOf(url: string): TransportMemory {
  const key = `tickcast transport ${new URL(url, globalThis.location?.href).origin}`;
  let kept: string | null = null;
  const storage = () => globalThis.localStorage as Storage | undefined;
  return {
    get() {
      try {
        return storage()?.getItem(key) ?? kept;
      } catch {
        return kept; // denied
      }
    },
    set(name) {
      kept = name;
      try {
        storage()?.setItem(key, name);
      } catch {
        // Denied, or full: it is remembered as long as the client lives.
      }
    },
  };
}
