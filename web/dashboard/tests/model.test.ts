import { expect, test } from "vitest";
import { AAPL } from "../../client/tests/frames.js";
import { liveWorld, welcome, type World } from "../../client/tests/fakes.js";
import { Market } from "../src/market.js";
import { Selection, TAPE_LINES } from "../src/selection.js";
import { threeRows } from "./rows.js";

const trade = [42, 0, 1, 100];

function withSelection(): World & { selection: Selection; opened: string[] } {
  const it = liveWorld();
  const opened: string[] = [];
  const source = {
    on: it.client.on.bind(it.client),
    open: (symbol: string, interval: string) => void opened.push(`${symbol} ${interval}`),
  };
  const selection = new Selection(source, () => {});
  selection.choose("AAPL");
  return { ...it, selection, opened };
}

/** The tape, newest first: numbers of trades, and gaps as text. */
function tape({ selection }: { selection: Selection }): (number | string)[] {
  return selection.tape.map((line) =>
    line.kind === "trade" ? line.trade.number : `gap ${line.missed}`,
  );
}

function closedBar(start: number, close: number): number[] {
  return [start, 40, 45, 35, close, 700, 5, 4000];
}

test("missed trades are shown where they happened", () => {
  const it = withSelection();
  it.socket().deliver([1, 0, 3, 32, 2, ...trade, ...trade]);
  it.socket().deliver([1, 0, 3, 33, 51, 1, ...trade]);
  expect(tape(it)).toEqual([51, "gap 37", 13, 12]);
});

test("the tape holds the newest lines, and no more than it should", () => {
  const it = withSelection();
  const many = Array.from({ length: TAPE_LINES + 30 }, () => trade).flat();
  it.socket().deliver([1, 0, 3, 32, TAPE_LINES + 30, ...many]);
  expect(tape(it)).toHaveLength(TAPE_LINES);
  expect(tape(it)[0]).toBe(TAPE_LINES + 41);
});

test("another symbol begins with an empty tape, and takes no trades of the one before", () => {
  const it = withSelection();
  it.socket().accept();
  it.socket().deliver([1, 0, 3, 32, 1, ...trade]);
  it.selection.choose("MSFT");
  expect(tape(it)).toEqual([]);
  expect(it.opened).toEqual(["AAPL 1s", "MSFT 1s"]);
  it.socket().deliver([1, 0, 3, 32, 1, ...trade]);
  expect(tape(it)).toEqual([]);
});

test("a symbol that is left and chosen again at once shows no trade twice", () => {
  const it = withSelection();
  it.socket().deliver([1, 0, 3, 32, 1, ...trade]);
  it.selection.choose("MSFT");
  it.selection.choose("AAPL");
  it.socket().deliver([1, 0, 3, 32, 1, ...trade]);
  expect(tape(it)).toEqual([13]);
  it.socket().deliver({ type: "unsubscribed", topics: [{ topic: "trades:AAPL" }] });
  it.socket().deliver([1, 0, 3, 33, 10, 5, ...[trade, trade, trade, trade, trade].flat()]);
  expect(tape(it)).toEqual([14, 13, 12, 11, 10]);
});

test("the chart is told the bars that are new, and that the last one changed", () => {
  const it = withSelection();
  const times = () => it.selection.takeUnseenBars().map(({ time, close }) => [time, close]);
  it.socket().deliver([1, 0, 3, 46, 0, 2, ...closedBar(60, 42), ...closedBar(61, 43)]);
  it.socket().deliver([1, 0, 3, 40, 255, ...closedBar(62, 44)]);
  expect(times()).toEqual([
    [60, 189.42],
    [61, 189.43],
    [62, 189.44],
  ]);
  it.socket().deliver([1, 0, 3, 40, 16, 45]);
  expect(times()).toEqual([[62, 189.45]]);
  expect(times()).toEqual([]);
  it.socket().deliver([1, 0, 3, 40, 255, ...closedBar(63, 40), 3, 44, 1, ...closedBar(62, 41)]);
  expect(times()).toEqual([
    [62, 189.41],
    [63, 189.4],
  ]);
});

test("a bar of few fields is not drawn before its prices are known", () => {
  const it = withSelection();
  it.socket().deliver([1, 0, 3, 40, 17, 60, 42]);
  expect(it.selection.bars).toEqual([]);
});

test("a new epoch clears the page", () => {
  const it = withSelection();
  const market = new Market(it.client, () => {});
  it.socket().deliver([1, 0, 3, 63, AAPL, 3, 32, 1, ...trade]);
  expect(market.rows).toHaveLength(1);
  it.socket().drop();
  it.clock.advance(125);
  it.socket().deliver(welcome(8));
  expect(market.rows).toEqual([]);
  expect(tape(it)).toEqual([]);
});

test("only rows that changed are painted again", () => {
  const { it, market } = threeRows();
  market.takeDirty();
  it.socket().deliver([1, 0, 4, 1, 5]);
  expect([...market.takeDirty()].map((row) => row.instrument.symbol)).toEqual(["MSFT"]);
  expect(market.takeDirty().size).toBe(0);
});
