/**
 * WebSocket: that of browsers and Node, or of the package `ws`, which reports more.
 *
 * Invariant: no event comes after `close`.
 */

import { reasonOf } from "../backoff.js";
import type { Clock } from "../clock.js";
import { joined, problem, PROBE_TIMEOUT_MS, PROBLEM_BYTES } from "../probe.js";
import { SUBPROTOCOL } from "../protocol.js";
import type { Connection, Transport, TransportEvents } from "../transport.js";

/** The part of the browser's WebSocket that is used; that of the package `ws` fits as well. */
export interface WebSocketLike {
  binaryType: string;
  onmessage: Handler<{ data: unknown }>;
  onclose: Handler<{ code: number; reason: string }>;
  onerror: Handler<object>;
  send(text: string): void;
  close(code?: number, reason?: string): void;
}

// As a method it takes the events of either implementation, each of which has more fields than are used.
type Handler<Event> = { handle(event: Event): void }["handle"] | null;

export type WebSocketClass = new (url: string, protocols: string[]) => WebSocketLike;

/** How long the closing handshake may take. */
const CLOSING_MS = 200;

/** What others have in addition: `ws` reports the answer to a refused handshake, and can be ended at once. */
interface MoreSocket {
  onopen?: Handler<object>;
  on?(event: "unexpected-response", listener: (request: object, response: Response) => void): void;
  terminate?(): void;
}

/** The part of Node's `IncomingMessage` that is used. */
interface Response {
  statusCode?: number;
  statusMessage?: string;
  on(event: "data", listener: (data: Uint8Array) => void): void;
  on(event: "end" | "close" | "error", listener: () => void): void;
}

export class WebSocketTransport implements Transport {
  readonly name = "websocket";
  readonly tells: boolean;

  constructor(
    private readonly WebSocket: WebSocketClass,
    private readonly clock: Clock,
  ) {
    this.tells = typeof (WebSocket.prototype as MoreSocket | undefined)?.on === "function";
  }

  open(url: string, events: TransportEvents): Connection {
    return new WebSocketConnection(new this.WebSocket(url, [SUBPROTOCOL]), this.clock, events);
  }
}

class WebSocketConnection implements Connection {
  private began = false;
  private over = false;
  private failure = "";

  constructor(
    private readonly socket: WebSocketLike & MoreSocket,
    private readonly clock: Clock,
    private readonly events: TransportEvents,
  ) {
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      if (!this.over) events.opened();
    };
    socket.onmessage = ({ data }) => {
      this.began = true;
      if (this.over) return;
      if (data instanceof ArrayBuffer) events.binary(new Uint8Array(data));
      else events.text(String(data));
    };
    socket.onclose = ({ code, reason }) =>
      this.end(code, reason || (this.began ? "" : this.failure));
    // A close event follows; but only this event says what failed, and only in Node.
    socket.onerror = (event) => (this.failure = (event as { message?: string }).message ?? "");
    socket.on?.("unexpected-response", (_, response) => this.refused(response));
  }

  send(text: string): void {
    this.socket.send(text);
  }

  /** Ends it without a call of {@link TransportEvents}; nothing keeps the program running. */
  close(): void {
    this.over = true;
    this.socket.close();
    if (!this.socket.terminate) return;
    // The other end may be gone, and the closing handshake would take half a minute.
    const timer: unknown = setTimeout(() => this.socket.terminate?.(), CLOSING_MS);
    (timer as { unref?(): void }).unref?.();
  }

  private end(code: number, reason: string): void {
    if (this.over) return;
    this.over = true;
    this.events.closed(code, reasonOf(code, reason));
  }

  /** The handshake was answered with another status: the body says why. */
  private refused(response: Response): void {
    let body = new Uint8Array();
    const done = () => {
      cancel();
      this.end(1006, problem(response.statusCode ?? 0, response.statusMessage ?? "", body));
    };
    const cancel = this.clock.after(PROBE_TIMEOUT_MS, done);
    response.on("data", (data) => {
      body = joined(body, data);
      if (body.length >= PROBLEM_BYTES) done();
    });
    for (const event of ["end", "close", "error"] as const) response.on(event, done);
  }
}
