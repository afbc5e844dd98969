import { size, toNumber, type Decimal, type Units } from "@tickcast/client";
import {
  formatNumber,
  formatPercent,
  formatSigned,
  formatTime,
  formatVolume,
  NONE,
} from "../format.js";
import { dayChange, rowPrice, type Row } from "../market.js";

/** One column of the watchlist. Its `key` is the class of its cells. */
export interface Column {
  readonly key: string;
  readonly label: string;
  /** In pixels; "price": as wide as the longest price of the universe. */
  readonly width: number | "price";
  /** Beside a "price": what the cell shows before it. */
  readonly extra?: number;
  /** Those with the highest go first where room is short; those with 0 stay. */
  readonly yields: number;
  /** Shown when nobody has chosen columns. */
  readonly usual: boolean;
  /** Its text may have any length, and begins on the left. */
  readonly words?: true;
  /** Absent: the cell is drawn, see `sparkline.ts`. */
  text?(row: Row): string;
  /**
   * What it is sorted by; null comes last. Absent of what is known only of the rows in sight, as quotes are. Text sorts from A to Z first, numbers
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
    width: 88,
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
      return moved && moved.change / 10 ** row.instrument.price_scale;
    },
    sign: changeSign,
  },
  {
    key: "percent",
    label: "Chg %",
    width: 70,
    yields: 0,
    usual: true,
    text: (row) => {
      const moved = dayChange(row);
      return moved && moved.previous !== 0 ? formatPercent(moved.change, moved.previous) : NONE;
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
    width: 68,
    yields: 10,
    usual: true,
    text: ({ instrument, quote: { bid, ask } }) =>
      bid == null || ask == null
        ? NONE
        : formatNumber({ units: ask - bid, scale: instrument.price_scale }),
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
      day.volume === undefined ? null : day.volume / 10 ** instrument.size_scale,
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

/** A column as the user has it: `width` only where it was dragged. */
export interface ColumnChoice {
  readonly key: string;
  readonly width?: number;
}

export interface PlacedColumn {
  readonly column: Column;
  readonly width: number;
  /** Its cells may hold more than they have room for. */
  readonly tight: boolean;
}

/** On either side of a row, as in the style sheet. */
export const ROW_MARGIN = 6;
export const NARROWEST = 36;
export const WIDEST = 400;

/** The columns that are shown, whoever chose them. */
export function chosenColumns(choices: readonly ColumnChoice[] | null): ColumnChoice[] {
  const known = (choices ?? []).filter((choice) => columnOf(choice.key));
  // The symbol is what a row is about.
  if (known.length > 0)
    return known.some(({ key }) => key === "symbol") ? known : [{ key: "symbol" }, ...known];
  return COLUMNS.filter(({ usual }) => usual).map(({ key }) => ({ key }));
}

/**
 * Which columns stand in `room` pixels, and how wide. Columns that the user chose are all there, and the list
 * scrolls sideways; of the usual ones those are left out that yield most and do not fit.
 */
export function layOut(
  choices: readonly ColumnChoice[] | null,
  room: number,
  priceWidth: number,
): PlacedColumn[] {
  const all = chosenColumns(choices).map(({ key, width }) => {
    const column = columnOf(key)!;
    const own = column.width === "price" ? priceWidth + (column.extra ?? 0) : column.width;
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
  // What is left over goes to the name, or to all where there is none.
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

/** `choices` with column `key` at place `to` among them. The symbol stays the first. */
export function move(choices: readonly ColumnChoice[], key: string, to: number): ColumnChoice[] {
  const choice = choices.find((choice) => choice.key === key);
  if (!choice || key === "symbol") return [...choices];
  const others = choices.filter((other) => other !== choice);
  return others.toSpliced(Math.max(1, to), 0, choice);
}

/**
 * Where column `key` goes when it is let go of at `x` pixels from the left of the row: its place among all, and where the
 * edge is that it is put to.
 */
export function dropPlace(
  columns: readonly PlacedColumn[],
  key: string,
  x: number,
): { to: number; left: number } {
  let left = ROW_MARGIN;
  let before = 0; // columns that it is put behind, itself included
  for (const { width } of columns) {
    // Of each column the nearer edge; behind the symbol in any case.
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

/** Characters of the longest price that `rows` will show, going by their previous closes. */
export function longestPrice(rows: readonly Row[]): number {
  return rows.reduce((longest, row) => {
    const reference = row.day.close ?? previousClose(row);
    return Math.max(longest, priceText(rowPrice(row, reference)).length);
  }, 7);
}

export function changePercent(row: Row): number | null {
  const moved = dayChange(row);
  return moved && moved.previous !== 0 ? (100 * moved.change) / moved.previous : null;
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
  return Math.sign(dayChange(row)?.change ?? 0);
}
