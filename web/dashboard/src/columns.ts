import { size, toNumber, type Decimal, type Units } from "tickcast-client";
import type { SortKey } from "./arrange.js";
import { formatNumber, formatPercent, formatSigned, formatVolume, NONE } from "./format.js";
import { dayChange, rowPrice, type Row } from "./market.js";

/** One column of the watchlist. Its `key` is the class that gives it width and says when it is hidden. */
export interface Column {
  key: string;
  label: string;
  text(row: Row): string;
  /** Sorted by this when its head is pressed. */
  sort?: SortKey;
  /** What the cell flashes by: it does when this number changes. */
  moves?(row: Row): number | null;
  /** Colour of the text: the sign of this number. */
  sign?(row: Row): number;
}

export const COLUMNS: readonly Column[] = [
  { key: "symbol", label: "Symbol", sort: "symbol", text: (row) => row.instrument.symbol },
  { key: "name", label: "Name", text: (row) => row.instrument.name },
  {
    key: "last",
    label: "Last",
    sort: "last",
    text: (row) => TICKS[row.tick + 1]! + priceText(rowPrice(row, row.day.close)),
    moves: (row) => row.lastSeen,
    sign: (row) => row.tick,
  },
  {
    key: "change",
    label: "Change",
    sort: "change",
    text: (row) => {
      const moved = dayChange(row);
      return moved
        ? formatSigned({ units: moved.change, scale: row.instrument.price_scale })
        : NONE;
    },
    sign: changeSign,
  },
  {
    key: "percent",
    label: "Change %",
    sort: "percent",
    text: (row) => {
      const moved = dayChange(row);
      return moved && moved.previous !== 0 ? formatPercent(moved.change, moved.previous) : NONE;
    },
    sign: changeSign,
  },
  {
    key: "bid",
    label: "Bid",
    text: (row) => priceText(rowPrice(row, row.quote.bid)),
    moves: (row) => comparable(row, row.quote.bid),
  },
  {
    key: "ask",
    label: "Ask",
    text: (row) => priceText(rowPrice(row, row.quote.ask)),
    moves: (row) => comparable(row, row.quote.ask),
  },
  { key: "spread", label: "Spread", text: spreadText },
  {
    key: "volume",
    label: "Volume",
    sort: "volume",
    text: ({ instrument, day }) =>
      day.volume === undefined ? NONE : formatVolume(size(instrument, day.volume)),
  },
  { key: "low", label: "Low", text: (row) => priceText(rowPrice(row, row.day.low)) },
  { key: "high", label: "High", text: (row) => priceText(rowPrice(row, row.day.high)) },
];

/** Characters of the longest price that `rows` will show, going by their previous closes. */
export function longestPrice(rows: readonly Row[]): number {
  return rows.reduce((longest, row) => {
    const reference = row.day.close ?? row.day.previous_close ?? row.instrument.previous_close;
    return Math.max(longest, priceText(rowPrice(row, reference)).length);
  }, 0);
}

const TICKS = ["▼ ", "", "▲ "];

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

function spreadText({ instrument, quote: { bid, ask } }: Row): string {
  if (bid == null || ask == null) return NONE;
  return formatNumber({ units: ask - bid, scale: instrument.price_scale });
}
