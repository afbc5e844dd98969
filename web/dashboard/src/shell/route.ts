import { escapeSymbol, unescapeSymbol } from "@tickcast/client";
import { isTimeframe, type Timeframe } from "../chart/timeframes.js";
import { isSymbolList, type SymbolList } from "../watchlist/lists.js";
import type { Sorting } from "../watchlist/arrange.js";
import { columnOf } from "../watchlist/columns.js";

export type View = "watchlist" | "heatmap";

/** The content of the address: everything needed to show another person the same. */
export interface Route {
  /** Empty if none is requested. */
  symbol: string;
  view: View;
  timeframe: Timeframe;
  sector: string;
  /** Null: the entire universe. */
  list: SymbolList | null;
  sorting: Sorting | null;
}

export const HOME: Route = {
  symbol: "",
  view: "watchlist",
  timeframe: "1s",
  sector: "",
  list: null,
  sorting: null,
};

/** Reads `?view=…&tf=…&sector=…&list=NAME&symbols=A,B&sort=-percent#SYMBOL`; invalid values are left out. */
export function parseRoute({ search, hash }: Pick<Location, "search" | "hash">): Route {
  const query = new URLSearchParams(search);
  const timeframe = query.get("tf");
  const name = query.get("list");
  const list = name && {
    name,
    symbols: (query.get("symbols") ?? "")
      .split(",")
      .filter((symbol) => symbol !== "")
      .map(unescapeSymbol),
  };
  const sort = query.get("sort") ?? "";
  const key = sort.replace(/^-/, "");
  return {
    symbol: decode(hash.slice(1)),
    view: query.get("view") === "heatmap" ? "heatmap" : "watchlist",
    timeframe: isTimeframe(timeframe) ? timeframe : HOME.timeframe,
    sector: query.get("sector") ?? "",
    list: list && isSymbolList(list) ? list : null,
    // An order of no column would stay in the address for good.
    sorting: columnOf(key)?.sort ? { key, descending: sort.startsWith("-") } : null,
  };
}

/** The address of `route` in place of that in `href`: as short as possible, without anything shown before. */
export function addressOf(route: Route, href: string): string {
  const { symbol, view, timeframe, sector, list, sorting } = route;
  const query = new URLSearchParams();
  if (view !== HOME.view) query.set("view", view);
  if (timeframe !== HOME.timeframe) query.set("tf", timeframe);
  if (sector !== "") query.set("sector", sector);
  if (list) {
    query.set("list", list.name);
    query.set("symbols", list.symbols.map(escapeSymbol).join(","));
  }
  if (sorting) query.set("sort", (sorting.descending ? "-" : "") + sorting.key);
  // In full: an address that begins with `#` keeps the parameters of the one before.
  const url = new URL(href);
  url.search = query.toString().replaceAll("%2C", ",").replaceAll("%2F", "/");
  url.hash = encodeURIComponent(symbol);
  return url.href;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return ""; // a malformed escape names nothing
  }
}
