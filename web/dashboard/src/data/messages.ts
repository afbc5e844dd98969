import type {
  Change,
  ClientEvents,
  ConnectionState,
  Counters,
  Epoch,
  Feed,
  Instrument,
  Interval,
  Micros,
  Position,
  Post,
  Topic,
  Verification,
  TransportName,
  Welcome,
} from "@tickcast/client";

/** What one page wants to receive. */
export interface Demand {
  /** Symbols whose quotes and days the page shows, or is about to. */
  readonly watched: readonly string[];
  /** The open symbol: its trades, and its bars of an interval. */
  readonly open: Opened | null;
  /** Further topics, as the server knows them. */
  readonly topics: readonly Topic[];
  /** Updates a second that the page can draw. */
  readonly hz: number;
  /** The page is hidden. */
  readonly hidden: boolean;
}

export interface Opened {
  readonly symbol: string;
  readonly interval: Interval;
  /** A new number each time a symbol is opened, so that no earlier entry is taken for a current one. */
  readonly serial: number;
}

export const NO_DEMAND: Demand = { watched: [], open: null, topics: [], hz: 60, hidden: false };

/** From a page to the relay. */
export type ToRelay =
  | {
      readonly kind: "hello";
      /** A web lock that the page holds as long as it lives; null before it has one, and in browsers without locks. */
      readonly lock: string | null;
    }
  | { readonly kind: "demand"; readonly demand: Demand }
  /** The last batch is drawn: the next one may come. */
  | { readonly kind: "drawn" }
  | { readonly kind: "verify"; readonly id: number; readonly topics: readonly Topic[] }
  | { readonly kind: "post"; readonly id: number; readonly post: Post }
  /** The network is back, or the user does not want to wait. */
  | { readonly kind: "reconnect" }
  /** Sent now and then, by pages without a lock. */
  | { readonly kind: "alive" }
  | { readonly kind: "goodbye" };

/** From the relay to a page. */
export type ToPage =
  | Batch
  | { readonly kind: "condition"; readonly condition: Condition }
  | { readonly kind: "gap"; readonly gap: ClientEvents["gap"] }
  | { readonly kind: "error"; readonly error: ClientEvents["error"] }
  | {
      readonly kind: "posted";
      readonly id: number;
      /** Why it is not on the tape. */
      readonly failure: string | null;
    }
  | {
      readonly kind: "verified";
      readonly id: number;
      readonly position: Position;
      readonly results: readonly Verification[];
      /** Why there are no results. */
      readonly failure: string | null;
    };

/** What has come for a page since the last batch; a page has at most one that it has not drawn. */
export interface Batch {
  readonly kind: "batch";
  /** Everything the page keeps is of another tape: it starts over with this. */
  readonly anew: boolean;
  readonly position: Position;
  readonly time: Micros;
  readonly instruments: readonly Instrument[];
  /** The frequent changes, packed as `pack.ts` says; the buffer is transferred. */
  readonly packed: Float64Array;
  /** Texts that `packed` points to. */
  readonly texts: readonly string[];
  /** The rare changes. */
  readonly others: readonly Change[];
  /** Of what was open when it was made: {@link Opened.serial}. */
  readonly serial: number | null;
  /** When the updates in it were due, in ms by the clock of `Date.now()` here; empty if unknown. */
  readonly due: readonly number[];
}

/** The state of the relay's connection. Times are in ms since 1970, by this machine's clock. */
export interface Condition {
  readonly state: ConnectionState;
  readonly session: Welcome | null;
  /** What the server is reached by; null while it is not. */
  readonly transport: TransportName | null;
  readonly epoch: Epoch | null;
  readonly feed: Feed | null;
  readonly counters: Counters;
  readonly rates: Rates;
  /** The relay's lag to the server's tape, in ms of the tape. */
  readonly lag_ms: number;
  /** Topics that are subscribed, over all pages. */
  readonly topics: number;
}

/** Over the last second. */
export interface Rates {
  /** Changes on the server's tape of what is subscribed. */
  readonly ticks: number;
  /** Values that were sent for them. */
  readonly delivered: number;
  readonly frames: number;
  readonly bytes: number;
}
