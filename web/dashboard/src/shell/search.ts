import type { Row } from "../market.js";

/** The rows that match `query`, best first, at most `limit`. */
export function search(rows: readonly Row[], query: string, limit: number): Row[] {
  const wanted = query.trim().toLowerCase();
  if (wanted === "") return [];
  const found: { row: Row; rank: number }[] = [];
  for (const row of rows) {
    const rank = rankOf(row, wanted);
    if (rank > 0) found.push({ row, rank });
  }
  found.sort(
    (a, b) => b.rank - a.rank || (a.row.instrument.symbol < b.row.instrument.symbol ? -1 : 1),
  );
  return found.slice(0, limit).map(({ row }) => row);
}

/** 0 for no match; else the higher the closer: the symbol itself, its beginning, a word of the name, anything. */
function rankOf({ instrument }: Row, query: string): number {
  const symbol = instrument.symbol.toLowerCase();
  if (symbol === query) return 6;
  if (symbol.startsWith(query)) return 5;
  const name = instrument.name.toLowerCase();
  if (name.startsWith(query)) return 4;
  if (symbol.includes(query)) return 3;
  if (name.includes(` ${query}`)) return 2;
  return name.includes(query) ? 1 : 0;
}
