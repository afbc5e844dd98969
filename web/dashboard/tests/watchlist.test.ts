import { afterEach, expect, test, vi } from "vitest";
import { arrange, nextSorting, sectors } from "../src/watchlist/arrange.js";
import { columnOf, dropPlace, layOut, move, priceLength } from "../src/watchlist/columns.js";
import { Flashes, type FlashCell } from "../src/watchlist/flash.js";
import { Lists, formatSymbols, parseSymbols, toggled } from "../src/watchlist/lists.js";
import { describe } from "../src/watchlist/read-out.js";
import { formatNumber } from "../src/format.js";
import type { Row } from "../src/market.js";
import { POINTS, Trend, YOUNG_POINTS } from "../src/watchlist/sparkline.js";
import { Trends } from "../src/watchlist/trends.js";
import { threeRows } from "./rows.js";

/** With characters of 8 pixels a price is 61 wide, and a symbol 88. */
const LENGTHS = { price: 6, symbol: 4 };

test.each([
  [0, 0],
  [0, 2],
  [7, 4],
  [999, 0],
  [1_000, 0],
  [-123_456, 2],
  [99_999_999, 2],
  [100_000_000, 2],
  [9_007_199_254_740_991, 0],
  [9_007_199_254_740_991, 8],
  [1, 18],
])("a price of %i units with %i digits is as long as its text", (units, scale) => {
  expect(priceLength(units, scale)).toBe(formatNumber({ units, scale }).length);
});

afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

const by = (key: string, descending: boolean) => ({ key, descending });

test.each([
  [null, "A AAPL MSFT"],
  [by("symbol", true), "MSFT AAPL A"],
  [by("percent", true), "AAPL MSFT A"],
  [by("percent", false), "MSFT AAPL A"],
  [by("last", true), "MSFT AAPL A"],
  [by("nonsense", true), "A AAPL MSFT"],
] as const)("sorted by %o, and what has no value last", (sorting, expected) => {
  const { market } = threeRows();
  const rows = arrange(market.rows, { sector: "", list: null, sorting }, (s) => market.find(s));
  expect(rows.map((row) => row.instrument.symbol).join(" ")).toBe(expected);
});

test("a list is shown in its own order, without what the server does not know", () => {
  const { market } = threeRows();
  const list = ["MSFT", "XYZ", "A"];
  const shown = (sector: string) =>
    arrange(market.rows, { sector, list, sorting: null }, (s) => market.find(s)).map(
      (row) => row.instrument.symbol,
    );
  expect(shown("")).toEqual(["MSFT", "A"]);
  expect(shown("energy")).toEqual([]);
  expect(sectors(market.rows)).toEqual(["technology"]);
});

test("the head of a column sorts one way, the other, and as it was", () => {
  const once = nextSorting(null, "percent");
  expect(once).toEqual(by("percent", true));
  expect(nextSorting(once, "percent")).toEqual(by("percent", false));
  expect(nextSorting(by("percent", false), "percent")).toBeNull();
  expect(nextSorting(once, "name")).toEqual(by("name", false));
});

test("a row shows exact prices, the change since the previous close, and the tick", () => {
  const { it, market } = threeRows();
  const text = (key: string) => columnOf(key)!.text!(market.find("AAPL")!);
  expect(["last", "change", "percent", "bid"].map(text)).toEqual([
    "189.42",
    "+0.52",
    "+0.28%",
    "–",
  ]);
  it.socket().deliver([1, 0, 3, 42, 16, -20, 3, 15, -21, 300, -19, 200]);
  expect(["last", "change", "bid", "spread"].map(text)).toEqual([
    "▼ 188.80",
    "−0.10",
    "188.79",
    "0.02",
  ]);
  expect(describe(market.find("AAPL")!)).toBe(
    "AAPL, Apple: last 188.80, down 0.05 percent, bid 188.79, ask 188.81.",
  );
});

test.each([
  [348, "symbol last percent spark"],
  [700, "symbol last change percent spark bid ask volume time"],
  [2_000, "symbol name last change percent spark bid ask spread volume low high time"],
])("in %s pixels the usual columns are those that fit, and fill it", (room, expected) => {
  const placed = layOut(null, room, LENGTHS, 8);
  expect(placed.map(({ column }) => column.key).join(" ")).toBe(expected);
  const total = placed.reduce((sum, { width }) => sum + width, 0);
  expect(total).toBeLessThanOrEqual(room);
  expect(total).toBeGreaterThan(room - placed.length);
});

test("chosen columns are all there, as wide as they were dragged, and the symbol always is", () => {
  const placed = layOut(
    [{ key: "high", width: 210 }, { key: "gone" }, { key: "low" }],
    100,
    LENGTHS,
    8,
  );
  expect(placed.map(({ column, width }) => [column.key, width])).toEqual([
    ["symbol", 88],
    ["high", 210],
    ["low", 61],
  ]);
});

test.each([
  ["high", 1, "symbol high last low"],
  ["high", 0, "symbol high last low"],
  ["last", 2, "symbol low last high"],
  ["last", 9, "symbol low high last"],
  ["symbol", 2, "symbol last low high"],
  ["gone", 1, "symbol last low high"],
])("column %s that is put to place %i", (key, to, expected) => {
  const choices = ["symbol", "last", "low", "high"].map((key) => ({ key }));
  expect(
    move(choices, key, to)
      .map(({ key }) => key)
      .join(" "),
  ).toBe(expected);
});

test.each([
  // Columns begin at 6, 94, 154 and 214 px, and end at 274.
  ["high", 0, 1, 94],
  ["high", 120, 1, 94],
  ["high", 130, 2, 154],
  ["low", 130, 2, 154],
  ["low", 200, 2, 214],
  ["last", 200, 2, 214],
  ["last", 270, 3, 274],
])("column %s let go of at %i px goes to place %i", (key, x, to, left) => {
  const widths = ["last", "low", "high"].map((key) => ({ key, width: 60 }));
  const columns = layOut([{ key: "symbol", width: 88 }, ...widths], 280, LENGTHS, 8);
  expect(dropPlace(columns, key, x)).toEqual({ to, left });
});

test("lists survive being kept, and what is not one is left out", () => {
  let kept = "";
  const storage = { getItem: () => kept, setItem: (_: string, text: string) => (kept = text) };
  new Lists()
    .with({ name: "Tech", symbols: ["AAPL", "MSFT"] })
    .with({ name: "Mine", symbols: [] })
    .with({ name: "Tech", symbols: ["NVDA"] })
    .write(storage);
  expect(Lists.read(storage).all).toEqual([
    { name: "Mine", symbols: [] },
    { name: "Tech", symbols: ["NVDA"] },
  ]);
  kept = `[{"name":"","symbols":[]},{"name":"x","symbols":["a\u202e"]},7,{"name":"ok","symbols":["A"]}]`;
  expect(Lists.read(storage).all).toEqual([{ name: "ok", symbols: ["A"] }]);
  kept = "no JSON";
  expect(Lists.read(storage).all).toEqual([]);
});

test("a symbol is put at the end of a list, and taken off again", () => {
  const list = toggled({ name: "x", symbols: ["A"] }, "B");
  expect(list.symbols).toEqual(["A", "B"]);
  expect(toggled(list, "A").symbols).toEqual(["B"]);
});

test("symbols are read from lines, commas and tabs, each once", () => {
  expect(parseSymbols("AAPL, MSFT\nBTC/USD;AAPL\t\n A\u202e, B\u200b")).toEqual([
    "AAPL",
    "MSFT",
    "BTC/USD",
  ]);
  const symbols = ["币安人生USDT", "@107", "XYZ*", "*", "A,B", "A;B", "50%"];
  expect(parseSymbols(formatSymbols(symbols))).toEqual(symbols);
});

test("a line grows by a point a minute, its newest point is the price now, and history goes before", () => {
  const trend = new Trend();
  trend.note(10, 0);
  trend.note(11, 30_000);
  trend.note(12, 60_000);
  expect(trend.values).toEqual([11, 12]);
  trend.seed([7, 8, 9], 60_000, "minute");
  expect(trend.values).toEqual([7, 8, 12]);
  for (let minute = 2; minute < 100; minute++) trend.note(minute, minute * 60_000);
  expect(trend.values).toHaveLength(POINTS);
});

test("of a young market a line grows by a point a second", () => {
  const trend = new Trend();
  trend.seed([7, 8], 0, "second");
  trend.note(9, 999);
  trend.note(10, 1_000);
  expect(trend.values).toEqual([7, 9, 10]);
  for (let second = 2; second < 200; second++) trend.note(second, second * 1_000);
  expect(trend.values).toHaveLength(YOUNG_POINTS);
});

/** A server of `minutes`, and the rows of it that are in sight. */
function trendsOf(rows: readonly Row[]) {
  vi.useFakeTimers({ toFake: ["performance"] });
  const server = { minutes: 1, live: true, asked: [] as string[], loaded: [] as string[] };
  vi.stubGlobal("fetch", (url: string) => {
    server.asked.push(url.replace("v1/bars/", "").replace(/&.*/, ""));
    const bars = Array.from({ length: url.includes("1m") ? server.minutes : 3 }, () => ({
      close: "400.00",
    }));
    return Promise.resolve({ ok: true, json: () => Promise.resolve({ bars }) });
  });
  const trends = new Trends(
    () => server.live,
    (row) => server.loaded.push(row.instrument.symbol),
  );
  const want = async () => {
    [server.asked, server.loaded] = [[], []];
    trends.want(rows, performance.now());
    await new Promise(setImmediate);
    return server.asked;
  };
  /** So many seconds pass, and what is asked for meanwhile. */
  const pass = async (seconds: number) => {
    const asked: string[] = [];
    for (let i = 0; i < seconds; i++) {
      vi.advanceTimersByTime(1_000);
      asked.push(...(await want()));
    }
    return asked;
  };
  return { server, trends, want, pass };
}

test("history is asked of a live server for what has traded: one says how old the market is", async () => {
  const { market } = threeRows();
  const { server, trends, want, pass } = trendsOf(market.rows);
  server.live = false;
  expect(await want()).toEqual([]);
  server.live = true;
  // Not A, which never traded.
  expect(await want()).toEqual(["AAPL?interval=1m", "AAPL?interval=1s", "MSFT?interval=1s"]);
  expect(server.loaded).toEqual(["AAPL", "MSFT"]);
  expect(trends.of(market.find("AAPL")!).values).toHaveLength(3);

  // Its seconds are noted meanwhile.
  expect(await pass(479)).toEqual([]);
  const both = ["AAPL?interval=1m", "MSFT?interval=1m"];
  expect(await pass(1)).toEqual(both);
  server.minutes = POINTS;
  expect(await pass(959)).toEqual([]);
  expect(await pass(1)).toEqual(both);
  expect(trends.of(market.find("MSFT")!).values).toHaveLength(POINTS);
  expect(await pass(2_000)).toEqual([]);

  // Nothing was noted while they were out of sight.
  vi.advanceTimersByTime(121_000);
  expect(await want()).toEqual(both);
});

test("of a market that has its minutes each history is asked for once", async () => {
  const { market } = threeRows();
  const { server, pass } = trendsOf(market.rows);
  server.minutes = 30;
  expect(await pass(3_600)).toEqual(["AAPL?interval=1m", "MSFT?interval=1m"]);
});

test.each([1, 30])(
  "rows that scroll by cost the server a screenful of requests and 30 a minute, with %i minutes known",
  async (minutes) => {
    const { market } = threeRows();
    const like = market.find("AAPL")!;
    const rows = Array.from({ length: 2_000 }, () => ({ ...like }));
    const { server, pass } = trendsOf(rows);
    server.minutes = minutes;
    for (const most of [90, 30, 30]) {
      const asked = (await pass(60)).length;
      expect(asked).toBeGreaterThan(most - 3);
      expect(asked).toBeLessThanOrEqual(most + 1);
    }
  },
);

test("a cell flashes less than three times a second, however fast its price moves", () => {
  const flashes = new Flashes();
  const tints: string[] = [];
  const cell: FlashCell = { readyAt: 0, tint: (tint) => tints.push(tint) };
  for (let now = 0; now < 10_000; now += 10) {
    flashes.start(cell, now % 20 === 0 ? 1 : -1, now);
    flashes.paint(now);
  }
  const begun = tints.filter((tint) => tint.startsWith("flash")).length;
  expect(begun).toBeGreaterThanOrEqual(6);
  expect(begun).toBeLessThanOrEqual(15);
  flashes.paint(20_000);
  expect(tints.at(-1)).toBe("");
  expect(flashes.pending).toBe(false);
});

test("without motion a change is a mark, and none at all where flashes are off", () => {
  const flashes = new Flashes();
  const tints: string[] = [];
  const cell: FlashCell = { readyAt: 0, tint: (tint) => tints.push(tint) };
  flashes.mode = "still";
  flashes.start(cell, -1, 0);
  flashes.paint(999);
  flashes.paint(1_000);
  flashes.mode = "off";
  flashes.start(cell, 1, 9_000);
  expect(tints).toEqual(["still-down", ""]);
});

test("a tint goes out when the price turns, and does not begin anew for that", () => {
  const flashes = new Flashes();
  const tints: string[] = [];
  const cell: FlashCell = { readyAt: 0, tint: (tint) => tints.push(tint) };
  flashes.start(cell, 1, 0);
  flashes.start(cell, 2, 50);
  expect(tints).toEqual(["flash-up"]);
  flashes.start(cell, -1, 100);
  expect(tints).toEqual(["flash-up", ""]);
  expect(flashes.pending).toBe(false);
});
