/**
 * The words of `tickcast.v1`, as `docs/protocol.md` defines them. Field names are the ones on the wire.
 *
 * Integers of the wire stay below 2^53, so a JavaScript number holds each of them exactly; only prices, sizes and sums of such may be
 * larger, and are bigints then.
 */

import type { TopicKind } from "./schema.js";
import type { ServerStats } from "./server-stats.js";
import type { Integer } from "./units.js";

export { SUBPROTOCOL, type TopicKind } from "./schema.js";

declare const brand: unique symbol;
type Brand<T, Name> = T & { readonly [brand]: Name };

/** Batches since the tape began; comparable only within one {@link Epoch}. */
export type Position = Brand<number, "Position">;
/** One life of the server's tape. Epochs are equal or different, without order. */
export type Epoch = Brand<number, "Epoch">;
/** Microseconds since 1970, UTC. */
export type Micros = Brand<number, "Micros">;
/** Number of an instrument within an epoch. */
export type InstrumentNumber = Brand<number, "InstrumentNumber">;
/**
 * A price or size as an integer: the value is `units × 10^-scale`, with the scale of its instrument. A number up to 2^53 − 1 either side
 * of 0, and a bigint beyond.
 */
export type Units = Brand<Integer, "Units">;
/** `kind:SYMBOL`, `kind:*`, `kind:@SECTOR`, `messages:CHANNEL`, `states:CHANNEL` or `status`. */
export type Topic = string;

/** An exact decimal number: `units × 10^-scale`. */
export interface Decimal {
  readonly units: Integer;
  readonly scale: number;
}

export interface Instrument {
  readonly number: InstrumentNumber;
  readonly symbol: string;
  readonly name: string;
  readonly sector: string;
  readonly currency: string;
  /** Digits after the point of its prices. */
  readonly price_scale: number;
  /** Digits after the point of its sizes. */
  readonly size_scale: number;
  readonly tick_size: Units;
  /** What prices on the wire are relative to. */
  readonly anchor: Units;
  readonly previous_close: Units | null;
}

/** Best bid and offer. A price is null if that side is empty; a field never received is absent. */
export interface Quote {
  bid?: Units | null;
  bid_size?: Units;
  ask?: Units | null;
  ask_size?: Units;
  ts_event?: Micros;
}

/** A bar as far as it is known: an image holds the fields that were sent. */
export interface Bar {
  /** Whole seconds since 1970. */
  start?: number;
  open?: Units | null;
  high?: Units | null;
  low?: Units | null;
  close?: Units | null;
  volume?: Units;
  /** How many. */
  trades?: number;
  /** In hundredths of a price unit. */
  vwap?: Units | null;
  /** Of the `day` topic only. */
  previous_close?: Units | null;
}

export type ClosedBar = Required<Omit<Bar, "previous_close">>;

/** How many sessions watch an instrument by its name. */
export interface Watchers {
  watchers?: number;
}

/** Any JSON value. */
export type Json =
  null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** A message of a channel. */
export interface ChannelMessage {
  /** Index in the channel's messages of this epoch, from 0. */
  readonly number: number;
  /** Who sent it, and what it is, in the sender's own words. */
  readonly from?: string;
  readonly event?: string;
  readonly data: Json;
  readonly ts_event: Micros;
}

export type Side = "none" | "buy" | "sell";

/** What a trade may count for: `high_low` and `last` each mean both of those that follow them. */
export type Count =
  | "volume"
  | "high_low"
  | "last"
  | "bars_high_low"
  | "bars_last"
  | "day_high_low"
  | "day_last"
  /** It is no trade, but takes one back; the rest is what that trade counted for. */
  | "break"
  /** It replaces one that was taken back. */
  | "correction";

export interface Trade {
  /** Index in the instrument's trades of this epoch, from 0. */
  readonly number: number;
  readonly price: Units;
  readonly size: Units;
  /** The side that took liquidity. */
  readonly side: Side;
  readonly conditions: string;
  /** What it counts for in bars and days; absent if that is everything. */
  readonly counts?: readonly Count[];
  /** Of a break: the number of the trade that it takes back, if known. */
  readonly breaks?: number;
  readonly ts_event: Micros;
}

export type Interval = "1s" | "1m";
export type TradingState = "pre-open" | "open" | "halted" | "closed";

export interface TradingStatus {
  readonly state: TradingState;
  readonly ts_event: Micros;
}

/** Times real time, from 0.001 to 1,000,000; or as fast as the server can. */
export type Speed = number | "max";

export interface Feed {
  readonly kind: "simulator" | "replay" | "publisher";
  /** Seeking: a seek is under way; until it is done the feed goes on as it was. */
  readonly state: "live" | "stale" | "paused" | "ended" | "seeking";
  readonly speed: Speed;
}

/** One entry of an update, in exact absolute values. `changed` holds the fields that it carried. */
export type Change =
  /** The tape goes on at another moment, as after a seek in a replay: all that was known is void, and comes again. */
  | { readonly kind: "reset" }
  | { readonly kind: "instrument"; readonly instrument: Instrument }
  | {
      readonly kind: "quote";
      readonly instrument: Instrument;
      readonly changed: Readonly<Quote>;
      readonly quote: Readonly<Quote>;
    }
  | {
      readonly kind: "trades";
      readonly instrument: Instrument;
      /** How many entries before these were lost to this session; 0 almost always. */
      readonly missed: number;
      /** Those that had come before, as after a resumed session; empty almost always. */
      readonly repeated: readonly Trade[];
      /** Those that are new. */
      readonly trades: readonly Trade[];
    }
  | {
      readonly kind: "closed_bars";
      readonly instrument: Instrument;
      readonly interval: Interval;
      readonly missed: number;
      readonly repeated: readonly ClosedBar[];
      readonly bars: readonly ClosedBar[];
      /** Number of the first of `bars`. */
      readonly first: number;
    }
  | {
      readonly kind: "bar";
      readonly instrument: Instrument;
      readonly interval: Interval;
      readonly changed: Readonly<Bar>;
      readonly bar: Readonly<Bar>;
    }
  | {
      readonly kind: "day";
      readonly instrument: Instrument;
      readonly changed: Readonly<Bar>;
      readonly day: Readonly<Bar>;
    }
  | {
      readonly kind: "watchers";
      readonly instrument: Instrument;
      readonly changed: Readonly<Watchers>;
      readonly watchers: Readonly<Watchers>;
    }
  | {
      readonly kind: "messages";
      readonly channel: string;
      /** How many before these were lost to this session; 0 almost always. */
      readonly missed: number;
      /** Those that had come before, as after a resumed session; empty almost always. */
      readonly repeated: readonly ChannelMessage[];
      /** Those that are new. */
      readonly messages: readonly ChannelMessage[];
      /** Number of the first of `messages`, or of the next to come. */
      readonly first: number;
    }
  | {
      readonly kind: "states";
      readonly channel: string;
      /** What is not in `changed` has ended. */
      readonly whole: boolean;
      /** By key; null has ended. */
      readonly changed: Readonly<Record<string, Json>>;
    }
  | {
      readonly kind: "trading";
      /** Null for the entire market. */
      readonly instrument: Instrument | null;
      readonly status: TradingStatus;
    }
  | { readonly kind: "feed"; readonly feed: Feed }
  /** The instrument has moved into a subscribed sector: the full topic follows, and what its ring held before is not missed. */
  | { readonly kind: "joined"; readonly instrument: Instrument; readonly topic: TopicKind }
  /** It has moved out of all subscribed sectors: what was known of the topic is dropped, and nothing more comes. */
  | { readonly kind: "left"; readonly instrument: Instrument; readonly topic: TopicKind }
  /** The server's own figures. */
  | { readonly kind: "stats"; readonly stats: ServerStats };

export interface Update {
  readonly type: "update";
  readonly position: Position;
  /** The tape's clock when the update was made. */
  readonly time: Micros;
  /** It ends a flush; else the rest of what is pending follows, and the position stays. */
  readonly whole: boolean;
  readonly changes: readonly Change[];
}

export type RequestId = number | string;

export interface Cursor {
  readonly epoch: Epoch;
  readonly position: Position;
}

export type Request =
  | { op: "open" | "close"; id?: RequestId }
  | {
      op: "subscribe";
      id?: RequestId;
      topics: readonly Topic[];
      since?: Cursor;
      max_hz?: number | null;
      times?: boolean;
    }
  | { op: "unsubscribe"; id?: RequestId; topics: readonly Topic[] }
  | { op: "ping"; id?: RequestId }
  | { op: "stats"; id?: RequestId; enabled: boolean }
  | { op: "checksum"; id?: RequestId; topics: readonly Topic[] }
  | ({ op: "replay"; id?: RequestId } & ReplayAction)
  | ({ op: "publish"; id?: RequestId } & Post);

/** What a session posts to a channel: a message, or a state. */
export type Post =
  | {
      /** `messages:CHANNEL` */
      readonly topic: Topic;
      readonly from?: string;
      readonly event?: string;
      readonly data: Json;
    }
  | {
      /** `states:CHANNEL` */
      readonly topic: Topic;
      readonly key: string;
      /** Null ends it. */
      readonly data: Json;
      /** It ends by itself after this time, unless it is set again. */
      readonly ttl_ms?: number;
    };

/** The answer to a post: it is on the tape, and comes with the update of that position. */
export interface Published {
  readonly type: "published";
  readonly id?: RequestId;
  readonly position: Position;
}

/** A control of what the server plays; without an action only a query. Times are RFC 3339. */
export type ReplayAction =
  | { action?: "play" | "pause" }
  | { action: "speed"; speed: Speed }
  | { action: "seek"; to: string }
  | { action: "step"; by?: string };

/** The state of what the server plays. */
export interface ReplayState {
  readonly type: "replay";
  readonly id?: RequestId;
  readonly kind: Feed["kind"];
  readonly state: "playing" | "paused" | "ended" | "stale" | "seeking";
  readonly speed: Speed;
  readonly now: string;
  readonly start: string | null;
  readonly end: string | null;
  readonly loop: boolean;
  readonly controllable: boolean;
  readonly room: string | null;
}

export interface Welcome {
  readonly type: "welcome";
  readonly protocol: string;
  readonly server: string;
  readonly epoch: Epoch;
  /** Position of the last reset: what a client before it knows is void. Absent if there was none. */
  readonly begins?: Position;
  readonly position: Position;
  readonly time: Micros;
  readonly heartbeat_ms: number;
  readonly limits: {
    readonly topics: number;
    readonly message_bytes: number;
    readonly requests_per_second: number;
    readonly max_hz: number;
  };
}

/** The start of a session that is not the first of its connection. */
export interface Opened {
  readonly type: "opened";
  readonly id?: RequestId;
  readonly position: Position;
  readonly time: Micros;
}

/** The last message of a session that was closed. */
export interface Closed {
  readonly type: "closed";
  readonly id?: RequestId;
}

/** A reset at that position: what sessions before it know is void. Sent if a connection has several. */
export interface Reset {
  readonly type: "reset";
  readonly begins: Position;
}

export interface TopicError {
  readonly code: string;
  readonly message: string;
  readonly nearest?: string;
}

export interface TopicAnswer {
  readonly topic: Topic;
  readonly instrument?: InstrumentNumber;
  readonly pending?: boolean;
  readonly error?: TopicError;
}

export interface Subscribed {
  readonly type: "subscribed";
  readonly id?: RequestId;
  readonly epoch: Epoch;
  readonly position: Position;
  readonly resumed?: boolean;
  readonly topics: readonly TopicAnswer[];
}

export interface Unsubscribed {
  readonly type: "unsubscribed";
  readonly id?: RequestId;
  readonly topics: readonly TopicAnswer[];
}

export interface Pong {
  readonly type: "pong";
  readonly id?: RequestId;
  readonly time: Micros;
  readonly position: Position;
}

/** What this session reads now was sent `lag_ms` ago. Below a second it has caught up. */
export interface Lag {
  readonly type: "lag";
  readonly lag_ms: number;
}

export interface Stats {
  readonly type: "stats";
  readonly id?: RequestId;
  readonly position: Position;
  readonly lag: number;
  readonly lag_ms: number;
  readonly frames: number;
  readonly bytes: number;
  readonly events: number;
  readonly delivered: number;
}

export interface Checksum {
  readonly type: "checksum";
  readonly id?: RequestId;
  readonly position: Position;
  readonly topics: readonly {
    readonly topic: Topic;
    readonly checksum?: number;
    readonly error?: TopicError;
  }[];
}

/** The server impairs this connection on request, for tests. This client never requests it. */
export interface FaultTaken {
  readonly type: "fault";
  readonly id?: RequestId;
  readonly fault: string;
}

export interface ServerError {
  readonly type: "error";
  readonly id?: RequestId;
  readonly code: string;
  readonly message: string;
}

export interface Goodbye {
  readonly type: "goodbye";
  readonly code: number;
  readonly reason: string;
  readonly retry_after_ms: number;
  readonly jitter_ms: number;
}

/** Everything the server sends except updates. */
export type Answer =
  | ReplayState
  | Welcome
  | Opened
  | Closed
  | Reset
  | Subscribed
  | Unsubscribed
  | Pong
  | Lag
  | Stats
  | Checksum
  | FaultTaken
  | Published
  | ServerError
  | Goodbye;
