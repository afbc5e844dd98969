import { encode } from "@msgpack/msgpack";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Input, Output } from "../src/io.js";
import type { InstrumentNumber } from "../src/protocol.js";
import { Session } from "../src/session.js";
import { welcome } from "./fakes.js";
import { AAPL } from "./frames.js";

/** Random histories of a session, with a server of a few obvious lines at its other end. */

const SYMBOLS = ["AAPL", "MSFT"];
const TRADES = "trades:AAPL";
const QUOTES = SYMBOLS.map((symbol) => `quote:${symbol}`);

/** What every connection of the server reads: one instrument's trades, and a bid for each. */
interface Market {
  epoch: number;
  position: number;
  trades: { at: number }[];
  bids: { at: number; bid: number }[];
}

interface Asked {
  op: string;
  id: number;
  topics: string[];
  since?: { epoch: number; position: number };
}

/** The server's end of one connection. What is in `line` is lost with it. */
class Connection {
  readonly line: Uint8Array[] = [];
  private readonly inbox: Asked[] = [];
  /** Up to where each granted topic was sent. */
  private readonly sent = new Map<string, number>();
  private readonly defined = new Set<number>();
  private position: number;

  constructor(private readonly market: Market) {
    this.position = market.position;
    this.write(welcome(market.epoch, market.position));
  }

  take(text: string): void {
    this.inbox.push(JSON.parse(text) as Asked);
  }

  /** All that was asked for was answered, `topic` among it, and all that was sent has been read. */
  isSettledOf(topic: string): boolean {
    return this.sent.has(topic) && this.inbox.length === 0 && this.line.length === 0;
  }

  /** Answers what was asked, and sends what is owed. */
  serve(): void {
    for (const { op, id, topics, since } of this.inbox.splice(0))
      this.answer(op, id, topics, since);
    const { market } = this;
    const values: unknown[] = [market.position - this.position, 0];
    for (const [topic, from] of this.sent) {
      if (topic === TRADES) this.tradesSince(from, values);
      else this.bidSince(QUOTES.indexOf(topic), from, values);
      this.sent.set(topic, market.position);
    }
    this.position = market.position;
    if (this.sent.size > 0) this.write(values);
  }

  private answer(op: string, id: number, topics: string[], since: Asked["since"]): void {
    const { market } = this;
    if (op === "ping") return this.write({ type: "pong", id, time: 0, position: this.position });
    const answers = topics.map((topic) => ({ topic }));
    if (op === "unsubscribe") {
      for (const topic of topics) this.sent.delete(topic);
      return this.write({ type: "unsubscribed", id, topics: answers });
    }
    const resumed = since?.epoch === market.epoch;
    for (const topic of topics) this.sent.set(topic, resumed ? since.position : -1);
    this.write({
      type: "subscribed",
      id,
      epoch: market.epoch,
      position: market.position,
      ...(since ? { resumed } : {}),
      topics: answers,
    });
  }

  private tradesSince(from: number, values: unknown[]): void {
    const { trades } = this.market;
    // A first image states where the ring goes on; what it held before is not sent.
    const first = from < 0 ? trades.length : trades.filter(({ at }) => at <= from).length;
    const count = trades.length - first;
    if (count === 0 && from >= 0) return;
    this.define(0, values);
    const entries = Array.from({ length: count }, (_, i) => [i === 0 ? 42 : 1, 0, 1, 100]);
    values.push(3, 33, first, count, ...entries.flat());
  }

  private bidSince(instrument: number, from: number, values: unknown[]): void {
    const { at, bid } = this.market.bids[instrument]!;
    if (at <= from) return;
    this.define(instrument, values);
    values.push(3 + instrument, 1, bid);
  }

  private define(instrument: number, values: unknown[]): void {
    if (this.defined.has(instrument)) return;
    this.defined.add(instrument);
    values.push(3 + instrument, 63, { ...AAPL, symbol: SYMBOLS[instrument] });
  }

  private write(message: object): void {
    this.line.push(encode(message).slice());
  }
}

class World {
  readonly market: Market = {
    epoch: 7,
    position: 1,
    trades: [],
    bids: SYMBOLS.map(() => ({ at: 1, bid: 0 })),
  };
  readonly session = new Session({ random: () => 0.5, canExplain: false });
  readonly wanted = new Set<string>();
  readonly open = new Set<number>();
  private connection: Connection | null = null;
  private now = 1_000;
  private turns = 0;
  private tickets = 0;
  private expectsErrors = false;
  /** All trades of this epoch up to some moment were had, from the first that was. */
  private hasTrades = false;
  /** The number that the next trade must have, the missed ones counted; null before the first of an epoch. */
  private next: number | null = null;

  constructor() {
    this.subscribe([TRADES]);
    this.hand({ kind: "command", command: { kind: "connect" } });
  }

  hand(input: Input): void {
    const out: Output[] = [];
    this.session.handle({ now: this.now, wall: this.now }, input, out);
    for (const output of out) this.perform(output);
  }

  private perform(output: Output): void {
    switch (output.kind) {
      case "connect":
        expect(this.connection).toBeNull();
        this.connection = new Connection(this.market);
        break;
      case "disconnect":
        expect(this.connection).not.toBeNull();
        this.connection = null;
        break;
      case "send":
        expect(this.session.welcome).not.toBeNull();
        this.connection!.take(output.text);
        break;
      case "turn":
        this.turns++;
        break;
      case "answered":
      case "failed":
        expect(this.open.delete(output.ticket)).toBe(true);
        break;
      case "event":
        if (output.type === "error") expect(this.expectsErrors).toBe(true);
        if (output.type !== "replaced") break;
        this.next = null;
        this.hasTrades = false;
        break;
      case "update":
        for (const change of output.update.changes) {
          if (change.kind !== "trades") continue;
          // The server keeps all of them, so that what was had once is resumed without a gap.
          if (this.hasTrades) expect(change.missed).toBe(0);
          if (this.next !== null) this.next += change.missed;
          for (const { number } of change.trades) {
            expect(number).toBe((this.next ??= number));
            this.next++;
          }
        }
        break;
      default:
    }
  }

  trade(count: number): void {
    this.market.position++;
    for (let i = 0; i < count; i++) this.market.trades.push({ at: this.market.position });
  }

  quote(instrument: number, bid: number): void {
    this.market.bids[instrument] = { at: ++this.market.position, bid };
  }

  subscribe(topics: string[]): void {
    for (const topic of topics) this.wanted.add(topic);
    this.hand({ kind: "command", command: { kind: "subscribe", topics, options: {} } });
  }

  unsubscribe(topics: string[]): void {
    for (const topic of topics) this.wanted.delete(topic);
    this.hand({ kind: "command", command: { kind: "unsubscribe", topics } });
  }

  ping(): void {
    const ticket = ++this.tickets;
    this.open.add(ticket);
    this.hand({ kind: "command", command: { kind: "ask", ticket, question: { op: "ping" } } });
  }

  turn(): void {
    for (; this.turns > 0; this.turns--) this.hand({ kind: "turn" });
  }

  serve(): void {
    this.connection?.serve();
  }

  /** So many messages arrive. */
  read(count: number): void {
    for (; count > 0 && this.connection; count--) {
      const bytes = this.connection.line.shift();
      if (!bytes) return;
      this.hand({ kind: "binary", bytes });
    }
  }

  lose(): void {
    if (!this.connection) return;
    const before = this.connection;
    this.ignoringErrors(() => this.hand({ kind: "closed", code: 1012, reason: "" }));
    expect(this.connection).not.toBe(before);
  }

  /** The server begins another tape. */
  restart(): void {
    const { market } = this;
    Object.assign(market, { epoch: market.epoch + 1, position: 1, trades: [] });
    market.bids = SYMBOLS.map((_, i) => ({ at: 1, bid: 1_000 * market.epoch + i }));
    this.lose();
  }

  pass(ms: number): void {
    const end = this.now + ms;
    for (; this.session.deadline <= end;) {
      this.now = Math.max(this.now, this.session.deadline);
      this.ignoringErrors(() => this.hand({ kind: "tick", behind_ms: 0 }));
    }
    this.now = end;
  }

  /** That a connection is lost is an error that is expected. */
  private ignoringErrors(act: () => void): void {
    this.expectsErrors = true;
    act();
    this.expectsErrors = false;
  }

  /** A connection that works: what is to be sent is, and all that comes is read. */
  flow(): void {
    this.turn();
    this.serve();
    this.read(Infinity);
    if (this.connection?.isSettledOf(TRADES)) this.hasTrades = true;
  }

  /** All that was asked for is answered, and all that is owed has come. */
  settle(): void {
    for (let i = 0; i < 12; i++) {
      this.flow();
      this.pass(1_000);
    }
  }

  check(): void {
    expect(this.open.size).toBe(0);
    expect(this.session.welcome).not.toBeNull();
    const { image } = this.session;
    SYMBOLS.forEach((symbol, i) => {
      const instrument = image.find(symbol);
      const quote = instrument && image.quote(instrument.number);
      const bid = Number(quote?.bid ?? NaN) - Number(instrument?.anchor ?? NaN);
      const expected = this.wanted.has(QUOTES[i]!) ? this.market.bids[i]!.bid : NaN;
      expect(bid).toBe(expected);
    });
    const trades = image.instrument(3 as InstrumentNumber);
    if (this.next !== null && trades) expect(this.next).toBe(this.market.trades.length);
  }
}

const instruments = fc.nat(SYMBOLS.length - 1);
const does = (weight: number, name: string, act: (it: World) => void) => ({
  weight,
  arbitrary: fc.constant({ name, act }),
});
const operations = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.nat(2).map((n) => ({ name: `trade ${n}`, act: (it: World) => it.trade(n + 1) })),
  },
  {
    weight: 6,
    arbitrary: fc
      .tuple(instruments, fc.nat(1_000))
      .map(([i, bid]) => ({ name: `quote ${i} ${bid}`, act: (it: World) => it.quote(i, bid) })),
  },
  {
    weight: 4,
    arbitrary: instruments.map((i) => ({
      name: `subscribe ${i}`,
      act: (it: World) => it.subscribe([QUOTES[i]!]),
    })),
  },
  {
    weight: 4,
    arbitrary: instruments.map((i) => ({
      name: `unsubscribe ${i}`,
      act: (it: World) => it.unsubscribe([QUOTES[i]!]),
    })),
  },
  {
    weight: 6,
    arbitrary: fc.nat(2).map((n) => ({ name: `read ${n}`, act: (it: World) => it.read(n + 1) })),
  },
  does(6, "turn", (it) => it.turn()),
  does(6, "serve", (it) => it.serve()),
  does(8, "flow", (it) => it.flow()),
  does(2, "ping", (it) => it.ping()),
  does(2, "lose", (it) => it.lose()),
  does(1, "restart", (it) => it.restart()),
  does(4, "pass 400", (it) => it.pass(400)),
  does(1, "pass 6,000", (it) => it.pass(6_000)),
);

test("whatever happens, a session ends with the server's image, every trade once and every question answered", () => {
  fc.assert(
    fc.property(fc.array(operations, { size: "max", maxLength: 80 }), (history) => {
      const it = new World();
      for (const { act } of history) act(it);
      it.settle();
      it.check();
      // And it goes on.
      it.trade(1);
      it.quote(0, 1);
      it.settle();
      it.check();
    }),
    { numRuns: 1_000 },
  );
});
