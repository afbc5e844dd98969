import { expect, test } from "vitest";
import { addressOf, HOME, parseRoute, type Route } from "../src/shell/route.js";
import { BINDINGS, commandOf, type Key } from "../src/shell/keys.js";
import { Display } from "../src/shell/display.js";
import { Gaps } from "../src/shell/gaps.js";
import { search } from "../src/shell/search.js";
import { silence } from "../src/shell/silence.js";
import { threeRows } from "./rows.js";

const PAGE = "http://desk.example/below/a/proxy/";

test.each([
  ["", HOME],
  ["#BTC%2FUSD", { ...HOME, symbol: "BTC/USD" }],
  [
    "?view=heatmap&tf=5m&sector=energy&list=My+list&symbols=AAPL,BTC/USD&sort=-percent#A",
    {
      symbol: "A",
      view: "heatmap",
      timeframe: "5m",
      sector: "energy",
      list: { name: "My list", symbols: ["AAPL", "BTC/USD"] },
      sorting: { key: "percent", descending: true },
    },
  ],
] as const)("the address %s says what is shown, both ways", (address, route) => {
  const { search, hash } = new URL(address, PAGE);
  expect(parseRoute({ search, hash })).toEqual(route);
  expect(addressOf(route, PAGE)).toBe(PAGE + address);
});

const SHOWN: Route = {
  symbol: "A",
  view: "heatmap",
  timeframe: "5m",
  sector: "energy",
  list: { name: "Mine", symbols: ["A"] },
  sorting: { key: "last", descending: false },
};

test.each(["symbol", "view", "timeframe", "sector", "list", "sorting"] as const)(
  "the address forgets the %s that is gone",
  (part) => {
    const before = addressOf(SHOWN, PAGE);
    const after: Route = { ...SHOWN, [part]: HOME[part] };
    expect(parseRoute(new URL(addressOf(after, before)))).toEqual(after);
    const alone: Route = { ...HOME, [part]: SHOWN[part] };
    const there = addressOf(alone, PAGE);
    expect(parseRoute(new URL(there))).toEqual(alone);
    expect(addressOf(HOME, there)).toBe(PAGE);
    expect(addressOf({ ...HOME, symbol: "B" }, there)).toBe(`${PAGE}#B`);
  },
);

test("what makes no sense in an address is left out", () => {
  const search = "?view=x&tf=2m&list=&symbols=*&sort=";
  expect(parseRoute({ search, hash: "#%" })).toEqual(HOME);
  expect(parseRoute({ search: "?list=x&symbols=a%E2%80%AE", hash: "" }).list).toBeNull();
  const list = { name: "x", symbols: ["A,B", "XYZ*", "币安人生USDT", "@107"] };
  expect(parseRoute(new URL(addressOf({ ...HOME, list }, PAGE))).list).toEqual(list);
});

const key = (key: string, more: Partial<Key> = {}): Key => ({
  key,
  ctrlKey: false,
  metaKey: false,
  altKey: false,
  ...more,
});

test("keys do what the help says, and those of one sign can be turned off", () => {
  expect(commandOf(key("/"), true)).toBe("search");
  expect(commandOf(key("k", { ctrlKey: true }), false)).toBe("search");
  expect(commandOf(key(" "), false)).toBe("pause");
  expect(commandOf(key("4"), true)).toBe("timeframe 4");
  expect(commandOf(key("t", { ctrlKey: true }), true)).toBeUndefined();
  expect(commandOf(key("t", { altKey: true }), true)).toBeUndefined();
  for (const { bindings } of BINDINGS)
    for (const { keys, command } of bindings)
      for (const name of keys)
        if (command && name.length === 1) {
          expect(commandOf(key(name.toLowerCase()), true)).toBe(command);
          expect(commandOf(key(name.toLowerCase()), false)).toBeUndefined();
        }
});

test.each([
  ["aapl", "AAPL"],
  ["a", "A AAPL"],
  ["micro", "MSFT"],
  [" APPLE ", "AAPL"],
  ["zzz", ""],
  ["", ""],
])("“%s” finds %s", (query, expected) => {
  const { market } = threeRows();
  const found = search(market.rows, query, 10);
  expect(found.map((row) => row.instrument.symbol).join(" ")).toBe(expected);
});

test("a paused display shows what was, counts what came, and resumes at now", () => {
  const { it, market } = threeRows();
  const display = new Display(market);
  const row = market.find("AAPL")!;
  const last = () => display.view(row).day.close;
  display.pause();
  it.socket().deliver([1, 0, 3, 42, 16, 50]);
  it.socket().deliver([1, 0, 3, 42, 16, 51]);
  expect([last(), display.behind, display.paused]).toEqual([18_942, 2, true]);
  display.resume();
  expect([last(), display.behind, display.paused]).toEqual([18_951, 0, false]);
});

test("a row is silent after three of its usual intervals, and at the earliest after five seconds", () => {
  const { it, market } = threeRows();
  it.socket().deliver([1, 0, null, 61, 0, 0, 1]);
  const { state, image } = it.client;
  const row = { ...market.find("AAPL")!, heardAt: 0 };
  const quiet = (pace: number | null, now: number, trading: typeof row.trading = null) =>
    silence({ ...row, pace, trading }, now, state, image.feed);
  expect(quiet(100, 5_000)).toBeNull();
  expect(quiet(100, 5_001)).toBe(5_001);
  expect(quiet(4_000, 12_000)).toBeNull();
  expect(quiet(4_000, 12_001)).toBe(12_001);
  expect(quiet(null, 30_000)).toBeNull();
  expect(quiet(100, 60_000, "closed")).toBeNull();
  expect(silence({ ...row, pace: 1 }, 60_000, { kind: "connecting" }, image.feed)).toBeNull();
});

test("a gap is remembered for half a minute, and adds up", () => {
  const gaps = new Gaps({ on: () => () => true });
  gaps.note("trades:BTC:USD", 3, 0);
  gaps.note("trades:BTC:USD", 4, 1_000);
  expect(gaps.of("BTC:USD", 30_999)).toBe(7);
  expect(gaps.of("BTC:USD", 31_000)).toBe(0);
  expect(gaps.of("AAPL", 0)).toBe(0);
});
