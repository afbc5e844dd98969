/**
 * The words of `tickcast.v1`: tags, fields with their bits and units, words by their numbers, close codes, waits. No other file has any.
 *
 * Invariant: `tests/schema.test.ts` compares them with `tests/vectors/schema.json`, which is written from the server's own tables.
 */

import type { Bar, Count, Feed, Quote, Side, TradingState, Watchers } from "./protocol.js";

export const SUBPROTOCOL = "tickcast.v1.msgpack";

/**
 * What the number of a field is. On the wire a price is relative to the anchor of its instrument, a hundredth (of a price unit) to 100
 * times that, and a moment (µs) to the time of the update; null is no price. A second counts from 1970.
 */
export type Unit = "price" | "size" | "count" | "second" | "moment" | "hundredth";

export interface Field<Name extends string = string> {
  readonly name: Name;
  /** Of a mask. */
  readonly bit: number;
  readonly unit: Unit;
}

/** The fields of images, in the order of the wire. */
export const FIELDS = {
  quote: [
    { name: "bid", bit: 1, unit: "price" },
    { name: "bid_size", bit: 2, unit: "size" },
    { name: "ask", bit: 4, unit: "price" },
    { name: "ask_size", bit: 8, unit: "size" },
    { name: "ts_event", bit: 16, unit: "moment" },
  ],
  bar: [
    { name: "start", bit: 1, unit: "second" },
    { name: "open", bit: 2, unit: "price" },
    { name: "high", bit: 4, unit: "price" },
    { name: "low", bit: 8, unit: "price" },
    { name: "close", bit: 16, unit: "price" },
    { name: "volume", bit: 32, unit: "size" },
    { name: "trades", bit: 64, unit: "count" },
    { name: "vwap", bit: 128, unit: "hundredth" },
    { name: "previous_close", bit: 256, unit: "price" },
  ],
  watchers: [{ name: "watchers", bit: 1, unit: "count" }],
} as const satisfies {
  readonly quote: readonly Field<keyof Quote>[];
  readonly bar: readonly Field<keyof Bar>[];
  readonly watchers: readonly Field<keyof Watchers>[];
};

interface TopicSchema {
  /** As `joined` and `left` name it. */
  readonly number: number;
  readonly image: {
    /** Of a quote the mask is part of the tag, else it follows. */
    readonly tag: number;
    readonly fields: keyof typeof FIELDS;
    /** The bits of the fields that it has, over which the checksum is made. */
    readonly all: number;
  } | null;
  readonly ring: {
    readonly tag: number;
    /** The tag with the number of the first entry. */
    readonly numbered: number;
    readonly entry: "trade" | "bar";
    /** In JSON form. */
    readonly list: string;
    /** Fewest values of an entry. */
    readonly least: number;
  } | null;
}

const bars = (tag: number, closed: number, numbered: number) =>
  ({
    image: { tag, fields: "bar", all: 255 },
    ring: { tag: closed, numbered, entry: "bar", list: "closed", least: 8 },
  }) as const;

/** The kinds of topics that instruments have. */
export const TOPICS = {
  quote: { number: 0, image: { tag: 0, fields: "quote", all: 15 }, ring: null },
  trades: {
    number: 1,
    image: null,
    ring: { tag: 32, numbered: 33, entry: "trade", list: "trades", least: 4 },
  },
  "bars.1s": { number: 2, ...bars(40, 44, 46) },
  "bars.1m": { number: 3, ...bars(41, 45, 47) },
  day: { number: 4, image: { tag: 42, fields: "bar", all: 511 }, ring: null },
  status: { number: 5, image: null, ring: null },
  watchers: { number: 6, image: { tag: 43, fields: "watchers", all: 1 }, ring: null },
} as const satisfies Readonly<Record<string, TopicSchema>>;

/** The kinds of topics that channels have. */
export const CHANNEL_TOPICS = ["messages", "states"] as const;

export type TopicKind = keyof typeof TOPICS;
/** Those with an image that is sent by its fields. */
export type ImageKind = {
  [Kind in TopicKind]: (typeof TOPICS)[Kind]["image"] extends null ? never : Kind;
}[TopicKind];
/** Those whose entries each come once and in order. */
export type RingKind = {
  [Kind in TopicKind]: (typeof TOPICS)[Kind]["ring"] extends null ? never : Kind;
}[TopicKind];

/** By their numbers. */
export const TOPIC_KINDS = Object.keys(TOPICS) as readonly TopicKind[];
export const IMAGE_KINDS = TOPIC_KINDS.filter(
  (kind): kind is ImageKind => TOPICS[kind].image !== null,
);
export const RING_KINDS = TOPIC_KINDS.filter(
  (kind): kind is RingKind => TOPICS[kind].ring !== null,
);

export function hasRing(kind: TopicKind): kind is RingKind {
  return TOPICS[kind].ring !== null;
}

/** The fields of an image of that kind, in the order of the wire. */
export function fieldsOf(kind: ImageKind): readonly Field[] {
  return FIELDS[TOPICS[kind].image.fields];
}

/** Entries that are no image and no ring. */
export const TAGS = {
  quote: 0,
  quote_with_time: 16,
  left: 57,
  joined: 58,
  reset: 59,
  status: 60,
  feed: 61,
  stats: 62,
  definition: 63,
  messages: 48,
  states: 49,
} as const;

/** The flags of a trade: its side by {@link SIDES}, and what follows. */
export const TRADE_FLAGS = { side: 3, conditions: 4, counts: 8 } as const;

export const SIDES = ["none", "buy", "sell"] as const satisfies readonly Side[];
export const TRADING_STATES = [
  "pre-open",
  "open",
  "halted",
  "closed",
] as const satisfies readonly TradingState[];
export const FEED_KINDS = [
  "simulator",
  "replay",
  "publisher",
] as const satisfies readonly Feed["kind"][];
export const FEED_STATES = [
  "live",
  "stale",
  "paused",
  "ended",
  "seeking",
] as const satisfies readonly Feed["state"][];

/** What a trade counts for, those first that mean several. */
export const COUNTS = {
  volume: 1,
  high_low: 10,
  last: 20,
  bars_high_low: 2,
  bars_last: 4,
  day_high_low: 8,
  day_last: 16,
  break: 32,
  correction: 64,
} as const satisfies Readonly<Record<Count, number>>;
/** Bits of a trade that counts for everything. */
export const EVERYTHING = COUNTS.volume | COUNTS.high_low | COUNTS.last;

/** Decimals of a price or a size. */
export const LARGEST_SCALE = 18;

/** After which codes the client comes back, and after which slower: the server is overloaded, or the client asks too much. */
export type Return = "return" | "return slower" | "stay away";

/** Close codes: whether to come back, and the reason if the Close frame has none. */
export const CLOSE_CODES: Readonly<
  Record<number, { readonly then: Return; readonly reason: string }>
> = {
  1000: { then: "return", reason: "the server closed the connection" },
  1001: { then: "return", reason: "the server is going away" },
  1002: {
    then: "stay away",
    reason: "the server found the connection to break the WebSocket protocol",
  },
  1003: { then: "stay away", reason: "the server takes no data of this kind" },
  1007: { then: "stay away", reason: "the server found a text that is not UTF-8" },
  1008: { then: "stay away", reason: "a rule of the server was broken" },
  1009: { then: "stay away", reason: "a message was too large for the server" },
  1011: { then: "return", reason: "the server failed" },
  1012: { then: "return", reason: "the server restarts" },
  1013: { then: "return slower", reason: "the server is overloaded" },
  4408: { then: "return", reason: "what was sent was not read in time" },
  4410: { then: "stay away", reason: "the room is over" },
  4429: { then: "return slower", reason: "too many requests" },
};

/** How a client that was cut off comes back. */
export const BACKOFF = {
  /** The span of the first random wait; each later span is twice as long. */
  first_ms: 250,
  /** The first one after a code that says `return slower`. */
  first_when_busy_ms: 5_000,
  longest_ms: 30_000,
  /** The most that is granted to a server that asks for a wait, and as much again for its jitter. */
  longest_asked_ms: 3_600_000,
} as const;
