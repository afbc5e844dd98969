import { expect, test } from "vitest";
import { Conflation } from "../src/conflation.js";
import type { Image } from "../src/image.js";
import type { Change, Update } from "../src/protocol.js";
import { AAPL, applyTo, imageWithApple, MOMENT } from "./frames.js";

const MSFT = { ...AAPL, symbol: "MSFT", name: "Microsoft" };
const trade = (offset: number, size = 100) => [offset, 0, 1, size];

/** What waits after these frames, each the values of one entry list. */
function conflated(image: Image, frames: unknown[][], entries?: number): Conflation {
  const waiting = new Conflation(entries);
  for (const values of frames) waiting.add(applyTo(image, 1, 0, ...values));
  return waiting;
}

function only<Kind extends Change["kind"]>(update: Update | null, kind: Kind) {
  return (update?.changes ?? []).filter(
    (change): change is Extract<Change, { kind: Kind }> => change.kind === kind,
  );
}

test("of images the newest values wait, each field once", () => {
  const image = imageWithApple();
  const waiting = conflated(image, [
    [3, 15, 41, 300, 43, 200],
    [3, 1, 40],
    [3, 4, 45],
  ]);
  const update = waiting.take()!;
  expect(only(update, "quote")).toMatchObject([
    { changed: { bid: 18_940, bid_size: 300, ask: 18_945, ask_size: 200 } },
  ]);
  expect(update).toMatchObject({ position: 103, time: MOMENT, whole: true });
  expect(waiting.empty).toBe(true);
  expect(waiting.take()).toBeNull();
});

test("what an update said is not altered by what comes after it", () => {
  const image = imageWithApple();
  const first = applyTo(image, 1, 0, 3, 1, 40);
  const waiting = new Conflation();
  waiting.add(first);
  waiting.add(applyTo(image, 1, 0, 3, 4, 45));
  expect(first.changes).toMatchObject([{ changed: { bid: 18_940 } }]);
  expect(Object.keys(only(first, "quote")[0]!.changed)).toEqual(["bid"]);
});

test("a new bar takes nothing of the one before, and the previous close of the day stays", () => {
  const image = imageWithApple();
  const waiting = conflated(image, [
    [3, 42, 1 + 2 + 4 + 256, 60, 40, 50, -10],
    [3, 42, 1 + 16, 120, 44],
    [3, 40, 1 + 4, 60, 50],
    [3, 40, 1, 61],
  ]);
  const update = waiting.take();
  expect(only(update, "day")).toMatchObject([
    { changed: { start: 120, close: 18_944, previous_close: 18_890 } },
  ]);
  expect(only(update, "day")[0]!.changed).not.toHaveProperty("high");
  expect(only(update, "bar")[0]!.changed).toEqual({ start: 61 });
});

test("every trade waits, in order, and a gap stays where it is", () => {
  const image = imageWithApple();
  const waiting = conflated(image, [
    [3, 33, 10, 1, ...trade(1)],
    [3, 32, 1, ...trade(2)],
    [3, 33, 20, 2, ...trade(3), ...trade(1)],
    [3, 32, 1, ...trade(5)],
  ]);
  const runs = only(waiting.take(), "trades");
  expect(runs.map(({ missed, trades }) => [missed, trades.map(({ number }) => number)])).toEqual([
    [0, [10, 11]],
    [8, [20, 21, 22]],
  ]);
});

test("beyond the bound the oldest entries are counted as missed, in their place", () => {
  const image = imageWithApple();
  const frames = Array.from({ length: 50 }, (_, i) => [
    3,
    i ? 32 : 33,
    ...(i ? [] : [0]),
    1,
    ...trade(1),
  ]);
  const [run, ...others] = only(conflated(image, frames, 10).take(), "trades");
  expect(others).toEqual([]);
  const { missed, trades } = run!;
  expect(trades.length).toBeGreaterThanOrEqual(10);
  expect(trades.length).toBeLessThanOrEqual(20);
  expect(trades[0]!.number).toBe(missed);
  expect(trades.at(-1)!.number).toBe(49);
});

test("closed bars keep their numbers when the oldest go", () => {
  const image = imageWithApple();
  const bar = (start: number) => [start, 40, 45, 35, 42, 700, 5, 4000];
  const frames = Array.from({ length: 30 }, (_, i) => [
    3,
    i ? 44 : 46,
    ...(i ? [] : [0]),
    1,
    ...bar(i),
  ]);
  const [run] = only(conflated(image, frames, 10).take(), "closed_bars");
  expect(run!.first).toBe(run!.missed);
  expect(run!.first + run!.bars.length).toBe(30);
  expect(run!.bars[0]!.start).toBe(run!.first);
});

test("gaps alone do not pile up", () => {
  const image = imageWithApple();
  const waiting = conflated(
    image,
    [[3, 33, 0, 0], ...Array.from({ length: 1_000 }, (_, i) => [3, 33, 2 * i + 2, 1, ...trade(1)])],
    10,
  );
  const runs = only(waiting.take(), "trades");
  expect(runs.length).toBeLessThanOrEqual(20);
  const told = runs.reduce((sum, { missed, trades }) => sum + missed + trades.length, 0);
  expect(told).toBe(2_001);
});

test("a finer scale applies to what waits", () => {
  const image = imageWithApple();
  const finer = {
    ...AAPL,
    price_scale: 3,
    size_scale: 1,
    anchor: 189_000,
    previous_close: 188_900,
  };
  const waiting = conflated(image, [
    [3, 15, 41, 300, 43, 200],
    [3, 33, 0, 1, ...trade(42)],
    [3, 63, finer, 3, 32, 1, ...trade(421, 1_000)],
  ]);
  const update = waiting.take();
  expect(only(update, "quote")).toMatchObject([
    { changed: { bid: 189_410, bid_size: 3_000 }, instrument: { price_scale: 3 } },
  ]);
  const [run] = only(update, "trades");
  expect(run!.trades.map(({ price, size }) => [price, size])).toEqual([
    [189_420, 1_000],
    [189_421, 1_000],
  ]);
});

test("a consumer that takes a little at a time gets no image before its definition", () => {
  const image = imageWithApple();
  const waiting = conflated(image, [
    [3, 63, AAPL, 3, 1, 41],
    [4, 63, MSFT, 4, 1, 41, 4, 33, 0, 1, ...trade(1)],
  ]);
  const said = () => waiting.take(1)!.changes.map((change) => change.kind);
  expect(said()).toEqual(["instrument"]);
  expect(said()).toEqual(["instrument", "trades"]);
  expect(said()).toEqual(["quote"]);
  expect(said()).toEqual(["quote"]);
  expect(waiting.empty).toBe(true);
});

test("a reset voids what waits, and is told before what comes behind it", () => {
  const image = imageWithApple();
  const waiting = conflated(image, [
    [3, 15, 41, 300, 43, 200, 3, 33, 10, 1, ...trade(1)],
    [null, 59, 4, 63, MSFT, 4, 1, 44],
  ]);
  expect(waiting.take()!.changes).toMatchObject([
    { kind: "reset" },
    { kind: "instrument", instrument: { symbol: "MSFT" } },
    { kind: "quote", changed: { bid: 18_944 } },
  ]);
  waiting.add(applyTo(image, 1, 0, null, 59));
  expect(waiting.empty).toBe(false);
  expect(waiting.take()!.changes).toEqual([{ kind: "reset" }]);
  expect(waiting.take()).toBeNull();
});

test("what has left waits behind its last entries, and nothing else of it does", () => {
  const image = imageWithApple();
  const waiting = conflated(image, [
    [3, 15, 41, 300, 43, 200, 3, 33, 10, 1, ...trade(1), 3, 60, 1, 0],
    [3, 57, 0, 3, 57, 1, 3, 57, 5],
  ]);
  expect(waiting.take()!.changes).toMatchObject([
    { kind: "trades", trades: [{ number: 10 }] },
    { kind: "left", topic: "quote" },
    { kind: "left", topic: "trades" },
    { kind: "left", topic: "status" },
  ]);
  waiting.add(applyTo(image, 1, 0, 3, 58, 2, 3, 46, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 57, 2));
  // It comes again before that was taken: what was lost in between does not make one run of two.
  waiting.add(applyTo(image, 1, 0, 3, 58, 2, 3, 46, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 40, 16, 5));
  expect(waiting.take()!.changes).toMatchObject([
    { kind: "joined", topic: "bars.1s" },
    { kind: "closed_bars", first: 3, missed: 0 },
    { kind: "closed_bars", first: 9, missed: 0 },
    { kind: "bar" },
  ]);
  expect(waiting.empty).toBe(true);
});

test("one who takes now and then ends with the images of one who takes everything", () => {
  // A plain model: the fields of all changes, one after the other.
  let seed = 7;
  const random = (below: number) => (seed = (seed * 16_807) % 2_147_483_647) % below;
  const image = imageWithApple();
  const waiting = new Conflation();
  const [model, copy]: Record<string, unknown>[] = [{}, {}];
  let [trades, taken] = [0, 0];
  const note = (fields: Record<string, unknown>, update: Update | null) => {
    for (const change of only(update, "quote")) Object.assign(fields, change.changed);
    return only(update, "trades").reduce((sum, run) => sum + run.missed + run.trades.length, 0);
  };
  for (let step = 0; step < 2_000; step++) {
    const mask = 1 + random(15);
    const values = [1, 2, 4, 8].filter((bit) => mask & bit).map(() => random(1_000));
    const run = step === 0 ? [33, 0] : [32];
    const update = applyTo(image, 1, 0, 3, mask, ...values, 3, ...run, 1, ...trade(random(9)));
    trades += note(model!, update);
    waiting.add(update);
    if (random(5) === 0) taken += note(copy!, waiting.take(1 + random(3)));
  }
  taken += note(copy!, waiting.take());
  expect(copy).toEqual(model);
  expect(taken).toBe(trades);
});
