/** What the client's methods take, and what its events carry. */

import type { Clock } from "./clock.js";
import type { PageLike } from "./presence.js";
import type {
  Change,
  Cursor,
  Epoch,
  Goodbye,
  Pong,
  Stats,
  Subscribed,
  Topic,
  Update,
} from "./protocol.js";
import type { ServerStats } from "./server-stats.js";
import type { Transport } from "./transport.js";
import type { TransportMemory } from "./transports/automatic.js";
import type { WebSocketClass } from "./transports/websocket.js";

/** Whether `image` holds the present. */
export type ConnectionState =
  | { readonly kind: "connecting" }
  | { readonly kind: "live" }
  /**
   * Connected, but what handlers receive is that old: they, or the network, are slower than the market. Sent again at most
   * once a second.
   */
  | { readonly kind: "lagging"; readonly by_ms: number }
  /** Connected, but nothing came for two heartbeats. */
  | { readonly kind: "stale"; readonly heard_at: number }
  /**
   * `retry_at` is null while attempt `attempt` is being made, and while the page is suspended. Times are the clock's, in ms.
   * `code` and `reason` say why there is no connection; the code is 1006 if no Close frame came.
   */
  | {
      readonly kind: "reconnecting";
      readonly attempt: number;
      readonly retry_at: number | null;
      readonly code: number;
      readonly reason: string;
    }
  /** Will not reconnect: closed by the application, or for a reason that retrying does not fix. */
  | { readonly kind: "closed"; readonly code: number; readonly reason: string };

export interface ClientEvents {
  state: ConnectionState;
  /**
   * What has come since the last call of the handler: see `on`. The image may be newer than
   * the update, never older.
   */
  update: Update;
  /**
   * Exactly `missed` entries of the ring `topic` were lost: to this session, or to a handler or loop that was too slow for
   * them.
   */
  gap: { readonly topic: Topic; readonly missed: number };
  /** A lost session was continued: nothing that the rings still held was lost. */
  resumed: Cursor;
  /**
   * Everything kept was dropped, and comes again: the server's tape is another one, or goes on at another moment, as after a
   * seek in a replay; or a frame was malformed. Emitted before the update with the new state.
   */
  replaced: { readonly epoch: Epoch };
  /** The state of the market, an instrument or the feed changed. */
  status: Extract<Change, { kind: "trading" | "feed" }>;
  /** Messages of a channel, if its topic `messages:CHANNEL` is subscribed to. */
  messages: Extract<Change, { kind: "messages" }>;
  /** States of a channel, if `states:CHANNEL` is; all of them are in the image. */
  states: Extract<Change, { kind: "states" }>;
  subscribed: Subscribed;
  /** The statistics of this session, each second after `requestStats`. */
  stats: Stats;
  /** The server's own figures, if the topic `stats` is subscribed to. */
  server: ServerStats;
  /**
   * A request, one topic of it, or a frame was wrong; or there is no connection (`disconnected`), and why. The client
   * continues by itself, unless it says `closed`.
   */
  error: { readonly code: string; readonly message: string; readonly topic?: Topic };
  goodbye: Goodbye;
}

/** The events of each session over a connection. */
export type SessionEvents = Pick<
  ClientEvents,
  | "update"
  | "gap"
  | "resumed"
  | "replaced"
  | "status"
  | "messages"
  | "states"
  | "subscribed"
  | "stats"
  | "server"
  | "error"
>;

export interface SubscribeOptions {
  /** Updates a second at most, for the entire session: 0.1 to 1,000; null lifts the cap. */
  maxHz?: number | null;
  /** Whether quotes carry `ts_event`, for the entire session. */
  times?: boolean;
}

export interface ClientOptions {
  /** Default: the global one, which browsers, workers and Node since 22 have. */
  WebSocket?: WebSocketClass;
  /**
   * What the server is reached by, the best first: the first that gets through is used, and given up for a better one when that does.
   * Default: all three, of those that there is a `WebSocket` or `fetch` for.
   */
  transports?: readonly ("websocket" | "sse" | "poll")[];
  /** Remembers which one served last. Default: the browser's `localStorage`, if there is one. */
  memory?: TransportMemory;
  /** Another transport to the server, in place of these. */
  transport?: Transport;
  /** Default: that of the system. */
  clock?: Clock;
  /** In [0, 1). Default: `Math.random`. */
  random?: () => number;
  /**
   * For streams and polls, and to ask why a handshake failed, if the WebSocket does not say. Default: the global one; null: nothing goes
   * by HTTP.
   */
  fetch?: typeof globalThis.fetch | null;
  /** Whose suspend, resume and network events are followed. Default: the window or worker, if there is one; null for none. */
  page?: PageLike | null;
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
  /** Null if the server has no checksum for it: `reason` says why. */
  readonly matches: boolean | null;
  readonly reason?: string;
}

/** An answer to `ping`; times of the client are its clock's, in ms. */
export interface Ping extends Pong {
  readonly sent_at: number;
  readonly received_at: number;
}

/** Since the client was made. */
export interface Counters {
  frames: number;
  bytes: number;
  /** What updates carried: changed images and ring entries. */
  changes: number;
  missed: number;
  reconnects: number;
}
