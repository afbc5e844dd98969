import type { Row } from "../market.js";
import { columnOf } from "./columns.js";

/** By which column, and in which direction. */
export interface Sorting {
  readonly key: string;
  readonly descending: boolean;
}

export interface Arrangement {
  /** Empty: all sectors. */
  readonly sector: string;
  /** Null: all symbols. */
  readonly list: readonly string[] | null;
  /** Null: in the order of the list, or by symbol. */
  readonly sorting: Sorting | null;
}

/** The rows to show, in order. Rows without the sort value come last; equal rows are sorted by symbol. */
export function arrange(
  rows: readonly Row[],
  { sector, list, sorting }: Arrangement,
  find: (symbol: string) => Row | undefined,
): Row[] {
  let shown = list ? list.map(find).filter((row): row is Row => row !== undefined) : rows.slice();
  if (sector !== "") shown = shown.filter((row) => row.instrument.sector === sector);
  const value = sorting && columnOf(sorting.key)?.sort;
  if (!value) return list ? shown : shown.sort(bySymbol);

  const sign = sorting.descending ? -1 : 1;
  // Each value is computed once, not once a comparison.
  const keyed = shown.map((row) => ({ row, value: value(row) }));
  keyed.sort((a, b) => {
    if (a.value === b.value) return bySymbol(a.row, b.row);
    if (a.value === null) return 1;
    if (b.value === null) return -1;
    return sign * (a.value < b.value ? -1 : 1);
  });
  return keyed.map(({ row }) => row);
}

function bySymbol(a: Row, b: Row): number {
  return a.instrument.symbol < b.instrument.symbol ? -1 : 1;
}

/** What pressing the head of column `key` does: one direction, the other, then unsorted. */
export function nextSorting(now: Sorting | null, key: string): Sorting | null {
  // Names from A to Z; of numbers the largest first.
  const first = !columnOf(key)?.words;
  if (now?.key !== key) return { key, descending: first };
  return now.descending === first ? { key, descending: !first } : null;
}

/** All sectors of `rows`, from A to Z. */
export function sectors(rows: readonly Row[]): string[] {
  const names = new Set(rows.map((row) => row.instrument.sector));
  names.delete("");
  return [...names].sort();
}
