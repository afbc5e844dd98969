import {
  DecodeError,
  type BarTopic,
  type WireBar,
  type WireDefinition,
  type WireEntry,
  type WireQuote,
  type WireUpdate,
} from "./decode.js";
import type {
  Bar,
  Change,
  ClosedBar,
  Epoch,
  Feed,
  Instrument,
  InstrumentNumber,
  Interval,
  Micros,
  Position,
  Quote,
  Side,
  Trade,
  TradingState,
  TradingStatus,
  Units,
  Update,
} from "./protocol.js";
import type { ServerStats } from "./server-stats.js";

/**
 * What a client keeps: its place on the tape, the definitions, and the image of every topic.
 *
 * No I/O and no clock. Its memory is bounded by the instruments of the universe: entries of rings are
 * handed on in the {@link Change} and not kept.
 */
export class Image {
  epoch: Epoch | null = null;
  position = 0 as Position;
  time = 0 as Micros;
  feed: Feed | null = null;
  /** What the server last told of itself. */
  stats: ServerStats | null = null;

  /** A reset was told, and the flush that told of it has not ended: rings begin where the server says. */
  private beginning = false;
  private readonly instruments = new Map<number, Instrument>();
  private readonly quotes = new Map<number, Quote>();
  private readonly bars: Record<BarTopic, Map<number, Bar>> = {
    "1s": new Map(),
    "1m": new Map(),
    day: new Map(),
  };
  private readonly rings: Record<RingTopic, Map<number, Ring>> = {
    trades: new Map(),
    "1s": new Map(),
    "1m": new Map(),
  };
  /** The key null is the market as a whole. */
  private readonly statuses = new Map<number | null, TradingStatus>();

  instrument(number: InstrumentNumber): Instrument | undefined {
    return this.instruments.get(number);
  }

  /** All instruments that were defined. */
  all(): IterableIterator<Instrument> {
    return this.instruments.values();
  }

  /** By symbol, in a scan of all instruments. */
  find(symbol: string): Instrument | undefined {
    for (const instrument of this.instruments.values())
      if (instrument.symbol === symbol) return instrument;
    return undefined;
  }

  quote(number: InstrumentNumber): Readonly<Quote> | undefined {
    return this.quotes.get(number);
  }

  bar(topic: BarTopic, number: InstrumentNumber): Readonly<Bar> | undefined {
    return this.bars[topic].get(number);
  }

  trading(number: InstrumentNumber | null): TradingStatus | undefined {
    return this.statuses.get(number);
  }

  /** Stands at the place a session starts from, which the positions of its updates count from. */
  begin(at: { epoch: Epoch; position: Position; time: Micros }): void {
    this.epoch = at.epoch;
    this.position = at.position;
    this.time = at.time;
  }

  /** Drops everything kept, as when the server's tape is another one. */
  reset(): void {
    this.forget(() => false);
    this.instruments.clear();
    this.beginning = false;
  }

  /** Drops the images of all topics for which `covered` is false; definitions stay. */
  forget(covered: (kind: string, instrument: Instrument | null) => boolean): void {
    const kinds: [string, Map<number | null, unknown>][] = [
      ["quote", this.quotes],
      ["day", this.bars.day],
      ["bars.1s", this.bars["1s"]],
      ["bars.1m", this.bars["1m"]],
      ["trades", this.rings.trades],
      ["bars.1s", this.rings["1s"]],
      ["bars.1m", this.rings["1m"]],
      ["status", this.statuses],
    ];
    for (const [kind, kept] of kinds)
      for (const number of kept.keys())
        if (!covered(kind, number === null ? null : this.known(number))) kept.delete(number);
    if (!covered("status", null)) this.feed = null;
    if (!covered("stats", null)) this.stats = null;
  }

  /**
   * Takes the next update of the session and says what it changed.
   *
   * @param whole says of which rings all has come so far: one that is not known here had no entry yet
   * @throws {DecodeError} where an entry cannot be understood; what came before it has been applied.
   */
  apply(update: WireUpdate, whole: Whole = () => false): Update {
    this.position = (this.position + (update.positions ?? 0)) as Position;
    this.time = (this.time + update.micros) as Micros;
    const known: Whole = (kind, instrument) => !this.beginning && whole(kind, instrument);
    const changes = update.entries.map((entry) => this.applyEntry(entry, known));
    if (update.positions !== null) this.beginning = false;
    return {
      type: "update",
      position: this.position,
      time: this.time,
      whole: update.positions !== null,
      changes,
    };
  }

  private applyEntry(entry: WireEntry, whole: Whole): Change {
    switch (entry.kind) {
      case "reset":
        this.reset();
        this.beginning = true;
        return { kind: "reset" };
      case "definition":
        return { kind: "instrument", instrument: this.define(entry) };
      case "quote": {
        const instrument = this.known(entry.instrument);
        const changed = this.absoluteQuote(instrument, entry);
        const quote = getOrInsert(this.quotes, instrument.number, newQuote);
        Object.assign(quote, changed);
        return { kind: "quote", instrument, changed, quote };
      }
      case "trades": {
        const instrument = this.known(entry.instrument);
        const ring = getOrInsert(this.rings.trades, instrument.number, () =>
          newRing(whole("trades", instrument) ? 0 : entry.number),
        );
        const { first, missed, known } = take(ring, entry.number, entry.trades.length);
        const trades = entry.trades.map((wire, i): Trade => ({
          number: first + i,
          price: absolute(instrument, wire.price),
          size: wire.size as Units,
          side: SIDES[wire.flags & 3]!,
          conditions: wire.conditions,
          ts_event: this.moment(wire.ts_event),
        }));
        return {
          kind: "trades",
          instrument,
          missed,
          repeated: trades.slice(0, known),
          trades: known === 0 ? trades : trades.slice(known),
        };
      }
      case "closed_bars": {
        const instrument = this.known(entry.instrument);
        const ring = getOrInsert(this.rings[entry.interval], instrument.number, () =>
          newRing(whole(`bars.${entry.interval}`, instrument) ? 0 : entry.number),
        );
        const { first, missed, known } = take(ring, entry.number, entry.bars.length);
        const bars = entry.bars.map((wire) => absoluteBar(instrument, wire) as ClosedBar);
        return {
          kind: "closed_bars",
          instrument,
          interval: entry.interval,
          missed,
          repeated: bars.slice(0, known),
          bars: bars.slice(known),
          first: first + known,
        };
      }
      case "bar": {
        const instrument = this.known(entry.instrument);
        const changed = absoluteBar(instrument, entry.fields);
        const bars = this.bars[entry.topic];
        let bar = getOrInsert(bars, instrument.number, newBar);
        // A new start begins a new bar: what the entry leaves out is not known of it. The previous
        // close belongs to the day, and changes on its own.
        if (changed.start !== undefined && changed.start !== bar.start) {
          const { previous_close } = bar;
          bar = previous_close === undefined ? {} : { previous_close };
          bars.set(instrument.number, bar);
        }
        Object.assign(bar, changed);
        return entry.topic === "day"
          ? { kind: "day", instrument, changed, day: bar }
          : { kind: "bar", instrument, interval: entry.topic, changed, bar };
      }
      case "trading": {
        const instrument = entry.instrument === null ? null : this.known(entry.instrument);
        const state = named(TRADING_STATES, entry.state, "trading state");
        const status = { state, ts_event: this.moment(entry.ts_event) };
        this.statuses.set(entry.instrument, status);
        return { kind: "trading", instrument, status };
      }
      case "feed":
        this.feed = {
          kind: named(FEED_KINDS, entry.feed, "feed kind"),
          state: named(FEED_STATES, entry.state, "feed state"),
          speed: entry.speed,
        };
        return { kind: "feed", feed: this.feed };
      case "stats":
        this.stats = entry.stats;
        return { kind: "stats", stats: entry.stats };
    }
  }

  private known(number: number): Instrument {
    const instrument = this.instruments.get(number);
    if (instrument) return instrument;
    throw new DecodeError(`instrument ${number} was used before it was defined`);
  }

  private moment(relative: number): Micros {
    return (this.time + relative) as Micros;
  }

  private absoluteQuote(instrument: Instrument, wire: WireQuote): Quote {
    const quote: Quote = {};
    if (wire.bid !== undefined) quote.bid = absolute(instrument, wire.bid);
    if (wire.bid_size !== undefined) quote.bid_size = wire.bid_size as Units;
    if (wire.ask !== undefined) quote.ask = absolute(instrument, wire.ask);
    if (wire.ask_size !== undefined) quote.ask_size = wire.ask_size as Units;
    if (wire.ts_event !== undefined) quote.ts_event = this.moment(wire.ts_event);
    return quote;
  }

  private define(wire: WireDefinition): Instrument {
    const { kind: _, instrument: number, ...fields } = wire;
    const instrument = { number, ...fields } as Instrument;
    const before = this.instruments.get(number);
    if (before) this.rescale(before, instrument);
    this.instruments.set(number, instrument);
    return instrument;
  }

  /** What is kept in units of the scales before becomes units of the finer ones; nothing is sent again. */
  private rescale(before: Instrument, after: Instrument): void {
    const prices = 10 ** (after.price_scale - before.price_scale);
    const sizes = 10 ** (after.size_scale - before.size_scale);
    if (prices < 1 || sizes < 1) throw new DecodeError(`${after.symbol}: a scale became coarser`);
    if (prices === 1 && sizes === 1) return;
    const scaled = (kept: object | undefined, fields: readonly string[], factor: number) => {
      const record = kept as Record<string, number | null> | undefined;
      for (const field of fields) if (typeof record?.[field] === "number") record[field] *= factor;
    };
    scaled(this.quotes.get(after.number), ["bid", "ask"], prices);
    scaled(this.quotes.get(after.number), ["bid_size", "ask_size"], sizes);
    for (const bars of Object.values(this.bars)) {
      const bar = bars.get(after.number);
      scaled(bar, ["open", "high", "low", "close", "vwap", "previous_close"], prices);
      scaled(bar, ["volume"], sizes);
    }
  }
}

type RingTopic = "trades" | Interval;

interface Ring {
  /** Number of the next entry on the wire. */
  next: number;
  /** Everything below it has been handed on, or counted as missed. */
  seen: number;
}

type Whole = (kind: string, instrument: Instrument) => boolean;

/** A ring that was empty when it was subscribed states no number: its first entry is number 0. */
function newRing(first: number | null): Ring {
  return { next: first ?? 0, seen: first ?? 0 };
}

/** Of `count` entries: the number of the first, how many are known already, and how many were lost before. */
function take(
  ring: Ring,
  stated: number | null,
  count: number,
): { first: number; known: number; missed: number } {
  const first = stated ?? ring.next;
  const missed = Math.max(0, first - ring.seen);
  const known = Math.min(count, Math.max(0, ring.seen - first));
  ring.next = first + count;
  ring.seen = Math.max(ring.seen, ring.next);
  return { first, known, missed };
}

const SIDES: readonly Side[] = ["none", "buy", "sell"];
const TRADING_STATES: readonly TradingState[] = ["pre-open", "open", "halted", "closed"];
const FEED_KINDS: readonly Feed["kind"][] = ["simulator", "replay", "publisher"];
const FEED_STATES: readonly Feed["state"][] = ["live", "stale", "paused", "ended"];

const newQuote = (): Quote => ({});
const newBar = (): Bar => ({});

function absolute(instrument: Instrument, relative: number): Units;
function absolute(instrument: Instrument, relative: number | null): Units | null;
function absolute(instrument: Instrument, relative: number | null): Units | null {
  return relative === null ? null : ((instrument.anchor + relative) as Units);
}

function absoluteBar(instrument: Instrument, wire: WireBar): Bar {
  const bar: Bar = {};
  if (wire.start !== undefined) bar.start = wire.start;
  if (wire.open !== undefined) bar.open = absolute(instrument, wire.open);
  if (wire.high !== undefined) bar.high = absolute(instrument, wire.high);
  if (wire.low !== undefined) bar.low = absolute(instrument, wire.low);
  if (wire.close !== undefined) bar.close = absolute(instrument, wire.close);
  if (wire.volume !== undefined) bar.volume = wire.volume as Units;
  if (wire.trades !== undefined) bar.trades = wire.trades;
  if (wire.vwap !== undefined)
    bar.vwap = wire.vwap === null ? null : ((100 * instrument.anchor + wire.vwap) as Units);
  if (wire.previous_close !== undefined)
    bar.previous_close = absolute(instrument, wire.previous_close);
  return bar;
}

function named<T>(names: readonly T[], value: number, what: string): T {
  const name = names[value];
  if (name !== undefined) return name;
  throw new DecodeError(`${what} ${value} is not one of tickcast.v1`);
}

function getOrInsert<V>(map: Map<number, V>, key: number, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}
