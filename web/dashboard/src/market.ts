import {
  minus,
  price,
  toNumber,
  type Bar,
  type Change,
  type Decimal,
  type Instrument,
  type Integer,
  type Micros,
  type Quote,
  type TradingState,
  type Units,
} from "@tickcast/client";
import { pace } from "./shell/silence.js";

const LONGEST_INTERVAL_MS = 60_000;

/** One instrument of the watchlist. `quote` and `day` are the client's images: always the newest values. */
export interface Row {
  instrument: Instrument;
  quote: Readonly<Quote>;
  day: Readonly<Bar>;
  trading: TradingState | null;
  /** Direction of the last change of the last price: 1, -1, or 0 before the first. */
  tick: -1 | 0 | 1;
  /** The last price as a number, to compare it with the next one across scales. */
  lastSeen: number | null;
  /** When it changed last, by the tape's clock; null before. */
  time: Micros | null;
  /** When it changed last, by the page's clock. */
  heardAt: number | null;
  /** The usual interval of its changes, in ms; null before the third. */
  pace: number | null;
}

/** Where the market's changes come from: the page's link, or a client. */
export interface MarketSource {
  on(
    type: "update",
    listener: (update: { readonly time: Micros; readonly changes: readonly Change[] }) => void,
  ): unknown;
  on(type: "replaced", listener: () => void): unknown;
}

/** All instruments that the server has, and which of them changed since the last frame. */
export class Market {
  readonly rows: Row[] = [];
  /** Changes whenever `rows` gains, loses or redefines an instrument. */
  universe = 0;
  /** Changes that came since the page was opened. */
  changes = 0;
  private readonly byNumber = new Map<number, Row>();
  private readonly bySymbol = new Map<string, Row>();
  private dirty = new Set<Row>();

  /** @param changed is called for every update that concerns the watchlist */
  constructor(source: MarketSource, changed: () => void) {
    source.on("update", ({ changes, time }) => {
      const now = performance.now();
      this.changes += changes.length;
      for (const change of changes) this.apply(change, time, now);
      changed();
    });
    source.on("replaced", () => {
      this.rows.length = 0;
      this.byNumber.clear();
      this.bySymbol.clear();
      this.dirty.clear();
      this.universe++;
      changed();
    });
  }

  find(symbol: string): Row | undefined {
    return this.bySymbol.get(symbol);
  }

  /** The rows that changed since the last call. */
  takeDirty(): Set<Row> {
    const taken = this.dirty;
    this.dirty = new Set();
    return taken;
  }

  private apply(change: Change, time: Micros, now: number): void {
    switch (change.kind) {
      case "instrument":
        this.define(change.instrument);
        break;
      case "quote":
      case "day":
      case "trading": {
        const row = change.instrument && this.byNumber.get(change.instrument.number);
        if (row) this.note(row, change, time, now);
        break;
      }
      // Of the entire market, or of the open symbol: other panels show these.
      case "reset":
      case "feed":
      case "stats":
      case "trades":
      case "bar":
      case "closed_bars":
      case "watchers":
      case "messages":
      case "states":
        break;
      // Of sectors, of which no page subscribes any.
      case "joined":
      case "left":
        break;
      default:
        change satisfies never;
    }
  }

  private note(
    row: Row,
    change: Extract<Change, { kind: "quote" | "day" | "trading" }>,
    time: Micros,
    now: number,
  ): void {
    if (change.kind === "quote") row.quote = change.quote;
    else if (change.kind === "trading") row.trading = change.status.state;
    else {
      row.day = change.day;
      this.noteTick(row);
    }
    row.time = time;
    if (row.heardAt === null || row.heardAt < now) {
      // What came long after belongs to another time: the row was out of sight, or the feed had stopped.
      const interval = row.heardAt === null ? null : now - row.heardAt;
      if (interval !== null && interval < LONGEST_INTERVAL_MS) row.pace = pace(row.pace, interval);
      row.heardAt = now;
    }
    this.dirty.add(row);
  }

  private define(instrument: Instrument): void {
    const known = this.byNumber.get(instrument.number);
    if (known) {
      known.instrument = instrument;
      this.dirty.add(known);
    } else {
      const row: Row = {
        instrument,
        quote: {},
        day: {},
        trading: null,
        tick: 0,
        lastSeen: null,
        time: null,
        heardAt: null,
        pace: null,
      };
      this.byNumber.set(instrument.number, row);
      this.bySymbol.set(instrument.symbol, row);
      this.rows.push(row);
    }
    this.universe++;
  }

  private noteTick(row: Row): void {
    const units = row.day.close;
    if (units === undefined || units === null) return;
    const last = toNumber(price(row.instrument, units));
    if (row.lastSeen !== null && last !== row.lastSeen) row.tick = last > row.lastSeen ? 1 : -1;
    row.lastSeen = last;
  }
}

/** The price of `field` for text, or null if there is none. */
export function rowPrice(row: Row, units: Units | null | undefined): Decimal | null {
  return units === null || units === undefined ? null : price(row.instrument, units);
}

/** What the last price is compared with: the previous close; if there is none, as in many recordings, the session's open. */
export type Reference = "close" | "open";

/** The last price against its reference, in units. */
export interface DayChange {
  readonly change: Integer;
  readonly from: Integer;
  readonly since: Reference;
  /** Null if the reference is 0. */
  readonly percent: number | null;
}

/** Null before the first trade. */
export function dayChange({ instrument, day }: Row): DayChange | null {
  const previous = day.previous_close ?? instrument.previous_close;
  const from = previous ?? day.open;
  if (day.close == null || from == null) return null;
  const change = minus(day.close, from);
  // A spread may have a negative price: a gain is still a gain.
  const percent = from === 0 ? null : (100 * Number(change)) / Math.abs(Number(from));
  return { change, from, since: previous === null ? "open" : "close", percent };
}

/** The reference of the changes of `rows`: one for all, or both; the close before there are any. */
export function references(rows: readonly Row[]): Reference | "both" {
  let found: Reference | null = null;
  for (const { instrument, day } of rows) {
    if (day.close == null) continue;
    const since = (day.previous_close ?? instrument.previous_close) === null ? "open" : "close";
    if (found !== null && found !== since) return "both";
    found = since;
  }
  return found ?? "close";
}
