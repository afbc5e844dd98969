import { encode } from "@msgpack/msgpack";
import type { Connection, Transport, TransportEvents } from "../src/transport.js";
import type { FakeClock } from "./fakes.js";

/** What becomes of one attempt to connect. */
export type Script =
  | { readonly kind: "works" }
  /** What the server writes takes so long to get here. */
  | { readonly kind: "delays"; readonly ms: number }
  /** It cannot be made. */
  | { readonly kind: "fails"; readonly code: number; readonly reason: string }
  /** It opens, and nothing ever comes of it. */
  | { readonly kind: "half-opens" }
  /** It neither opens nor fails. */
  | { readonly kind: "hangs" };

export interface Sent {
  readonly op: string;
  readonly id: number;
  readonly topics: string[];
  readonly since?: { readonly epoch: number; readonly position: number };
}

/** One connection of a {@link ScriptedTransport}, with the server's end of it. */
export class ScriptedConnection implements Connection {
  readonly sent: Sent[] = [];
  closed = false;
  private isOver = false;

  constructor(
    readonly script: Script,
    private readonly clock: FakeClock,
    private readonly events: TransportEvents,
  ) {
    if (script.kind === "hangs") return;
    if (script.kind === "fails") this.after(0, () => this.end(script.code, script.reason));
    else this.after(this.delay, () => events.opened());
  }

  send(text: string): void {
    if (this.isOver) throw new Error("sent on a connection that is over");
    this.sent.push(JSON.parse(text) as Sent);
  }

  close(): void {
    this.closed = true;
    this.isOver = true;
  }

  /** The server writes a message. */
  write(message: object): void {
    const bytes = encode(message).slice();
    this.after(this.delay, () => this.events.binary(bytes));
  }

  writeText(text: string): void {
    this.after(this.delay, () => this.events.text(text));
  }

  /** The server ends it. */
  drop(code: number, reason = ""): void {
    this.after(this.delay, () => this.end(code, reason));
  }

  private get delay(): number {
    return this.script.kind === "delays" ? this.script.ms : 0;
  }

  private after(ms: number, callback: () => void): void {
    this.clock.after(ms, () => {
      if (!this.isOver) callback();
    });
  }

  private end(code: number, reason: string): void {
    this.isOver = true;
    this.events.closed(code, reason);
  }
}

/** Connects as it is told to, attempt by attempt; after the last of `scripts` all goes well. */
export class ScriptedTransport implements Transport {
  readonly tells = true;
  readonly connections: ScriptedConnection[] = [];

  constructor(
    private readonly clock: FakeClock,
    private readonly scripts: Script[] = [],
  ) {}

  open(_: string, events: TransportEvents): Connection {
    const script = this.scripts.shift() ?? { kind: "works" };
    const connection = new ScriptedConnection(script, this.clock, events);
    this.connections.push(connection);
    return connection;
  }

  /** The newest connection. */
  get last(): ScriptedConnection {
    return this.connections.at(-1)!;
  }
}
