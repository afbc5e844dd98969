import { expect, test } from "vitest";
import type { Instrument } from "@tickcast/client";
import { Candles } from "../src/chart/candles.js";
import { minMove } from "../src/chart/min-move.js";
import { heat, HEAD, layOutSectors, sectorPercent } from "../src/heatmap/tiles.js";
import { treemap } from "../src/heatmap/treemap.js";
import { dayChange, references, type Row } from "../src/market.js";
import { movers } from "../src/movers/movers.js";
import type { ChartBar, TapeLine } from "../src/selection.js";
import { layOutMovers } from "../src/movers/layout.js";
import { layOutTape } from "../src/tape/layout.js";
import { filterLines, longest, newSince, NOTHING_LONG } from "../src/tape/lines.js";

const bar = (time: number, open: number, high: number, low: number, close: number): ChartBar => ({
  time,
  open,
  high,
  low,
  close,
  volume: 10,
});

test("longer bars are put together of short ones, in whatever order these come", () => {
  const candles = new Candles(5);
  expect(candles.add([bar(10, 1, 3, 1, 2), bar(12, 2, 9, 2, 4), bar(15, 4, 4, 4, 4)])).toEqual([
    { time: 10, open: 1, high: 9, low: 1, close: 4, volume: 20 },
    { time: 15, open: 4, high: 4, low: 4, close: 4, volume: 10 },
  ]);
  expect(candles.add([bar(15, 4, 6, 3, 5)])).toEqual([
    { time: 15, open: 4, high: 6, low: 3, close: 5, volume: 10 },
  ]);
  expect(candles.add([bar(11, 7, 11, 7, 7)])).toEqual([
    { time: 10, open: 1, high: 11, low: 1, close: 4, volume: 30 },
  ]);
  expect(candles.add([bar(3, 1, 1, 1, 1)])).toBeNull();
  expect(candles.bars.map(({ time }) => time)).toEqual([0, 10, 15]);
});

test.each([
  [1, 2, 0.01],
  [5, 2, 0.05],
  [25, 2, 0.25],
  [12_500, 3, 0.001], // 12.5: more than one
  [3, 2, 0.01], // a third of a point is no step that the library counts in
  [100, 2, 1],
  [0, 4, 0.0001],
  [1, 0, 1],
  [1, 12, 1e-12],
  [1, 18, 1e-18],
])(
  "of a tick of %i with %i digits the axis goes in steps of %f",
  (tick_size, price_scale, step) => {
    expect(minMove({ tick_size, price_scale })).toBeCloseTo(step, 20);
  },
);

test("a treemap fills its area, each rectangle by its share, without overlaps", () => {
  const weights = [6, 6, 4, 3, 2, 2, 1];
  const area = { x: 10, y: 20, width: 600, height: 400 };
  const placed = treemap(weights, area);
  const sizes = placed.map(({ width, height }) => (width * height) / 10_000);
  weights.forEach((weight, i) => expect(sizes[i]).toBeCloseTo(weight, 6));
  for (const [i, a] of placed.entries()) {
    expect(a.x).toBeGreaterThanOrEqual(10);
    expect(a.y + a.height).toBeLessThan(420.001);
    expect(Math.max(a.width / a.height, a.height / a.width)).toBeLessThan(3);
    for (const b of placed.slice(i + 1)) {
      const apart =
        a.x + a.width < b.x + 0.001 ||
        b.x + b.width < a.x + 0.001 ||
        a.y + a.height < b.y + 0.001 ||
        b.y + b.height < a.y + 0.001;
      expect(apart).toBe(true);
    }
  }
  expect(treemap([], area)).toEqual([]);
  expect(treemap([1, 1], { x: 0, y: 0, width: 0, height: 0 })).toHaveLength(2);
});

/** A row of `symbol` that closed at 100.00 and stands at `close`, with this much volume. */
function row(symbol: string, sector: string, close: number, volume: number): Row {
  const instrument = {
    symbol,
    sector,
    price_scale: 2,
    size_scale: 0,
    previous_close: 10_000,
  } as Instrument;
  const day = { close, volume } as Row["day"];
  const nothing = {
    quote: {},
    trading: null,
    lastSeen: null,
    time: null,
    heardAt: null,
    pace: null,
  };
  return { instrument, day, tick: 0, ...nothing };
}

const ROWS = [
  row("UP", "energy", 11_000, 10),
  row("DOWN", "energy", 9_000, 30),
  row("MORE", "health", 12_000, 20),
  row("SAME", "health", 10_000, 1_000),
  row("NEW", "health", 10_500, 0),
];

test("what has no previous close is compared with the session's open, and says so", () => {
  const { instrument, day, ...rest } = row("NEW", "energy", 11_000, 10);
  const without = (fields: Partial<Record<keyof Row["day"], number | null>>): Row => ({
    ...rest,
    instrument: { ...instrument, previous_close: null },
    day: { ...day, ...fields } as Row["day"],
  });
  const fresh = without({ open: 10_000 });
  expect(dayChange(fresh)).toEqual({ change: 1_000, from: 10_000, since: "open", percent: 10 });
  expect(dayChange(without({}))).toBeNull();
  expect(dayChange(without({ open: 0 }))?.percent).toBeNull();
  // A gain of what costs less than nothing is a gain.
  expect(dayChange(without({ open: -500, close: -250 }))?.percent).toBe(50);
  expect(dayChange(without({ open: 9_000, previous_close: 10_000 }))?.since).toBe("close");
  expect(references([])).toBe("close");
  expect(references([fresh, without({ close: null })])).toBe("open");
  expect(references(ROWS)).toBe("close");
  expect(references([...ROWS, fresh])).toBe("both");
  expect(movers([fresh], "gainers", 3)).toEqual([fresh]);
  const [energy] = layOutSectors([fresh], "", 400, 300);
  expect(sectorPercent(energy!)).toBeCloseTo(10);
});

test.each([
  ["gainers", "MORE UP NEW"],
  ["losers", "DOWN"],
  ["active", "SAME DOWN MORE"],
] as const)("%s are %s", (ranking, expected) => {
  const symbols = movers(ROWS, ranking, 3).map(({ instrument }) => instrument.symbol);
  expect(symbols.join(" ")).toBe(expected);
});

test("sectors hold their instruments under their heads, and nothing that did not trade", () => {
  const sectors = layOutSectors(ROWS, "", 400, 300);
  const shown = sectors.map(({ sector, tiles }) => [
    sector,
    ...tiles.map(({ row }) => row.instrument.symbol),
  ]);
  expect(shown).toEqual([
    ["health", "SAME", "MORE"],
    ["energy", "DOWN", "UP"],
  ]);
  for (const { area, tiles } of sectors)
    for (const tile of tiles) {
      expect(tile.area.y).toBeGreaterThanOrEqual(area.y + HEAD);
      expect(tile.area.x + tile.area.width).toBeLessThan(area.x + area.width + 0.001);
    }
  expect(layOutSectors(ROWS, "energy", 400, 300)).toHaveLength(1);
});

test.each([
  [null, 0],
  [0.04, 0],
  [-0.05, -1],
  [1, 3],
  [-2.5, -4],
  [30, 5],
])("a change of %s percent has heat %s", (percent, expected) => {
  expect(heat(percent)).toBe(expected);
});

test("small trades are left out, gaps never are, and what is new is counted", () => {
  const instrument = { size_scale: 1 } as Instrument;
  const trade = (number: number, size: number) =>
    ({ kind: "trade", instrument, trade: { number, size } }) as unknown as TapeLine;
  const gap: TapeLine = { kind: "gap", missed: 3, before: 5 };
  const lines = [trade(7, 100), trade(6, 5), gap, trade(2, 100)];
  expect(filterLines(lines, 10)).toEqual([lines[0], gap, lines[3]]);
  expect(filterLines(lines, 0)).toBe(lines);
  expect(newSince(lines, [gap, lines[3]!])).toBe(2);
  expect(newSince(lines, lines)).toBe(0);
});

test("of time and sales is left out what has no room", () => {
  const form = (width: number, price = 8, size = 6) => {
    const lengths = { price, size, briefSize: Math.min(size, 8), conditions: 4 };
    const { briefTime, briefSize, conditions } = layOutTape(width, 7, lengths);
    return [briefTime && "seconds", briefSize && "short sizes", conditions && "conditions"]
      .filter(Boolean)
      .join();
  };
  expect(form(400)).toBe("conditions");
  expect(form(270)).toBe("");
  expect(form(250)).toBe("seconds");
  expect(form(350, 20, 21)).toBe("seconds,short sizes");
  expect(form(100, 20, 21)).toBe("seconds,short sizes");
});

test("the longest trades decide how wide the columns are, until another symbol is shown", () => {
  const instrument = { price_scale: 2, size_scale: 0 } as Instrument;
  const line = (price: number, size: number, conditions = "") =>
    ({ kind: "trade", instrument, trade: { price, size, conditions } }) as unknown as TapeLine;
  const first = longest([line(123_456_789, 5, "TI")], NOTHING_LONG);
  expect(first).toEqual({ price: 12, size: 4, briefSize: 4, conditions: 2 });
  expect(longest([line(1, 12_345_678_901)], first)).toEqual({
    price: 12,
    size: 14,
    briefSize: 6,
    conditions: 2,
  });
  expect(longest([], NOTHING_LONG)).toEqual(NOTHING_LONG);
});

test("of a mover the symbol and its change stay", () => {
  const shown = (width: number) => {
    const { last, volume } = layOutMovers(width, 7, { last: 10, percent: 7, volume: 8 });
    return [last, volume];
  };
  expect([320, 220, 160].map(shown)).toEqual([
    [true, true],
    [true, false],
    [false, false],
  ]);
});
