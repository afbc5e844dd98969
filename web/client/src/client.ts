/**
 * The public API: each method is one command to the {@link "./shell".Shell}.
 *
 * Invariant: it decides nothing and keeps nothing.
 */

import type {
  ClientEvents,
  ClientOptions,
  ConnectionState,
  Counters,
  Ping,
  SubscribeOptions,
} from "./api.js";
import { systemClock, type Clock } from "./clock.js";
import { FurtherSession, SessionApi } from "./further-session.js";
import type { Post, Published, ReplayState, Welcome } from "./protocol.js";
import { ReplayControl } from "./replay.js";
import { FIRST_SESSION } from "./session-number.js";
import { Shell } from "./shell.js";
import type { TransportName } from "./transport.js";
import type { WebSocketLike } from "./transports/websocket.js";

export type * from "./api.js";
export { systemClock, type Clock, type FurtherSession, type WebSocketLike };

/**
 * A session with a server that survives lost connections: it reconnects by itself, resumes where it was,
 * and reports so by `state` events. Create, listen with {@link on}, {@link connect}.
 */
export class TickcastClient extends SessionApi<ClientEvents> {
  /** Of all its sessions. */
  readonly counters: Counters;
  /** Plays, pauses and seeks what the server plays. */
  readonly replay: ReplayControl;

  /**
   * @param url of the endpoint, as in `wss://example.com/v1/ws`
   * @throws {TypeError} if there is neither a WebSocket nor `fetch`, and no transport was given
   */
  constructor(
    readonly url: string,
    options: ClientOptions = {},
  ) {
    const shell = new Shell(url, options);
    super(shell, FIRST_SESSION);
    this.counters = shell.session.counters;
    this.replay = new ReplayControl((action) =>
      shell.ask<ReplayState>({ op: "replay", ...action }),
    );
  }

  /**
   * One more session over the same connection, with its own topics, rate cap and position on the tape: for topics that should come
   * slower or faster than the rest. It reconnects with the connection.
   *
   * @throws {RangeError} beyond 16 sessions, or if `maxHz` is out of its range
   */
  openSession(options: SubscribeOptions = {}): FurtherSession {
    return new FurtherSession(this.shell, this.shell.open(options));
  }

  get state(): ConnectionState {
    return this.shell.state;
  }

  /** The server's welcome; null while there is no session. */
  get session(): Welcome | null {
    return this.shell.session.welcome;
  }

  /** What it is connected by; null while it is not. */
  get transport(): TransportName | null {
    return this.shell.transportName;
  }

  /** Connects, and keeps connected until {@link close}. */
  connect(): void {
    this.shell.connect();
  }

  /** Ends a wait between two attempts. */
  reconnectNow(): void {
    this.shell.command({ kind: "reconnect" });
  }

  /** Ends it: handlers are called no more, and nothing keeps the program running. */
  close(): void {
    this.shell.command({ kind: "close" });
  }

  /**
   * Posts a message to a channel (`messages:CHANNEL`), or sets or ends a state in it (`states:CHANNEL`).
   *
   * @returns the position at which it is on the tape; rejects if there is no session, it ends, or the server refuses
   */
  publish(post: Post): Promise<Published> {
    return this.shell.ask({ op: "publish", ...post });
  }

  /**
   * Requests the server's time.
   *
   * @returns rejects if there is no session, or it ends
   */
  ping(): Promise<Ping> {
    return this.shell.ask({ op: "ping" });
  }
}
