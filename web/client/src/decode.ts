import { Decoder } from "@msgpack/msgpack";
import type { Answer, Json, Speed } from "./protocol.js";
import {
  COUNTS,
  EVERYTHING,
  FIELDS,
  LARGEST_SCALE,
  SIDES,
  TAGS,
  TOPICS,
  TOPIC_KINDS,
  TRADE_FLAGS,
  fieldsOf,
  type Field,
  type ImageKind,
  type RingKind,
  type TopicKind,
} from "./schema.js";
import { readServerStats, type ServerStats } from "./server-stats.js";
import { integerFrom, plus, type Integer } from "./units.js";

/**
 * One binary frame to one message. Stateless: prices are still relative to their anchor and moments to
 * the update; {@link "./image".Image} makes them absolute.
 *
 * @throws {DecodeError} if the bytes are not what `docs/protocol.md` describes.
 */
export function decodeFrame(bytes: Uint8Array): WireUpdate | Answer | { type: "unknown" } {
  let value: unknown;
  try {
    value = messagePack.decode(bytes);
  } catch (error) {
    throw new DecodeError(`frame of ${bytes.length} bytes is not MessagePack: ${String(error)}`);
  }
  if (Array.isArray(value)) return decodeUpdate(value);
  if (typeof value === "object" && value !== null)
    return decodeAnswer(value as Record<string, unknown>);
  throw new DecodeError(`frame is neither an array nor a map, but ${String(value)}`);
}

export class DecodeError extends Error {
  override name = "DecodeError";
}

/** An update as it is on the wire. */
export interface WireUpdate {
  type: "update";
  /** Null if more of the same flush follows. */
  positions: number | null;
  micros: number;
  entries: WireEntry[];
}

/** A price relative to an anchor. */
type Relative = Integer;

/** Fields of an image: prices relative to an anchor, moments to the time of the update. */
export type WireFields = Partial<Record<string, Integer | null>>;

export interface WireTrade {
  flags: number;
  price: Relative;
  size: Integer;
  ts_event: number;
  conditions: string;
  /** Bits of what it counts for; 31 if the wire has none. */
  counts: number;
  /** Of a break: how many entries earlier the trade came that it takes back; 0 if unknown. */
  back?: number;
}

export interface WireMessage {
  ts_event: number;
  from: string | null;
  event: string | null;
  data: Json;
}

export interface WireDefinition {
  kind: "definition";
  instrument: number;
  symbol: string;
  name: string;
  sector: string;
  currency: string;
  price_scale: number;
  size_scale: number;
  tick_size: Integer;
  anchor: Integer;
  previous_close: Integer | null;
}

export type WireEntry =
  | { kind: "image"; topic: ImageKind; instrument: number; fields: WireFields }
  | {
      kind: "trades";
      instrument: number;
      /** Of the first one; null if they continue the numbering. */
      number: number | null;
      trades: WireTrade[];
    }
  | {
      kind: "closed_bars";
      topic: BarRing;
      instrument: number;
      number: number | null;
      bars: WireFields[];
    }
  | {
      kind: "trading";
      instrument: number | null;
      state: number;
      ts_event: number;
    }
  | { kind: "feed"; feed: number; state: number; speed: Speed }
  | { kind: "reset" }
  | { kind: "stats"; stats: ServerStats }
  | { kind: "messages"; channel: string; number: number; messages: WireMessage[] }
  | { kind: "states"; channel: string; whole: boolean; states: Record<string, Json> }
  | { kind: "joined" | "left"; instrument: number; topic: TopicKind }
  | WireDefinition;

// Lengths inside a frame are not to be trusted. An update is at most 64 KiB, so no valid frame exceeds
// these, and an invalid one fails before memory is taken.
const messagePack = new Decoder({
  maxStrLength: 65_536,
  maxBinLength: 0,
  maxExtLength: 0,
  maxArrayLength: 65_536,
  maxMapLength: 1_024,
});

function decodeUpdate(values: readonly unknown[]): WireUpdate {
  const read = new Reader(values);
  const update: WireUpdate = {
    type: "update",
    positions: read.countOrNull("positions"),
    micros: read.integer("micros"),
    entries: [],
  };
  while (!read.done()) update.entries.push(decodeEntry(read));
  return update;
}

/** Rings of bars. */
export type BarRing = Exclude<RingKind, "trades">;

function decodeEntry(read: Reader): WireEntry {
  const number = read.integerOrNull("instrument");
  const tag = read.count("tag");
  switch (tag) {
    case TAGS.status: {
      const state = read.count("state");
      return { kind: "trading", instrument: number, state, ts_event: read.integer("ts_event") };
    }
    case TAGS.feed: {
      const [feed, state] = [read.count("kind"), read.count("state")];
      return { kind: "feed", feed, state, speed: read.speed("speed") };
    }
  }
  if (number === null) {
    if (tag === TAGS.reset) return { kind: "reset" };
    if (tag === TAGS.stats) return { kind: "stats", stats: readServerStats(read.map("stats")) };
    if (tag === TAGS.messages) return decodeMessages(read);
    if (tag === TAGS.states) return decodeStates(read);
    throw read.wrong("instrument", "a number", null);
  }
  const decode = ENTRIES[tag];
  if (decode === undefined) throw read.wrong("tag", "one of tickcast.v1", tag);
  return decode(read, number);
}

/** How the entry of each tag is read. */
const ENTRIES: ((read: Reader, instrument: number) => WireEntry)[] = [];

for (const kind of TOPIC_KINDS) {
  const { image, ring } = TOPICS[kind];
  if (image !== null) addImage(kind as ImageKind, image);
  if (ring !== null) addRing(kind as RingKind, ring);
}
ENTRIES[TAGS.joined] = (read, instrument) => ({
  kind: "joined",
  instrument,
  topic: decodeKind(read),
});
ENTRIES[TAGS.left] = (read, instrument) => ({ kind: "left", instrument, topic: decodeKind(read) });
ENTRIES[TAGS.definition] = decodeDefinition;

function addImage(topic: ImageKind, { tag, all }: { tag: number; all: number }): void {
  const fields = fieldsOf(topic);
  if (topic === "quote") {
    for (let mask = 1; mask <= (all | TAGS.quote_with_time); mask++)
      if (mask & all) {
        const told = fields.filter(({ bit }) => mask & bit);
        ENTRIES[tag + mask] = (read, instrument) => ({
          kind: "image",
          topic,
          instrument,
          fields: decodeFields(read, told),
        });
      }
    return;
  }
  ENTRIES[tag] = (read, instrument) => {
    const mask = read.count("mask");
    if (mask > all) throw read.wrong("mask", `at most ${all}`, mask);
    const told = fields.filter(({ bit }) => mask & bit);
    return { kind: "image", topic, instrument, fields: decodeFields(read, told) };
  };
}

function addRing(
  topic: RingKind,
  { tag, numbered, least }: { tag: number; numbered: number; least: number },
): void {
  for (const each of [tag, numbered])
    ENTRIES[each] = (read, instrument) => {
      const number = each === numbered ? read.count("number") : null;
      if (topic === "trades") {
        const trades = read.list(least, (before?: WireTrade) => decodeTrade(read, before));
        return { kind: "trades", instrument, number, trades };
      }
      const { fields, all } = TOPICS[topic].image;
      const told = FIELDS[fields].filter(({ bit }) => bit & all);
      const bars = read.list(least, () => decodeFields(read, told));
      return { kind: "closed_bars", topic, instrument, number, bars };
    };
}

function decodeMessages(read: Reader): WireEntry {
  const channel = read.string("channel");
  const number = read.count("number");
  const messages = read.list(4, (): WireMessage => ({
    ts_event: read.integer("ts_event"),
    from: read.stringOrNull("from"),
    event: read.stringOrNull("event"),
    data: read.json("data"),
  }));
  return { kind: "messages", channel, number, messages };
}

function decodeStates(read: Reader): WireEntry {
  const channel = read.string("channel");
  const whole = read.count("whole") === 1;
  const states = read.list(2, (): [string, Json] => [read.string("key"), read.jsonOrNull("data")]);
  return { kind: "states", channel, whole, states: Object.fromEntries(states) };
}

function decodeKind(read: Reader): TopicKind {
  const topic = TOPIC_KINDS[read.count("kind")];
  if (topic === undefined) throw read.wrong("kind", `0 to ${TOPIC_KINDS.length - 1}`, "another");
  return topic;
}

function decodeFields(read: Reader, told: readonly Field[]): WireFields {
  const fields: WireFields = {};
  for (const { name, unit } of told)
    switch (unit) {
      case "price":
      case "hundredth":
        fields[name] = read.unitsOrNull(name);
        break;
      case "size":
        fields[name] = read.units(name);
        break;
      case "count":
        fields[name] = read.count(name);
        break;
      case "second":
      case "moment":
        fields[name] = read.integer(name);
        break;
      default:
        unit satisfies never;
    }
  return fields;
}

/** The first of a run is absolute, the others are relative to the one before; here all become absolute. */
function decodeTrade(read: Reader, before: WireTrade | undefined): WireTrade {
  const price = plus(before?.price ?? 0, read.units("price"));
  const ts_event = (before?.ts_event ?? 0) + read.integer("ts_event");
  const flags = read.count("flags");
  const { side, conditions: hasConditions, counts: hasCounts } = TRADE_FLAGS;
  if (flags > (side | hasConditions | hasCounts) || SIDES[flags & side] === undefined)
    throw read.wrong("flags", "a side, 4 for conditions and 8 for counts", flags);
  const size = read.units("size");
  const conditions = flags & hasConditions ? read.string("conditions") : "";
  const counts = flags & hasCounts ? read.count("counts") : EVERYTHING;
  if (counts > MOST_COUNTS) throw read.wrong("counts", `at most ${MOST_COUNTS}`, counts);
  const trade = { flags, price, size, ts_event, conditions, counts };
  return counts & COUNTS.break ? { ...trade, back: read.count("back") } : trade;
}

const MOST_COUNTS = EVERYTHING | COUNTS.break | COUNTS.correction;

function decodeDefinition(read: Reader, instrument: number): WireDefinition {
  const fields = new Fields("definition", read.map("definition"));
  return {
    kind: "definition",
    instrument,
    symbol: fields.string("symbol"),
    name: fields.string("name"),
    sector: fields.string("sector"),
    currency: fields.string("currency"),
    price_scale: fields.scale("price_scale"),
    size_scale: fields.scale("size_scale"),
    tick_size: fields.units("tick_size"),
    anchor: fields.units("anchor"),
    previous_close: fields.unitsOrNull("previous_close"),
  };
}

/** Checks what the client relies on; further fields are passed on as they are. */
function decodeAnswer(map: Record<string, unknown>): Answer | { type: "unknown" } {
  const fields = new Fields(String(map["type"]), map);
  const named = map["type"] as Answer["type"];
  switch (named) {
    case "welcome":
      for (const name of ["epoch", "position", "time"]) fields.integer(name);
      fields.positive("heartbeat_ms");
      break;
    case "opened":
      for (const name of ["position", "time"]) fields.integer(name);
      break;
    case "closed":
      break;
    case "reset":
      fields.integer("begins");
      break;
    case "subscribed":
      for (const name of ["epoch", "position"]) fields.integer(name);
      fields.topics();
      break;
    case "unsubscribed":
    case "checksum":
      fields.topics();
      break;
    case "replay":
      for (const name of ["kind", "state", "now"]) fields.string(name);
      break;
    case "fault":
      fields.string("fault");
      break;
    case "published":
    case "pong":
    case "stats":
      fields.integer("position");
      break;
    case "lag":
      fields.integer("lag_ms");
      break;
    case "error":
      for (const name of ["code", "message"]) fields.string(name);
      break;
    case "goodbye":
      for (const name of ["code", "retry_after_ms", "jitter_ms"]) fields.integer(name);
      break;
    default:
      // A later server may have more.
      named satisfies never;
      return { type: "unknown" };
  }
  return map as unknown as Answer;
}

/** Walks the flat array of an update; every error names the index. */
class Reader {
  private next = 0;

  constructor(private readonly values: readonly unknown[]) {}

  done(): boolean {
    return this.next >= this.values.length;
  }

  integer(name: string): number {
    const value = this.values[this.next++];
    if (Number.isSafeInteger(value)) return value as number;
    throw this.wrong(name, "an integer", value);
  }

  integerOrNull(name: string): number | null {
    if (this.values[this.next] !== null) return this.integer(name);
    this.next++;
    return null;
  }

  units(name: string): Integer {
    const value = this.values[this.next++];
    const units = Number.isSafeInteger(value) ? (value as number) : integerFrom(value);
    if (units !== null) return units;
    throw this.wrong(name, "an integer", value);
  }

  unitsOrNull(name: string): Integer | null {
    if (this.values[this.next] !== null) return this.units(name);
    this.next++;
    return null;
  }

  /** An integer that is not negative. */
  count(name: string): number {
    const value = this.integer(name);
    if (value >= 0) return value;
    throw this.wrong(name, "0 or more", value);
  }

  countOrNull(name: string): number | null {
    if (this.values[this.next] !== null) return this.count(name);
    this.next++;
    return null;
  }

  speed(name: string): Speed {
    const value = this.values[this.next++];
    if (typeof value === "number" || value === "max") return value;
    throw this.wrong(name, 'a number or "max"', value);
  }

  string(name: string): string {
    const value = this.values[this.next++];
    if (typeof value === "string") return value;
    throw this.wrong(name, "a string", value);
  }

  stringOrNull(name: string): string | null {
    if (this.values[this.next] !== null) return this.string(name);
    this.next++;
    return null;
  }

  /** A text of JSON. */
  json(name: string): Json {
    const text = this.string(name);
    try {
      return JSON.parse(text) as Json;
    } catch {
      throw this.wrong(name, "JSON", text);
    }
  }

  jsonOrNull(name: string): Json {
    if (this.values[this.next] !== null) return this.json(name);
    this.next++;
    return null;
  }

  map(name: string): Record<string, unknown> {
    const value = this.values[this.next++];
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
    throw this.wrong(name, "a map", value);
  }

  /** A count and that many items of at least `width` values each; `item` receives the one before. */
  list<T>(width: number, item: (before?: T) => T): T[] {
    const count = this.count("count");
    if (count * width > this.values.length - this.next)
      throw this.wrong("count", `at most ${this.values.length - this.next} values`, count);
    const items: T[] = [];
    for (let i = 0; i < count; i++) items.push(item(items[i - 1]));
    return items;
  }

  wrong(name: string, expected: string, value: unknown): DecodeError {
    const found = this.next > this.values.length ? "the end" : String(value);
    return new DecodeError(
      `update value ${this.next - 1} (${name}): expected ${expected}, found ${found}`,
    );
  }
}

class Fields {
  constructor(
    private readonly owner: string,
    private readonly map: Record<string, unknown>,
  ) {}

  integer(name: string): number {
    const value = this.map[name];
    if (Number.isSafeInteger(value)) return value as number;
    throw this.wrong(name, "an integer", value);
  }

  units(name: string): Integer {
    const units = integerFrom(this.map[name]);
    if (units !== null) return units;
    throw this.wrong(name, "an integer", this.map[name]);
  }

  unitsOrNull(name: string): Integer | null {
    return this.map[name] === null ? null : this.units(name);
  }

  positive(name: string): void {
    const value = this.integer(name);
    if (value <= 0) throw this.wrong(name, "more than 0", value);
  }

  /** Digits after the point. */
  scale(name: string): number {
    const value = this.integer(name);
    if (value >= 0 && value <= LARGEST_SCALE) return value;
    throw this.wrong(name, `0 to ${LARGEST_SCALE}`, value);
  }

  string(name: string): string {
    const value = this.map[name];
    if (typeof value === "string") return value;
    throw this.wrong(name, "a string", value);
  }

  topics(): void {
    const value = this.map["topics"];
    if (
      !Array.isArray(value) ||
      !value.every((item) => typeof (item as { topic?: unknown } | null)?.topic === "string")
    )
      throw this.wrong("topics", "a list of maps with a topic", value);
  }

  private wrong(name: string, expected: string, value: unknown): DecodeError {
    return new DecodeError(
      `${this.owner}, field ${name}: expected ${expected}, found ${String(value)}`,
    );
  }
}
