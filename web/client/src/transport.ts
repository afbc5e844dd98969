/**
 * How a session reaches its server: how connections are opened. `transports/` holds one transport a file.
 *
 * What each transport must promise:
 *
 * - `open` returns before the first event, and throws only if no attempt could ever be made (a malformed address).
 * - Messages come one by one, complete, in the order in which the server wrote them: `binary` has the bytes of one frame of
 *   `tickcast.v1.msgpack`, so a transport that carries text decodes it first. None is dropped; the
 *   connection is closed instead.
 * - Requests reach the server in the order in which they were sent, each once. A one-way transport posts them
 *   over another channel, one after the other, and fails entirely if one of them cannot be delivered. `send` never waits, and is
 *   called only after a message has come.
 * - `closed` comes once, as the last event, whichever side ended it, but never after `close`: then no event comes any more,
 *   and within moments nothing keeps the program running.
 * - It keeps no clock for the session: no retries, no heartbeat, no time limit on opening. Those are the session's.
 */
export interface Transport {
  /** Default: `other`. */
  readonly name?: TransportName;
  /** Whether `closed` says why opening failed; else the client asks by HTTP. */
  readonly tells: boolean;
  /** Begins one connection to `url`. */
  open(url: string, events: TransportEvents): Connection;
}

/** `other`: of the application's own making. */
export type TransportName = "websocket" | "sse" | "poll" | "other";

export interface Connection {
  /** What it goes over, where several are tried; null before that is known. */
  readonly transport?: TransportName | null;
  /** One request, as JSON. */
  send(text: string): void;
  close(): void;
}

export interface TransportEvents {
  /** It is open, if nothing came yet. A transport that cannot know this leaves it out. */
  opened(): void;
  text(text: string): void;
  binary(bytes: Uint8Array): void;
  /**
   * @param code of WebSocket and of `docs/protocol.md`; 1006 if none came
   * @param atOnce a better connection is there: the session goes on over it without a wait
   */
  closed(code: number, reason: string, atOnce?: boolean): void;
}
