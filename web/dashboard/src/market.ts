import {
  price,
  type Bar,
  type Change,
  type Decimal,
  type Instrument,
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
  /** The last price as a number, to tell the direction of the next one across scales. */
  lastSeen: number | null;
  /** By the tape's clock, when it changed last; null before. */
  time: Micros | null;
  /** By the page's clock, when it changed last. */
  heardAt: number | null;
  /** How far apart its changes usually are, in ms; null before the third. */
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
    if (change.kind === "instrument") {
      this.define(change.instrument);
      return;
    }
    if (
      change.kind === "feed" ||
      change.kind === "reset" ||
      change.kind === "stats" ||
      !change.instrument
    )
      return;
    const row = this.byNumber.get(change.instrument.number);
    if (!row) return;
    switch (change.kind) {
      case "quote":
        row.quote = change.quote;
        break;
      case "day":
        row.day = change.day;
        this.noteTick(row);
        break;
      case "trading":
        row.trading = change.status.state;
        break;
      default:
        return;
    }
    row.time = time;
    if (row.heardAt === null || row.heardAt < now) {
      // What came long after belongs to another time: the row was out of sight, or the feed stood still.
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
    const last = units / 10 ** row.instrument.price_scale;
    if (row.lastSeen !== null && last !== row.lastSeen) row.tick = last > row.lastSeen ? 1 : -1;
    row.lastSeen = last;
  }
}

/** The price of `field` as text needs it, or null where there is none. */
export function rowPrice(row: Row, units: Units | null | undefined): Decimal | null {
  return units === null || units === undefined ? null : price(row.instrument, units);
}

/** Last price against the previous close, both in units. */
export function dayChange({ instrument, day }: Row): { change: number; previous: number } | null {
  const previous = day.previous_close ?? instrument.previous_close;
  if (day.close === null || day.close === undefined || previous === null) return null;
  return { change: day.close - previous, previous };
}
