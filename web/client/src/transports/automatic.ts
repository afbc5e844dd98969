/**
 * The first of several transports that gets through: {@link "../choice".Choice} decides, and this does it.
 *
 * Invariant: of the connections that are open one is the session's at most, and what others have brought before one is taken is kept for it.
 */

import type { Clock } from "../clock.js";
import { Choice, type ChoiceOutput } from "../choice.js";
import type { Connection, Transport, TransportEvents, TransportName } from "../transport.js";

export interface Named extends Transport {
  readonly name: TransportName;
}

/** Keeps the name of the transport that served last. */
export interface TransportMemory {
  get(): string | null;
  set(name: TransportName): void;
}

/** One that is open, and what it has brought that nobody has taken yet. */
interface Candidate {
  readonly connection: Connection;
  readonly brought: ((events: TransportEvents) => void)[];
  events: TransportEvents | null;
}

export class AutomaticTransport implements Transport {
  readonly tells: boolean;
  private readonly choice: Choice;
  /** A better connection, for the session that comes over. */
  private better: { readonly name: TransportName; readonly candidate: Candidate } | null = null;

  /** @param transports the best first */
  constructor(
    private readonly transports: readonly Named[],
    private readonly memory: TransportMemory,
    private readonly clock: Clock,
  ) {
    const [first] = transports;
    this.tells = first!.tells;
    const order = transports.map(({ name }) => name);
    this.choice = new Choice(order, memory.get() as TransportName | null);
  }

  open(url: string, events: TransportEvents): Connection {
    const { better } = this;
    this.better = null;
    return new Attempt(
      {
        choice: this.choice,
        clock: this.clock,
        first: this.transports[0]!.name,
        open: (name, events) =>
          this.transports.find((other) => other.name === name)!.open(url, events),
        remember: (name) => this.memory.set(name),
        keep: (name, candidate) => this.keep(name, candidate),
      },
      events,
      better,
    );
  }

  private keep(name: TransportName, candidate: Candidate): void {
    const better = { name, candidate };
    this.better = better;
    this.clock.after(KEPT_MS, () => {
      if (this.better !== better) return;
      this.better = null;
      candidate.connection.close();
    });
  }
}

/** How long a connection is kept for a session that is coming over, which takes no time. */
const KEPT_MS = 1_000;

interface AttemptHost {
  readonly choice: Choice;
  readonly clock: Clock;
  /** Whose failure is told when all have failed. */
  readonly first: TransportName;
  open(name: TransportName, events: TransportEvents): Connection;
  remember(name: TransportName): void;
  keep(name: TransportName, candidate: Candidate): void;
}

/** One connection of a session: attempts until one is taken, then that one. */
class Attempt implements Connection {
  transport: TransportName | null = null;
  private readonly candidates = new Map<TransportName, Candidate>();
  private readonly failures = new Map<TransportName, readonly [number, string]>();
  private cancel = () => {};
  private isOver = false;
  /** The one that a session is to come over to. */
  private found: TransportName | null = null;

  constructor(
    private readonly host: AttemptHost,
    private readonly events: TransportEvents,
    better: { readonly name: TransportName; readonly candidate: Candidate } | null,
  ) {
    const { choice, clock } = host;
    if (!better) {
      this.perform(choice.begin(clock.now()));
      return;
    }
    const { name, candidate } = better;
    this.candidates.set(name, candidate);
    candidate.events = this.eventsOf(name);
    // Events come after the session has its connection.
    this.cancel = clock.after(0, () => this.perform(choice.goesOver(clock.now(), name)));
  }

  send(text: string): void {
    if (this.transport !== null) this.candidates.get(this.transport)?.connection.send(text);
  }

  close(): void {
    this.isOver = true;
    this.cancel();
    this.host.choice.close();
    for (const [name, candidate] of this.candidates)
      if (name !== this.found) candidate.connection.close();
    this.candidates.clear();
  }

  private perform(outputs: readonly ChoiceOutput[]): void {
    for (const output of outputs) {
      if (this.isOver) return;
      switch (output.kind) {
        case "try":
          this.try(output.name);
          break;
        case "drop":
          this.drop(output.name);
          break;
        case "take":
          this.take(output.name);
          break;
        case "over":
          return this.end(output.atOnce);
        default:
          output satisfies never;
      }
    }
    this.cancel();
    if (this.isOver) return;
    const { choice, clock } = this.host;
    if (choice.deadline === Infinity) return;
    this.cancel = clock.after(Math.max(0, choice.deadline - clock.now()), () =>
      this.perform(choice.tick(clock.now())),
    );
  }

  private try(name: TransportName): void {
    const brought: Candidate["brought"] = [];
    const events = this.eventsOf(name);
    const candidate: { -readonly [Key in keyof Candidate]?: Candidate[Key] } = { brought, events };
    this.candidates.set(name, candidate as Candidate);
    const pass = (act: (events: TransportEvents) => void) => act(candidate.events!);
    candidate.connection = this.host.open(name, {
      opened: () => pass((events) => events.opened()),
      text: (text) => pass((events) => events.text(text)),
      binary: (bytes) => pass((events) => events.binary(bytes)),
      closed: (code, reason) => pass((events) => events.closed(code, reason)),
    });
  }

  /** What a candidate brings goes to the session once it is taken, and until then is kept. */
  private eventsOf(name: TransportName): TransportEvents {
    const on = (act: (events: TransportEvents) => void) => {
      if (this.transport === name) return act(this.events);
      this.candidates.get(name)?.brought.push(act);
    };
    const heard = (act: (events: TransportEvents) => void) => {
      on(act);
      const { choice, clock } = this.host;
      if (this.transport === name) return;
      if (this.transport !== null) this.found = name;
      this.perform(choice.heard(clock.now(), name));
    };
    return {
      // That it is open proves nothing: a proxy may have answered.
      opened: () => on((events) => events.opened()),
      text: (text) => heard((events) => events.text(text)),
      binary: (bytes) => heard((events) => events.binary(bytes)),
      closed: (code, reason) => {
        this.failures.set(name, [code, reason]);
        this.candidates.delete(name);
        const { choice, clock } = this.host;
        this.perform(choice.failed(clock.now(), name));
      },
    };
  }

  private drop(name: TransportName): void {
    this.candidates.get(name)?.connection.close();
    this.candidates.delete(name);
  }

  private take(name: TransportName): void {
    this.transport = name;
    this.host.remember(name);
    const brought = this.candidates.get(name)?.brought.splice(0) ?? [];
    for (const act of brought) if (!this.isOver) act(this.events);
  }

  private end(atOnce: boolean): void {
    const { found } = this;
    const candidate = found !== null ? this.candidates.get(found) : undefined;
    if (atOnce && found !== null && candidate) {
      // Until the next attempt takes it over.
      candidate.events = {
        opened: () => {},
        text: (text) => candidate.brought.push((events) => events.text(text)),
        binary: (bytes) => candidate.brought.push((events) => events.binary(bytes)),
        closed: (code, reason) => candidate.brought.push((events) => events.closed(code, reason)),
      };
      this.host.keep(found, candidate);
    }
    const ofTransport = this.transport ?? this.host.first;
    const [code, reason] = this.failures.get(ofTransport) ?? [1006, "nothing got through"];
    const { events } = this;
    this.close();
    if (atOnce) events.closed(1006, `${found} gets through again`, true);
    else events.closed(code, reason);
  }
}
