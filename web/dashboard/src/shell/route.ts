import { isTimeframe, type Timeframe } from "../chart/timeframes.js";
import { isSymbolList, type SymbolList } from "../watchlist/lists.js";
import type { Sorting } from "../watchlist/arrange.js";

export type View = "watchlist" | "heatmap";

/** What the address says: everything needed to show another person the same. */
export interface Route {
  /** Empty where none is asked for. */
  symbol: string;
  view: View;
  timeframe: Timeframe;
  sector: string;
  /** Null: the whole universe. */
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

/** Reads `?view=…&tf=…&sector=…&list=NAME&symbols=A,B&sort=-percent#SYMBOL`; what makes no sense is left out. */
export function parseRoute({ search, hash }: Pick<Location, "search" | "hash">): Route {
  const query = new URLSearchParams(search);
  const timeframe = query.get("tf");
  const name = query.get("list");
  const list = name && {
    name,
    symbols: (query.get("symbols") ?? "").split(",").filter((symbol) => symbol !== ""),
  };
  const sort = query.get("sort");
  return {
    symbol: decode(hash.slice(1)),
    view: query.get("view") === "heatmap" ? "heatmap" : "watchlist",
    timeframe: isTimeframe(timeframe) ? timeframe : HOME.timeframe,
    sector: query.get("sector") ?? "",
    list: list && isSymbolList(list) ? list : null,
    sorting: sort ? { key: sort.replace(/^-/, ""), descending: sort.startsWith("-") } : null,
  };
}

/** The address of `route`, relative to the page: as short as says it. */
export function formatRoute({ symbol, view, timeframe, sector, list, sorting }: Route): string {
  const query = new URLSearchParams();
  if (view !== HOME.view) query.set("view", view);
  if (timeframe !== HOME.timeframe) query.set("tf", timeframe);
  if (sector !== "") query.set("sector", sector);
  if (list) {
    query.set("list", list.name);
    query.set("symbols", list.symbols.join(","));
  }
  if (sorting) query.set("sort", (sorting.descending ? "-" : "") + sorting.key);
  const search = query.toString().replaceAll("%2C", ",").replaceAll("%2F", "/");
  const hash = symbol === "" ? "" : `#${encodeURIComponent(symbol)}`;
  return (search === "" ? "" : `?${search}`) + hash || "?";
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return ""; // a broken escape names nothing
  }
}
