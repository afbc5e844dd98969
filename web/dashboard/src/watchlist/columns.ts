import { minus, size, toNumber, type Decimal, type Integer, type Units } from "@tickcast/client";
import {
  formatNumber,
  formatPercent,
  formatSigned,
  formatTime,
  formatVolume,
  NONE,
} from "../format.js";
import { dayChange, rowPrice, type Reference, type Row } from "../market.js";

/** One column of the watchlist. Its `key` is the class of its cells. */
export interface Column {
  readonly key: string;
  readonly label: string;
  /** In place of the label, or next to it, if changes, or some of them, are since the open. */
  readonly sinceOpen?: string;
  /** In pixels; "price" and "symbol": as wide as the longest of the universe. */
  readonly width: number | "price" | "symbol";
  /** With a "price": what the cell shows before it. */
  readonly extra?: number;
  /** If there is little room, those with the highest go first; those with 0 stay. */
  readonly yields: number;
  /** Shown by default. */
  readonly usual: boolean;
  /** Its text may have any length, and begins on the left. */
  readonly words?: true;
  /** Absent: the cell is drawn, see `sparkline.ts`. */
  text?(row: Row): string;
  /**
   * What it is sorted by; null comes last. Absent for values known only of the rows in sight, such as quotes. Text sorts from A to Z first, numbers
   * from the largest.
   */
  sort?(row: Row): number | string | null;
  /** The cell flashes when this number changes. */
  moves?(row: Row): number | null;
  /** Colour of the text: the sign of this number. */
  sign?(row: Row): number;
}

export const COLUMNS: readonly Column[] = [
  {
    key: "symbol",
    label: "Symbol",
    width: "symbol",
    yields: 0,
    usual: true,
    words: true,
    text: (row) => row.instrument.symbol,
    sort: (row) => row.instrument.symbol,
  },
  {
    key: "name",
    label: "Name",
    width: 130,
    yields: 6,
    usual: true,
    words: true,
    text: (row) => row.instrument.name,
    sort: (row) => row.instrument.name,
  },
  {
    key: "last",
    label: "Last",
    width: "price",
    extra: 16,
    yields: 0,
    usual: true,
    text: (row) => TICKS[row.tick + 1]! + priceText(rowPrice(row, row.day.close)),
    sort: (row) => row.lastSeen,
    moves: (row) => row.lastSeen,
    sign: (row) => row.tick,
  },
  {
    key: "change",
    label: "Change",
    sinceOpen: "Chg open",
    width: "price",
    yields: 7,
    usual: true,
    text: (row) => {
      const moved = dayChange(row);
      return moved
        ? formatSigned({ units: moved.change, scale: row.instrument.price_scale })
        : NONE;
    },
    sort: (row) => {
      const moved = dayChange(row);
      return moved && toNumber({ units: moved.change, scale: row.instrument.price_scale });
    },
    sign: changeSign,
  },
  {
    key: "percent",
    label: "Chg %",
    sinceOpen: "Chg % open",
    width: 70,
    yields: 0,
    usual: true,
    text: (row) => {
      const moved = dayChange(row);
      return formatPercent(moved && moved.percent);
    },
    sort: changePercent,
    sign: changeSign,
  },
  { key: "spark", label: "Trend", width: 84, yields: 3, usual: true },
  {
    key: "bid",
    label: "Bid",
    width: "price",
    yields: 2,
    usual: true,
    text: (row) => priceText(rowPrice(row, row.quote.bid)),
    moves: (row) => comparable(row, row.quote.bid),
  },
  {
    key: "ask",
    label: "Ask",
    width: "price",
    yields: 2,
    usual: true,
    text: (row) => priceText(rowPrice(row, row.quote.ask)),
    moves: (row) => comparable(row, row.quote.ask),
  },
  {
    key: "spread",
    label: "Spread",
    width: "price",
    yields: 10,
    usual: true,
    text: ({ instrument, quote: { bid, ask } }) =>
      bid == null || ask == null
        ? NONE
        : formatNumber({ units: minus(ask, bid), scale: instrument.price_scale }),
  },
  {
    key: "volume",
    label: "Volume",
    width: 80,
    yields: 4,
    usual: true,
    text: ({ instrument, day }) =>
      day.volume === undefined ? NONE : formatVolume(size(instrument, day.volume)),
    sort: ({ instrument, day }) =>
      day.volume === undefined ? null : toNumber(size(instrument, day.volume)),
  },
  {
    key: "low",
    label: "Low",
    width: "price",
    yields: 8,
    usual: true,
    text: (row) => priceText(rowPrice(row, row.day.low)),
    sort: (row) => comparable(row, row.day.low),
  },
  {
    key: "high",
    label: "High",
    width: "price",
    yields: 8,
    usual: true,
    text: (row) => priceText(rowPrice(row, row.day.high)),
    sort: (row) => comparable(row, row.day.high),
  },
  {
    key: "open",
    label: "Open",
    width: "price",
    yields: 9,
    usual: false,
    text: (row) => priceText(rowPrice(row, row.day.open)),
    sort: (row) => comparable(row, row.day.open),
  },
  {
    key: "previous",
    label: "Prev. close",
    width: "price",
    yields: 9,
    usual: false,
    text: (row) => priceText(rowPrice(row, previousClose(row))),
    sort: (row) => comparable(row, previousClose(row)),
  },
  {
    key: "bid_size",
    label: "Bid size",
    width: 72,
    yields: 9,
    usual: false,
    text: ({ instrument, quote }) =>
      quote.bid_size === undefined ? NONE : formatVolume(size(instrument, quote.bid_size)),
  },
  {
    key: "ask_size",
    label: "Ask size",
    width: 72,
    yields: 9,
    usual: false,
    text: ({ instrument, quote }) =>
      quote.ask_size === undefined ? NONE : formatVolume(size(instrument, quote.ask_size)),
  },
  {
    key: "trades",
    label: "Trades",
    width: 66,
    yields: 9,
    usual: false,
    text: ({ day }) =>
      day.trades === undefined ? NONE : formatNumber({ units: day.trades, scale: 0 }),
    sort: ({ day }) => day.trades ?? null,
  },
  {
    key: "sector",
    label: "Sector",
    width: 104,
    yields: 9,
    usual: false,
    words: true,
    text: (row) => row.instrument.sector,
    sort: (row) => row.instrument.sector,
  },
  {
    key: "time",
    label: "Time",
    width: 72,
    yields: 5,
    usual: true,
    text: (row) => (row.time === null ? NONE : formatTime(row.time).slice(0, 8)),
    sort: (row) => row.time,
  },
];

const BY_KEY = new Map(COLUMNS.map((column) => [column.key, column]));

export function columnOf(key: string): Column | undefined {
  return BY_KEY.get(key);
}

/** The head of `column`, and its meaning if that is not obvious. */
export function headOf(
  { label, sinceOpen }: Column,
  since: Reference | "both",
): { label: string; note: string } {
  if (!sinceOpen || since === "close") return { label, note: "" };
  return since === "open"
    ? { label: sinceOpen, note: "Since the session's open: no previous close is known. " }
    : {
        label: `${label}*`,
        note: "Since the previous close; with *, since the session's open, where none is known. ",
      };
}

/** A column as the user has it: `width` only if it was dragged. */
export interface ColumnChoice {
  readonly key: string;
  readonly width?: number;
}

export interface PlacedColumn {
  readonly column: Column;
  readonly width: number;
  /** Its cells may hold more than fits. */
  readonly tight: boolean;
}

/** On either side of a row, as in the style sheet. */
export const ROW_MARGIN = 6;
export const NARROWEST = 36;
export const WIDEST = 400;

/** At the least, in pixels. */
const SYMBOL_WIDTH = 88;

/** The columns that are shown, by default or by choice. */
export function chosenColumns(choices: readonly ColumnChoice[] | null): ColumnChoice[] {
  const known = (choices ?? []).filter((choice) => columnOf(choice.key));
  // The symbol is what a row is about.
  if (known.length > 0)
    return known.some(({ key }) => key === "symbol") ? known : [{ key: "symbol" }, ...known];
  return COLUMNS.filter(({ usual }) => usual).map(({ key }) => ({ key }));
}

/**
 * Which columns fit in `room` pixels, and how wide. Columns that the user chose are all shown, and the list
 * scrolls sideways; of the default ones those that do not fit are left out, the most dispensable first.
 */
export function layOut(
  choices: readonly ColumnChoice[] | null,
  room: number,
  { price, symbol }: Lengths,
  character: number,
): PlacedColumn[] {
  const widths = {
    price: price * character + 13,
    // A long one may take a third of the room: options and futures differ at their ends.
    symbol: Math.max(SYMBOL_WIDTH, Math.min(symbol * (character + 1.2) + 13, room / 3)),
  };
  const all = chosenColumns(choices).map(({ key, width }) => {
    const column = columnOf(key)!;
    const own =
      typeof column.width === "number" ? column.width : widths[column.width] + (column.extra ?? 0);
    const placed = clamp(width ?? own);
    const tight = column.words === true || placed < clamp(own);
    return { column, width: placed, fixed: width !== undefined, tight };
  });
  const total = (places: typeof all) => places.reduce((sum, { width }) => sum + width, 0);
  let placed = all;
  if (!choices) {
    const ranks = [...new Set(all.map(({ column }) => column.yields))].sort((a, b) => a - b);
    placed = [];
    for (const rank of ranks) {
      const more = all.filter((place) => placed.includes(place) || place.column.yields === rank);
      if (rank === 0 || total(more) <= room) placed = more;
    }
  }
  // The rest goes to the name, or to all columns if there is none.
  const left = room - total(placed);
  const elastic = placed.filter(({ column, fixed }) => column.key === "name" && !fixed);
  const takers = elastic.length > 0 ? elastic : placed.filter(({ fixed }) => !fixed);
  const share = left > 0 && takers.length > 0 ? Math.floor(left / takers.length) : 0;
  return placed.map((place) => ({
    column: place.column,
    width: place.width + (takers.includes(place) ? share : 0),
    tight: place.tight,
  }));
}

/** `choices` with column `key` at index `to`. The symbol stays the first. */
export function move(choices: readonly ColumnChoice[], key: string, to: number): ColumnChoice[] {
  const choice = choices.find((choice) => choice.key === key);
  if (!choice || key === "symbol") return [...choices];
  const others = choices.filter((other) => other !== choice);
  return others.toSpliced(Math.max(1, to), 0, choice);
}

/**
 * Where column `key` goes when it is dropped at `x` pixels from the left of the row: its index, and the edge
 * that it is put to.
 */
export function dropPlace(
  columns: readonly PlacedColumn[],
  key: string,
  x: number,
): { to: number; left: number } {
  let left = ROW_MARGIN;
  let before = 0; // columns before it, itself included
  for (const { width } of columns) {
    // Of each column the nearer edge; always after the symbol.
    if (before > 0 && x < left + width / 2) break;
    left += width;
    before++;
  }
  const from = columns.findIndex(({ column }) => column.key === key);
  return { to: from < before ? before - 1 : before, left };
}

function clamp(width: number): number {
  return Number.isFinite(width) ? Math.max(NARROWEST, Math.min(Math.round(width), WIDEST)) : 80;
}

/** Characters of the longest of each, so that the columns have room for it. */
export interface Lengths {
  readonly price: number;
  readonly symbol: number;
}

/** Of the current prices and symbols of `rows`. Called often, for many: no text is made. */
export function longestOf(rows: readonly Row[]): Lengths {
  let [price, symbol] = [7, 0];
  for (const row of rows) {
    const { instrument, day, quote } = row;
    symbol = Math.max(symbol, instrument.symbol.length);
    for (const units of [day.close, day.high, day.low, quote.bid, quote.ask, previousClose(row)])
      if (units != null) price = Math.max(price, priceLength(units, instrument.price_scale));
  }
  return { price, symbol };
}

/** Characters that {@link formatNumber} writes. */
export function priceLength(units: Integer, scale: number): number {
  const digits = Math.max(scale + 1, wholeLength(units));
  const whole = digits - scale;
  const fraction = scale > 0 ? scale + 1 : 0;
  return (units < 0 ? 1 : 0) + whole + Math.floor((whole - 1) / 3) + fraction;
}

/** Digits of an integer. */
function wholeLength(units: Integer): number {
  if (typeof units === "bigint") return String(units).replace("-", "").length;
  return units === 0 ? 1 : Math.floor(Math.log10(Math.abs(units))) + 1;
}

export function changePercent(row: Row): number | null {
  const moved = dayChange(row);
  return moved && moved.percent;
}

const TICKS = ["▼ ", "", "▲ "];

function previousClose({ day, instrument }: Row): Units | null {
  return day.previous_close ?? instrument.previous_close;
}

function priceText(value: Decimal | null): string {
  return value === null ? NONE : formatNumber(value);
}

/** The price as a number that a finer scale does not change. */
function comparable(row: Row, units: Units | null | undefined): number | null {
  const value = rowPrice(row, units);
  return value && toNumber(value);
}

function changeSign(row: Row): number {
  return Math.sign(Number(dayChange(row)?.change ?? 0));
}
