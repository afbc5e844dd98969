import { imageChange } from "./change.js";
import {
  DecodeError,
  type WireDefinition,
  type WireEntry,
  type WireFields,
  type WireUpdate,
} from "./decode.js";
import type {
  Bar,
  Change,
  ChannelMessage,
  ClosedBar,
  Count,
  Epoch,
  Feed,
  Instrument,
  InstrumentNumber,
  Json,
  Micros,
  Position,
  Quote,
  Trade,
  TradingStatus,
  Units,
  Update,
} from "./protocol.js";
import {
  COUNTS,
  EVERYTHING,
  FEED_KINDS,
  FEED_STATES,
  IMAGE_KINDS,
  RING_KINDS,
  SIDES,
  TOPIC_KINDS,
  TRADE_FLAGS,
  TRADING_STATES,
  fieldsOf,
  hasRing,
  type ImageKind,
  type RingKind,
  type TopicKind,
  type Unit,
} from "./schema.js";
import type { ServerStats } from "./server-stats.js";
import { plus, shifted, type Integer } from "./units.js";

/**
 * What a client keeps: its position on the tape, the definitions, and the image of every topic.
 *
 * No I/O and no clock. Its memory is bounded by the instruments of the universe: entries of rings are
 * passed on in the {@link Change} and not kept.
 */
export class Image {
  epoch: Epoch | null = null;
  position = 0 as Position;
  time = 0 as Micros;
  feed: Feed | null = null;
  /** The server's newest stats. */
  stats: ServerStats | null = null;

  /** A reset has come, and its flush has not ended: rings begin at the server's number. */
  private beginning = false;
  private readonly instruments = new Map<number, Instrument>();
  private readonly images = mapsOf<ImageKind, Map<number, Fields>>(IMAGE_KINDS, () => new Map());
  private readonly rings = mapsOf<RingKind, Map<number, Ring>>(RING_KINDS, () => new Map());
  /** Rings that have left: if one joins again, what it lost in between is not missed. */
  private readonly left = mapsOf<RingKind, Set<number>>(RING_KINDS, () => new Set());
  /** Those that have left in the current flush: it may be given up and sent again, so they are counted on until it ends. */
  private leaving: { topic: RingKind; number: number }[] = [];
  /**
   * Instruments as they were defined before they moved in the current flush: until it ends, what is kept of them belongs to
   * their old sectors. With each the kinds to which this applies.
   */
  private readonly moved = new Map<number, Before[]>();
  /** The topic that the previous entry joined. */
  private joined: { topic: TopicKind; number: number; hadLeft: boolean } | null = null;
  /** By channel: the next message. A reset of the market is none of channels. */
  private readonly channels = new Map<string, Ring>();
  private readonly statesOf = new Map<string, Map<string, Json>>();
  /** The key null is the entire market. */
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
    return this.fields("quote", number);
  }

  bar(topic: "1s" | "1m" | "day", number: InstrumentNumber): Readonly<Bar> | undefined {
    return this.fields(topic === "day" ? topic : `bars.${topic}`, number);
  }

  /** The image of a kind, by the names of its fields. */
  fields(kind: ImageKind, number: InstrumentNumber): Readonly<Fields> | undefined {
    return this.images[kind].get(number);
  }

  /** The states in a channel, by key. */
  states(channel: string): ReadonlyMap<string, Json> {
    return this.statesOf.get(channel) ?? new Map();
  }

  trading(number: InstrumentNumber | null): TradingStatus | undefined {
    return this.statuses.get(number);
  }

  /** Moves to a session's start, from which the positions of its updates count. */
  begin(at: { epoch: Epoch; position: Position; time: Micros }): void {
    if (this.epoch !== at.epoch) this.dropChannels();
    this.epoch = at.epoch;
    this.position = at.position;
    this.time = at.time;
  }

  private dropChannels(): void {
    this.channels.clear();
    this.statesOf.clear();
  }

  /** Drops everything kept of the market, as when the server's tape is another one. */
  reset(): void {
    this.forget((_, of) => typeof of === "string");
    this.instruments.clear();
    for (const rings of Object.values(this.left)) rings.clear();
    this.moved.clear();
    this.beginning = false;
  }

  /** Whether `covered` is true of an instrument as it is defined now, or was before it moved in the current flush. */
  private isKept(covered: Covered, kind: string, number: number): boolean {
    const before = this.moved.get(number) ?? [];
    return (
      covered(kind, this.known(number)) ||
      before.some(({ of, kinds }) => kinds.includes(kind) && isOfSet(covered, kind, of))
    );
  }

  /** Drops the images of all topics for which `covered` is false; definitions stay. */
  forget(covered: Covered): void {
    this.dropImages(covered);
    for (const kind of RING_KINDS)
      for (const number of this.rings[kind].keys())
        if (!this.isKept(covered, kind, number)) this.rings[kind].delete(number);
    for (const channel of this.channels.keys())
      if (!covered("messages", channel)) this.channels.delete(channel);
    for (const channel of this.statesOf.keys())
      if (!covered("states", channel)) this.statesOf.delete(channel);
    if (!covered("status", null)) this.feed = null;
    if (!covered("stats", null)) this.stats = null;
  }

  /**
   * Drops the images for which `covered` is false, and reports it. Rings are counted on: entries that come again are recognized
   * by their numbers.
   */
  dropImages(covered: Covered): Change[] {
    const changes: Change[] = [];
    for (const topic of TOPIC_KINDS) {
      const images = this.kept(topic);
      for (const number of images.keys()) {
        if (number === null ? covered(topic, null) : this.isKept(covered, topic, number)) continue;
        images.delete(number);
        if (number !== null) changes.push({ kind: "left", instrument: this.known(number), topic });
      }
    }
    return changes;
  }

  /** What is kept of each instrument, without rings. */
  private kept(kind: TopicKind): Map<number | null, unknown> {
    if (kind === "status") return this.statuses;
    return kind === "trades" ? new Map() : this.images[kind];
  }

  /**
   * Takes the next update of the session and says what it changed.
   *
   * @param whole says of which rings everything has come: one that is not known here had no entry yet
   * @throws {DecodeError} if an entry cannot be understood; what came before it has been applied.
   */
  apply(update: WireUpdate, whole: Whole = () => false): Update {
    this.position = (this.position + (update.positions ?? 0)) as Position;
    this.time = (this.time + update.micros) as Micros;
    const known: Whole = (kind, of) => !this.beginning && whole(kind, of);
    const changes = update.entries.map((entry) => this.applyEntry(entry, known));
    this.joined = null;
    if (update.positions !== null) {
      this.beginning = false;
      this.moved.clear();
      for (const { topic, number } of this.leaving)
        if (this.left[topic].has(number)) this.rings[topic].delete(number);
      this.leaving = [];
    }
    return {
      type: "update",
      position: this.position,
      time: this.time,
      whole: update.positions !== null,
      changes,
    };
  }

  private applyEntry(entry: WireEntry, whole: Whole): Change {
    const { joined } = this;
    this.joined = null;
    switch (entry.kind) {
      case "reset":
        this.reset();
        this.beginning = true;
        return { kind: "reset" };
      case "definition":
        return { kind: "instrument", instrument: this.define(entry, whole) };
      case "image": {
        const instrument = this.known(entry.instrument);
        const changed = this.absolute(instrument, entry.topic, entry.fields);
        const images = this.images[entry.topic];
        let image = getOrInsert(images, instrument.number, newFields);
        // A new start begins a new bar: what the entry leaves out is unknown. The previous
        // close belongs to the day, and changes on its own.
        if (changed["start"] !== undefined && changed["start"] !== image["start"]) {
          const { previous_close } = image;
          image = previous_close === undefined ? {} : { previous_close };
          images.set(instrument.number, image);
        }
        Object.assign(image, changed);
        return imageChange(entry.topic, instrument, changed, image);
      }
      case "trades": {
        const instrument = this.known(entry.instrument);
        const ring = this.ring("trades", entry, instrument, joined, whole);
        const { first, missed, known } = take(ring, entry.number, entry.trades.length);
        const trades = entry.trades.map((wire, i): Trade => ({
          number: first + i,
          price: plus(instrument.anchor, wire.price) as Units,
          size: wire.size as Units,
          side: SIDES[wire.flags & TRADE_FLAGS.side]!,
          conditions: wire.conditions,
          ...(wire.counts === EVERYTHING ? {} : { counts: countNames(wire.counts) }),
          ...(wire.back ? { breaks: first + i - wire.back } : {}),
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
        const ring = this.ring(entry.topic, entry, instrument, joined, whole);
        const { first, missed, known } = take(ring, entry.number, entry.bars.length);
        const bars = entry.bars.map(
          (wire) => this.absolute(instrument, entry.topic, wire) as unknown as ClosedBar,
        );
        return {
          kind: "closed_bars",
          instrument,
          interval: entry.topic === "bars.1s" ? "1s" : "1m",
          missed,
          repeated: bars.slice(0, known),
          bars: bars.slice(known),
          first: first + known,
        };
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
      case "messages":
        return this.heard(entry, whole);
      case "states": {
        const { kind, channel, whole: all, states } = entry;
        let known = this.statesOf.get(channel);
        if (!known || all) this.statesOf.set(channel, (known = new Map()));
        for (const [key, data] of Object.entries(states))
          if (data === null) known.delete(key);
          else known.set(key, data);
        return { kind, channel, whole: all, changed: states };
      }
      case "joined": {
        const instrument = this.known(entry.instrument);
        const { topic } = entry;
        const hadLeft = hasRing(topic) && this.left[topic].delete(instrument.number);
        this.joined = { topic, number: instrument.number, hadLeft };
        return { kind: "joined", instrument, topic };
      }
      case "left": {
        const instrument = this.known(entry.instrument);
        const { topic } = entry;
        this.kept(topic).delete(instrument.number);
        if (hasRing(topic) && this.rings[topic].has(instrument.number)) {
          this.left[topic].add(instrument.number);
          this.leaving.push({ topic, number: instrument.number });
        }
        return { kind: "left", instrument, topic };
      }
      default:
        return entry satisfies never;
    }
  }

  private heard({ channel, number, messages: wire }: Entry<"messages">, whole: Whole): Change {
    let ring = this.channels.get(channel);
    // What came before the subscription is not missed.
    if (!ring) {
      ring = newRing(whole("messages", channel) ? 0 : number);
      this.channels.set(channel, ring);
    }
    const { first, missed, known } = take(ring, number, wire.length);
    const messages = wire.map(({ from, event, data, ts_event }, i): ChannelMessage => ({
      number: first + i,
      ...(from === null ? {} : { from }),
      ...(event === null ? {} : { event }),
      data,
      ts_event: this.moment(ts_event),
    }));
    return {
      kind: "messages",
      channel,
      missed,
      repeated: messages.slice(0, known),
      messages: messages.slice(known),
      first: first + known,
    };
  }

  /** The ring of an entry, from which its numbers count. */
  private ring(
    topic: RingKind,
    { number: stated }: { number: number | null },
    instrument: Instrument,
    joined: typeof this.joined,
    whole: Whole,
  ): Ring {
    const { number } = instrument;
    const joins = joined?.topic === topic && joined.number === number;
    const hadLeft = this.left[topic].delete(number) || (joins && joined.hadLeft);
    let ring = this.rings[topic].get(number);
    if (!ring) {
      const begins = joins || hadLeft || !whole(topic, instrument);
      this.rings[topic].set(number, (ring = newRing(begins ? stated : 0)));
    } else if (hadLeft) {
      // Nothing of what came while it was away counts as lost.
      ring.seen = Math.max(ring.seen, stated ?? 0);
    }
    return ring;
  }

  private known(number: number): Instrument {
    const instrument = this.instruments.get(number);
    if (instrument) return instrument;
    throw new DecodeError(`instrument ${number} was used before it was defined`);
  }

  private moment(relative: number): Micros {
    return (this.time + relative) as Micros;
  }

  private absolute(instrument: Instrument, kind: ImageKind, wire: WireFields): Fields {
    const fields: Fields = {};
    for (const { name, unit } of fieldsOf(kind)) {
      const value = wire[name];
      if (value !== undefined)
        fields[name] = value === null ? null : (this.from(instrument, unit, value) as Units);
    }
    return fields;
  }

  /** Makes a relative number of the wire absolute. */
  private from(instrument: Instrument, unit: Unit, value: Integer): Integer {
    switch (unit) {
      case "price":
        return plus(instrument.anchor, value);
      case "hundredth":
        return plus(shifted(instrument.anchor, 2), value);
      case "moment":
        return this.time + Number(value);
      case "size":
      case "count":
      case "second":
        return value;
      default:
        return unit satisfies never;
    }
  }

  private define(wire: WireDefinition, whole: Whole): Instrument {
    const { kind: _, instrument: number, ...fields } = wire;
    const instrument = { number, ...fields } as Instrument;
    const before = this.instruments.get(number);
    if (before) this.rescale(before, instrument);
    if (before && before.sector !== instrument.sector)
      getOrInsert(this.moved, number, (): Before[] => []).push({
        of: before,
        // For a set without a complete snapshot the server does not send what left.
        kinds: TOPIC_KINDS.filter((kind) => isOfSet(whole, kind, before)),
      });
    this.instruments.set(number, instrument);
    return instrument;
  }

  /** Converts what is kept to units of the finer scales; nothing is sent again. */
  private rescale(before: Instrument, after: Instrument): void {
    const prices = after.price_scale - before.price_scale;
    const sizes = after.size_scale - before.size_scale;
    if (prices < 0 || sizes < 0) throw new DecodeError(`${after.symbol}: a scale became coarser`);
    if (prices === 0 && sizes === 0) return;
    for (const kind of IMAGE_KINDS)
      rescale(kind, this.images[kind].get(after.number), prices, sizes);
  }
}

/** Multiplies the fields of an image that are in units of their scales. */
export function rescale(
  kind: ImageKind,
  fields: Fields | undefined,
  prices: number,
  sizes: number,
): void {
  if (!fields) return;
  for (const { name, unit } of fieldsOf(kind)) {
    const units = fields[name];
    if (units === null || units === undefined) continue;
    const digits = unit === "size" ? sizes : unit === "price" || unit === "hundredth" ? prices : 0;
    fields[name] = shifted(units, digits) as Units;
  }
}

/** An image by the names of its fields, in absolute values. */
export type Fields = Partial<Record<string, Units | null>>;

function mapsOf<Kind extends string, Kept>(
  kinds: readonly Kind[],
  make: () => Kept,
): Record<Kind, Kept> {
  return Object.fromEntries(kinds.map((kind) => [kind, make()])) as Record<Kind, Kept>;
}

interface Ring {
  /** Number of the next entry on the wire. */
  next: number;
  /** Everything below it has been passed on, or counted as missed. */
  seen: number;
}

type Whole = (kind: string, of: Instrument | string) => boolean;
/** An instrument as it was, and the kinds for which that counts. */
interface Before {
  of: Instrument;
  kinds: readonly string[];
}

/** Of an instrument, of a channel by its name, or of the market. */
type Covered = (kind: string, of: Instrument | string | null) => boolean;

type Entry<Kind extends WireEntry["kind"]> = Extract<WireEntry, { kind: Kind }>;

/** The fewest names that cover `bits`. */
function countNames(bits: number): Count[] {
  const names: Count[] = [];
  let told = 0;
  for (const [name, what] of Object.entries(COUNTS) as [Count, number][]) {
    if ((bits & what) !== what || (told & what) === what) continue;
    names.push(name);
    told |= what;
  }
  return names;
}

/** Whether only its sector covers an instrument. */
function isOfSet(covered: Whole, kind: string, of: Instrument): boolean {
  return covered(kind, of) && !covered(kind, { ...of, sector: "" });
}

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

const newFields = (): Fields => ({});

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
