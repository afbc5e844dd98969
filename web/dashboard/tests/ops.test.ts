import { describe, expect, test } from "vitest";
import type { ServerStats } from "@tickcast/client";
import { readServerStats } from "../../client/src/server-stats.js";
import { bytes, micros, moment, percent, short, span, whole } from "../src/ops/figures.js";
import { filled, History, quantileUs, SPAN_S } from "../src/ops/history.js";

const START = 1_795_373_744;

/** What a server that was started at START tells `second` seconds later. */
function stats(second: number, told: Record<string, unknown> = {}): ServerStats {
  return readServerStats({ time: (START + second) * 1e6, uptime_ms: second * 1000, ...told });
}

function historyOf(seconds: readonly number[], told?: (second: number) => Record<string, unknown>) {
  const history = new History();
  for (const second of seconds) history.add(stats(second, told?.(second)));
  return history;
}

const counts = (counts: number[]) => ({ latency: { bounds_us: [100, 200, 500], counts } });

describe("the last minutes", () => {
  test("hold so many seconds and no more", () => {
    const seconds = Array.from({ length: SPAN_S + 50 }, (_, second) => second);
    const { points } = historyOf(seconds);
    expect(points).toHaveLength(SPAN_S + 1);
    expect(points[0]!.at).toBe(START + 49);
  });

  test("take no second twice", () => {
    expect(historyOf([1, 2, 2, 1, 3]).points.map(({ at }) => at - START)).toEqual([1, 2, 3]);
  });

  test("begin anew with another process", () => {
    const history = historyOf([1000, 1001]);
    history.add({ ...stats(1010), uptime_ms: 3_000 });
    expect(history.points).toHaveLength(1);
  });

  test("are drawn with a break where nothing is known", () => {
    const history = historyOf([0, 1, 2, 30, 31], (second) => ({ sessions: { open: second } }));
    const lines = history.lines(({ sessions }) => sessions);
    expect(lines.map((line) => line.map(({ y }) => y))).toEqual([
      [0, 1, 2],
      [30, 31],
    ]);
    expect(lines[1]!.at(-1)!.x).toBe(1);
    expect(lines[0]![0]!.x).toBeCloseTo(1 - 31 / 60);
  });

  test("fill the drawing once there is a minute of them", () => {
    const first = (seconds: number[]) => historyOf(seconds).lines(() => 1)[0]![0]!.x;
    expect(first([0, 1])).toBeCloseTo(59 / 60);
    expect(first(Array.from({ length: 200 }, (_, second) => second))).toBe(0);
  });

  test("are drawn with a break where there is no value", () => {
    const history = historyOf([1, 2, 3], (second) =>
      second === 2 ? {} : { latency: { p99_us: second } },
    );
    expect(history.lines(({ p99 }) => p99)).toHaveLength(2);
  });
});

describe("send latency", () => {
  test("is added up over as many seconds as are asked for", () => {
    const history = historyOf([1, 2, 3], (second) => counts([second, 0, 0, 1]));
    expect(history.spread(1).counts).toEqual([3, 0, 0, 1]);
    expect(history.spread(2).counts).toEqual([5, 0, 0, 2]);
    expect(history.spread(60)).toMatchObject({ counts: [6, 0, 0, 3], total: 9 });
  });

  test("has quantiles in the bucket where they lie", () => {
    const spread = historyOf([1], () => counts([0, 90, 10, 0])).spread(60);
    expect(quantileUs(spread, 0.45)).toBeCloseTo(150);
    expect(quantileUs(spread, 0.95)).toBeCloseTo(350);
    const over = historyOf([1], () => counts([0, 0, 0, 5])).spread(60);
    expect(quantileUs(over, 0.5)).toBe(500);
    expect(quantileUs(historyOf([]).spread(60), 0.5)).toBeNull();
  });

  test("is drawn where there is any, and one bucket around it", () => {
    const filledOf = (list: number[]) =>
      filled(historyOf([1], () => counts(list)).spread(60)).map(({ toUs }) => toUs);
    expect(filledOf([0, 0, 0, 0])).toEqual([]);
    expect(filledOf([0, 5, 0, 0])).toEqual([100, 200, 500]);
    expect(filledOf([0, 0, 0, 1])).toEqual([500, null]);
  });
});

test("figures are as short as they can be told apart", () => {
  expect([0, 0.4, 7, 812.4, 9_999, 12_345, 456_789, 4_560_000, 2.5e9].map(short)).toEqual([
    "0",
    "0.4",
    "7",
    "812",
    "9,999",
    "12.3k",
    "457k",
    "4.56M",
    "2.50G",
  ]);
  expect([0, 812, 12_700, 47_001_600, 5 * 2 ** 30].map(bytes)).toEqual([
    "0 B",
    "812 B",
    "12.4 KiB",
    "44.8 MiB",
    "5.0 GiB",
  ]);
  expect([66, 999.6, 1_500, 120_000, 2_300_000].map(micros)).toEqual([
    "66 µs",
    "1000 µs",
    "1.5 ms",
    "120 ms",
    "2.3 s",
  ]);
  expect([0, 0.034, 0.42, 1].map(percent)).toEqual(["0.0%", "3.4%", "42%", "100%"]);
  expect([0, 42_900, 200_000, 18_720_000, 1_051_200_000].map(span)).toEqual([
    "0 s",
    "42 s",
    "3 m 20 s",
    "5 h 12 m",
    "12 d 4 h",
  ]);
  expect(whole(1_234_567.4)).toBe("1,234,567");
  expect(moment(START * 1e6)).toBe("2026-11-22 18:55:44");
});
