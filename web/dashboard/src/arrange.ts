import { dayChange, type Row } from "./market.js";

export type SortKey = "symbol" | "last" | "change" | "percent" | "volume";

export interface Arrangement {
  /** Part of a symbol or name, in any case. */
  query: string;
  sort: SortKey;
  descending: boolean;
}

/** The rows to show, in order. Rows without the value sorted by come last. */
export function arrange(rows: readonly Row[], { query, sort, descending }: Arrangement): Row[] {
  const wanted = query.trim().toLowerCase();
  const shown = rows.filter((row) => rank(row, wanted) > 0);
  const sign = descending ? -1 : 1;
  shown.sort((a, b) => {
    const bySymbol = compareSymbols(a, b);
    if (wanted && rank(a, wanted) !== rank(b, wanted)) return rank(b, wanted) - rank(a, wanted);
    if (sort === "symbol") return sign * bySymbol;
    const [x, y] = [sortValue(a, sort), sortValue(b, sort)];
    if (x === null || y === null) return x === y ? bySymbol : x === null ? 1 : -1;
    return sign * (x - y) || bySymbol;
  });
  return shown;
}

/** How well a row answers to `query`: 0 not at all; a symbol that begins with it comes first. */
function rank({ instrument }: Row, query: string): number {
  const symbol = instrument.symbol.toLowerCase();
  if (symbol.startsWith(query)) return symbol === query ? 4 : 3;
  if (symbol.includes(query)) return 2;
  return instrument.name.toLowerCase().includes(query) ? 1 : 0;
}

function compareSymbols(a: Row, b: Row): number {
  return a.instrument.symbol < b.instrument.symbol ? -1 : 1;
}

function sortValue(row: Row, key: SortKey): number | null {
  switch (key) {
    case "last":
      return row.lastSeen;
    case "volume":
      return row.day.volume === undefined ? null : row.day.volume / 10 ** row.instrument.size_scale;
    case "percent": {
      const moved = dayChange(row);
      return moved && moved.change / moved.previous;
    }
    default: {
      const moved = dayChange(row);
      return moved && moved.change / 10 ** row.instrument.price_scale;
    }
  }
}
