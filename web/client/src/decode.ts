import { Decoder } from "@msgpack/msgpack";
import type { Answer } from "./protocol.js";
import { readServerStats, type ServerStats } from "./server-stats.js";

/**
 * One binary frame to one message. Stateless: prices are still relative to their anchor and moments to
 * the update; {@link "./image".Image} makes them absolute.
 *
 * @throws {DecodeError} where the bytes are not what `docs/protocol.md` describes.
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
  /** Null where more of the same flush follows. */
  positions: number | null;
  micros: number;
  entries: WireEntry[];
}

/** An integer relative to an anchor, or to the time of the update. */
type Relative = number;

export interface WireQuote {
  kind: "quote";
  instrument: number;
  bid?: Relative | null;
  bid_size?: number;
  ask?: Relative | null;
  ask_size?: number;
  ts_event?: Relative;
}

export interface WireTrade {
  flags: number;
  price: Relative;
  size: number;
  ts_event: Relative;
  conditions: string;
}

export interface WireBar {
  start?: number;
  open?: Relative | null;
  high?: Relative | null;
  low?: Relative | null;
  close?: Relative | null;
  volume?: number;
  trades?: number;
  vwap?: Relative | null;
  previous_close?: Relative | null;
}

export type BarTopic = "1s" | "1m" | "day";

export interface WireDefinition {
  kind: "definition";
  instrument: number;
  symbol: string;
  name: string;
  sector: string;
  currency: string;
  price_scale: number;
  size_scale: number;
  tick_size: number;
  anchor: number;
  previous_close: number | null;
}

export type WireEntry =
  | WireQuote
  | {
      kind: "trades";
      instrument: number;
      /** Of the first one; null where they continue the numbering. */
      number: number | null;
      trades: WireTrade[];
    }
  | { kind: "bar"; instrument: number; topic: BarTopic; fields: WireBar }
  | {
      kind: "closed_bars";
      instrument: number;
      interval: "1s" | "1m";
      number: number | null;
      bars: Required<Omit<WireBar, "previous_close">>[];
    }
  | {
      kind: "trading";
      instrument: number | null;
      state: number;
      ts_event: Relative;
    }
  | { kind: "feed"; feed: number; state: number; speed: number | null }
  | { kind: "reset" }
  | { kind: "stats"; stats: ServerStats }
  | WireDefinition;

// Lengths inside a frame are the sender's word. An update is at most 64 KiB, so no honest frame passes
// these, and a dishonest one fails before memory is taken.
const messagePack = new Decoder({
  maxStrLength: 65_536,
  maxBinLength: 0,
  maxExtLength: 0,
  maxArrayLength: 65_536,
  maxMapLength: 1_024,
});

const BAR_TOPICS: readonly BarTopic[] = ["1s", "1m", "day"];

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

function decodeEntry(read: Reader): WireEntry {
  const number = read.integerOrNull("instrument");
  const tag = read.count("tag");
  if (tag === 60)
    return {
      kind: "trading",
      instrument: number,
      state: read.count("state"),
      ts_event: read.integer("ts_event"),
    };
  if (tag === 61)
    return {
      kind: "feed",
      feed: read.count("kind"),
      state: read.count("state"),
      speed: read.numberOrNull("speed"),
    };
  if (tag === 59 && number === null) return { kind: "reset" };
  if (tag === 62 && number === null)
    return { kind: "stats", stats: readServerStats(read.map("stats")) };
  if (number === null) throw read.wrong("instrument", "a number", null);
  if (tag >= 1 && tag <= 31 && tag !== 16) return decodeQuote(read, number, tag);
  switch (tag) {
    case 32:
    case 33:
      return {
        kind: "trades",
        instrument: number,
        number: tag === 33 ? read.count("number") : null,
        trades: read.list(4, (before?: WireTrade) => decodeTrade(read, before)),
      };
    case 40:
    case 41:
    case 42:
      return {
        kind: "bar",
        instrument: number,
        topic: BAR_TOPICS[tag - 40]!,
        fields: decodeBarFields(read, tag === 42),
      };
    case 44:
    case 45:
    case 46:
    case 47:
      return {
        kind: "closed_bars",
        instrument: number,
        interval: tag % 2 === 0 ? "1s" : "1m",
        number: tag >= 46 ? read.count("number") : null,
        bars: read.list(8, () => ({
          start: read.integer("start"),
          open: read.integerOrNull("open"),
          high: read.integerOrNull("high"),
          low: read.integerOrNull("low"),
          close: read.integerOrNull("close"),
          volume: read.integer("volume"),
          trades: read.count("trades"),
          vwap: read.integerOrNull("vwap"),
        })),
      };
    case 63:
      return decodeDefinition(read, number);
    default:
      throw read.wrong("tag", "one of tickcast.v1", tag);
  }
}

function decodeQuote(read: Reader, instrument: number, tag: number): WireQuote {
  const quote: WireQuote = { kind: "quote", instrument };
  if (tag & 1) quote.bid = read.integerOrNull("bid");
  if (tag & 2) quote.bid_size = read.integer("bid_size");
  if (tag & 4) quote.ask = read.integerOrNull("ask");
  if (tag & 8) quote.ask_size = read.integer("ask_size");
  if (tag & 16) quote.ts_event = read.integer("ts_event");
  return quote;
}

/** The first of a run stands by itself, the others beside the one before; here all are made to stand by themselves. */
function decodeTrade(read: Reader, before: WireTrade | undefined): WireTrade {
  const price = (before?.price ?? 0) + read.integer("price");
  const ts_event = (before?.ts_event ?? 0) + read.integer("ts_event");
  const flags = read.count("flags");
  if (flags > 7 || (flags & 3) === 3) throw read.wrong("flags", "0, 1, 2 or 4, 5, 6", flags);
  return {
    flags,
    price,
    size: read.integer("size"),
    ts_event,
    conditions: flags & 4 ? read.string("conditions") : "",
  };
}

function decodeBarFields(read: Reader, day: boolean): WireBar {
  const mask = read.count("mask");
  if (mask > (day ? 511 : 255)) throw read.wrong("mask", day ? "at most 511" : "at most 255", mask);
  const bar: WireBar = {};
  if (mask & 1) bar.start = read.integer("start");
  if (mask & 2) bar.open = read.integerOrNull("open");
  if (mask & 4) bar.high = read.integerOrNull("high");
  if (mask & 8) bar.low = read.integerOrNull("low");
  if (mask & 16) bar.close = read.integerOrNull("close");
  if (mask & 32) bar.volume = read.integer("volume");
  if (mask & 64) bar.trades = read.count("trades");
  if (mask & 128) bar.vwap = read.integerOrNull("vwap");
  if (mask & 256) bar.previous_close = read.integerOrNull("previous_close");
  return bar;
}

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
    tick_size: fields.integer("tick_size"),
    anchor: fields.integer("anchor"),
    previous_close: fields.integerOrNull("previous_close"),
  };
}

/** Checks what the client relies on; further fields are passed on as they are. */
function decodeAnswer(map: Record<string, unknown>): Answer | { type: "unknown" } {
  const fields = new Fields(String(map["type"]), map);
  switch (map["type"]) {
    case "welcome":
      for (const name of ["epoch", "position", "time"]) fields.integer(name);
      fields.positive("heartbeat_ms");
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
    case "pong":
    case "stats":
      fields.integer("position");
      break;
    case "error":
      for (const name of ["code", "message"]) fields.string(name);
      break;
    case "goodbye":
      for (const name of ["code", "retry_after_ms", "jitter_ms"]) fields.integer(name);
      break;
    default:
      return { type: "unknown" };
  }
  return map as unknown as Answer;
}

/** Walks the flat array of an update; every error names the place. */
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

  numberOrNull(name: string): number | null {
    const value = this.values[this.next++];
    if (value === null || typeof value === "number") return value;
    throw this.wrong(name, "a number or nil", value);
  }

  string(name: string): string {
    const value = this.values[this.next++];
    if (typeof value === "string") return value;
    throw this.wrong(name, "a string", value);
  }

  map(name: string): Record<string, unknown> {
    const value = this.values[this.next++];
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      return value as Record<string, unknown>;
    throw this.wrong(name, "a map", value);
  }

  /** A count and that many items of at least `width` values each; each is told of the one before it. */
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

  integerOrNull(name: string): number | null {
    return this.map[name] === null ? null : this.integer(name);
  }

  positive(name: string): void {
    const value = this.integer(name);
    if (value <= 0) throw this.wrong(name, "more than 0", value);
  }

  /** Digits behind the point. */
  scale(name: string): number {
    const value = this.integer(name);
    if (value >= 0 && value <= 18) return value;
    throw this.wrong(name, "0 to 18", value);
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
