import { afterEach, expect, test, vi } from "vitest";
import { arrange, nextSorting, sectors } from "../src/watchlist/arrange.js";
import { columnOf, dropPlace, layOut, move } from "../src/watchlist/columns.js";
import { Flashes, type FlashCell } from "../src/watchlist/flash.js";
import { Lists, parseSymbols, toggled } from "../src/watchlist/lists.js";
import { describe } from "../src/watchlist/read-out.js";
import { POINTS, Trend } from "../src/watchlist/sparkline.js";
import { Trends } from "../src/watchlist/trends.js";
import { threeRows } from "./rows.js";

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
  const placed = layOut(null, room, 61);
  expect(placed.map(({ column }) => column.key).join(" ")).toBe(expected);
  const total = placed.reduce((sum, { width }) => sum + width, 0);
  expect(total).toBeLessThanOrEqual(room);
  expect(total).toBeGreaterThan(room - placed.length);
});

test("chosen columns are all there, as wide as they were dragged, and the symbol always is", () => {
  const placed = layOut([{ key: "high", width: 210 }, { key: "gone" }, { key: "low" }], 100, 61);
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
  const columns = layOut([{ key: "symbol", width: 88 }, ...widths], 280, 61);
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
  kept = `[{"name":"","symbols":[]},{"name":"x","symbols":["a,b"]},7,{"name":"ok","symbols":["A"]}]`;
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
  expect(parseSymbols("AAPL, MSFT\nBTC/USD;AAPL\t\n @x, *")).toEqual(["AAPL", "MSFT", "BTC/USD"]);
});

test("a line grows by a point a minute, its newest point is the price now, and history goes before", () => {
  const trend = new Trend();
  trend.note(10, 0);
  trend.note(11, 30_000);
  trend.note(12, 60_000);
  expect(trend.values).toEqual([11, 12]);
  trend.seed([7, 8, 9], 60_000);
  expect(trend.values).toEqual([7, 8, 12]);
  for (let minute = 2; minute < 100; minute++) trend.note(minute, minute * 60_000);
  expect(trend.values).toHaveLength(POINTS);
});

test("history is asked of a live server for what has traded, and again until it has its minutes", async () => {
  const { market } = threeRows();
  vi.useFakeTimers({ toFake: ["performance"] });
  let asked: string[] = [];
  let minutes = 1;
  const bars = (count: number) => Array.from({ length: count }, () => ({ close: "400.00" }));
  vi.stubGlobal("fetch", (url: string) => {
    asked.push(url.replace("/v1/bars/", "").replace(/&.*/, ""));
    const answer = { bars: bars(url.includes("1m") ? minutes : 3) };
    return Promise.resolve({ ok: true, json: () => Promise.resolve(answer) });
  });
  let live = false;
  const loaded: string[] = [];
  const trends = new Trends(
    () => live,
    (row) => loaded.push(row.instrument.symbol),
  );
  const [aapl, msft] = [market.find("AAPL")!, market.find("MSFT")!];
  const want = async () => {
    [asked, loaded.length] = [[], 0];
    trends.want(market.rows, performance.now());
    await new Promise(setImmediate);
    return asked;
  };

  expect(await want()).toEqual([]);
  live = true;
  const all = ["AAPL?interval=1m", "MSFT?interval=1m", "AAPL?interval=1s", "MSFT?interval=1s"];
  expect(await want()).toEqual(all); // not A, which never traded
  expect(loaded).toEqual(["AAPL", "MSFT"]);
  expect(trends.of(aapl).values).toHaveLength(3);

  expect(await want()).toEqual([]);
  vi.advanceTimersByTime(1_000);
  expect(await want()).toEqual(all);
  vi.advanceTimersByTime(1_999);
  expect(await want()).toEqual([]);
  vi.advanceTimersByTime(1);
  minutes = POINTS;
  expect(await want()).toEqual(all.slice(0, 2));
  expect(trends.of(msft).values).toHaveLength(POINTS);
  vi.advanceTimersByTime(1_000_000);
  expect(await want()).toEqual([]);
});

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
