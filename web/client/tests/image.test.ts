import { expect, test } from "vitest";
import { encode } from "@msgpack/msgpack";
import { DecodeError, decodeFrame, type WireUpdate } from "../src/decode.js";
import type { Image } from "../src/image.js";
import type { Instrument, InstrumentNumber } from "../src/protocol.js";
import { Subscriptions } from "../src/subscriptions.js";
import { AAPL, applyTo, imageWithApple } from "./frames.js";

const apple = 3 as InstrumentNumber;
const trade = [42, 0, 1, 100];

/** Applies a batch of trades and says which numbers came out and how many were missed. */
function checkTrades(image: Image, entry: unknown[], numbers: number[], missed = 0): void {
  const [change] = applyTo(image, 1, 0, 3, ...entry).changes;
  if (change?.kind !== "trades") throw new Error("no trades");
  expect({ numbers: change.trades.map(({ number }) => number), missed: change.missed }).toEqual({
    numbers,
    missed,
  });
}

test("fields that are not sent keep their values", () => {
  const image = imageWithApple();
  applyTo(image, 1, 0, 3, 15, 41, 300, 43, 200);
  applyTo(image, 1, 0, 3, 4, null);
  expect(image.quote(apple)).toEqual({ bid: 18_941, bid_size: 300, ask: null, ask_size: 200 });
});

test("a finer scale multiplies what is kept", () => {
  const image = imageWithApple();
  applyTo(image, 1, 0, 3, 15, 41, 300, null, 200);
  applyTo(image, 1, 0, 3, 42, 16 + 32 + 64 + 128, 42, 700, 5, 4114);
  const finer = { ...AAPL, price_scale: 4, size_scale: 1, anchor: 1_890_000 };
  applyTo(image, 1, 0, 3, 63, finer, 3, 4, 4300);
  expect(image.quote(apple)).toEqual({
    bid: 1_894_100,
    bid_size: 3000,
    ask: 1_894_300,
    ask_size: 2000,
  });
  expect(image.bar("day", apple)).toEqual({
    close: 1_894_200,
    volume: 7000,
    trades: 5,
    vwap: 189_411_400,
  });
});

test("a coarser scale is refused", () => {
  const image = imageWithApple();
  expect(() => applyTo(image, 1, 0, 3, 63, { ...AAPL, price_scale: 1 })).toThrow(
    "AAPL: a scale became coarser",
  );
});

test("a start begins a new bar of which nothing else is known", () => {
  const image = imageWithApple();
  applyTo(image, 1, 0, 3, 40, 255, 60, 40, 42, 40, 42, 700, 5, 4114);
  applyTo(image, 1, 0, 3, 40, 1 + 16, 61, 43);
  expect(image.bar("1s", apple)).toEqual({ start: 61, close: 18_943 });
});

test("an instrument must be defined before it is used", () => {
  expect(() => applyTo(imageWithApple(), 1, 0, 4, 1, 5)).toThrow(DecodeError);
});

test("a ring that was empty at first begins with number 0", () => {
  const image = imageWithApple();
  checkTrades(image, [32, 2, ...trade, ...trade], [0, 1]);
  checkTrades(image, [32, 1, ...trade], [2]);
});

test("a stated number that is the expected one loses nothing", () => {
  const image = imageWithApple();
  checkTrades(image, [33, 10, 2, ...trade, ...trade], [10, 11]);
  checkTrades(image, [33, 12, 1, ...trade], [12]);
});

test("a larger number is a gap of exactly the difference", () => {
  const image = imageWithApple();
  checkTrades(image, [33, 10, 1, ...trade], [10]);
  checkTrades(image, [33, 51, 1, ...trade], [51], 40);
  checkTrades(image, [32, 1, ...trade], [52]);
});

test("a gap is counted even where no entry follows yet", () => {
  const image = imageWithApple();
  checkTrades(image, [33, 10, 1, ...trade], [10]);
  checkTrades(image, [33, 20, 0], [], 9);
  checkTrades(image, [32, 1, ...trade], [20]);
});

test("entries that the client has already are skipped", () => {
  const image = imageWithApple();
  checkTrades(image, [33, 10, 3, ...trade, ...trade, ...trade], [10, 11, 12]);
  checkTrades(image, [33, 11, 3, ...trade, ...trade, ...trade], [13]);
  checkTrades(image, [33, 5, 2, ...trade, ...trade], []);
  checkTrades(image, [32, 7, ...Array.from({ length: 7 }, () => trade).flat()], []);
  checkTrades(image, [32, 1, ...trade], [14]);
});

test("forgetting a topic drops its image and its numbering, and nothing else", () => {
  const image = imageWithApple();
  applyTo(image, 1, 0, 3, 1, 41, 3, 42, 16, 42, null, 61, 0, 0, 1);
  checkTrades(image, [33, 10, 1, ...trade], [10]);
  image.forget((kind) => kind === "quote" || kind === "status");
  expect(image.quote(apple)).toEqual({ bid: 18_941 });
  expect(image.bar("day", apple)).toBeUndefined();
  expect(image.feed?.kind).toBe("simulator");
  checkTrades(image, [33, 30, 1, ...trade], [30]);
});

test("a reset image knows no instrument", () => {
  const image = imageWithApple();
  applyTo(image, 1, 0, 3, 1, 41, null, 60, 1, 0);
  image.reset();
  expect([image.instrument(apple), image.quote(apple), image.trading(null)]).toEqual([
    undefined,
    undefined,
    undefined,
  ]);
});

test("after a reset instruments and rings begin anew, and nothing counts as lost", () => {
  const image = imageWithApple();
  const whole = () => true;
  checkTrades(image, [33, 10, 1, ...trade], [10]);
  const msft = { ...AAPL, symbol: "MSFT" };
  const apply = (...values: unknown[]) =>
    image.apply(decodeFrame(encode(values)) as WireUpdate, whole);
  expect(apply(null, -5, null, 59, 3, 63, msft, 3, 33, 4, 1, ...trade).changes).toMatchObject([
    { kind: "reset" },
    { kind: "instrument" },
    { kind: "trades", missed: 0, trades: [{ number: 4 }] },
  ]);
  expect([image.find("AAPL"), image.quote(apple)]).toEqual([undefined, undefined]);
  // The flush that told of it goes on, and what comes behind it is counted again.
  expect(apply(2, 0, 3, 46, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1).changes).toMatchObject([{ missed: 0 }]);
  expect(apply(1, 0, 3, 33, 7, 0).changes).toMatchObject([{ missed: 2 }]);
});

test("what leaves is dropped, and of what it lost until it joins again nothing counts as missed", () => {
  const image = imageWithApple();
  const whole = () => true;
  const apply = (...values: unknown[]) =>
    image.apply(decodeFrame(encode(values)) as WireUpdate, whole).changes;
  // Its ring began before it joined.
  expect(apply(1, 0, 3, 58, 1, 3, 33, 10, 1, ...trade)).toMatchObject([
    { kind: "joined", topic: "trades" },
    { kind: "trades", missed: 0, trades: [{ number: 10 }] },
  ]);
  apply(1, 0, 3, 58, 0, 3, 1, 41);
  // The flush that says so may be given up, and is told again: no trade comes twice.
  apply(null, 0, 3, 32, 1, ...trade, 3, 57, 1, 3, 57, 0);
  expect(image.quote(apple)).toBeUndefined();
  expect(apply(1, 0, 3, 33, 11, 1, ...trade, 3, 57, 1)).toMatchObject([
    { kind: "trades", missed: 0, trades: [], repeated: [{ number: 11 }] },
    { kind: "left", topic: "trades", instrument: { symbol: "AAPL" } },
  ]);
  expect(apply(1, 0, 3, 58, 1, 3, 33, 20, 1, ...trade)).toMatchObject([
    { kind: "joined" },
    { kind: "trades", missed: 0, trades: [{ number: 20 }] },
  ]);
  expect(apply(1, 0, 3, 33, 25, 0)).toMatchObject([{ missed: 4 }]);
  // One that was away while it left and joined again goes on counting.
  expect(apply(1, 0, 3, 58, 1, 3, 33, 27, 1, ...trade)).toMatchObject([{}, { missed: 2 }]);
});

test("what is known of topics that were never had whole is dropped with the connection", () => {
  const image = imageWithApple();
  applyTo(image, 1, 0, 3, 1, 41, 3, 33, 10, 1, ...trade);
  const dropped = image.dropImages((kind) => kind === "day");
  expect(dropped).toMatchObject([{ kind: "left", topic: "quote", instrument: { symbol: "AAPL" } }]);
  // Rings are counted on.
  checkTrades(image, [33, 10, 2, ...trade, ...trade], [11]);
});

test("sets cover the instruments they name", () => {
  const covered = (topic: string, kind: string, instrument: Instrument | null) => {
    const subscriptions = new Subscriptions();
    subscriptions.accepted(topic);
    return subscriptions.covers(kind, instrument);
  };
  const quote = (topic: string) => covered(topic, "quote", AAPL as unknown as Instrument);
  expect(["quote:*", "quote:AAPL", "quote:@technology"].every(quote)).toBe(true);
  expect(["quote:MSFT", "quote:@energy", "day:*", "quote"].some(quote)).toBe(false);
  expect(covered("status", "status", null)).toBe(true);
  expect(covered("status:*", "status", null)).toBe(false);
});

test("what is known of an instrument that moves is of its sector before until the flush ends", () => {
  const image = imageWithApple();
  applyTo(image, 1, 0, 3, 1, 41, 3, 33, 10, 1, ...trade);
  const ofTechnology = (_: string, of: { sector: string } | string | null) =>
    typeof of === "object" && of?.sector === AAPL.sector;
  // Its topics are yet to be said to have left, and may be told to have joined again.
  const moves = encode([null, 0, 3, 63, { ...AAPL, sector: "elsewhere" }]);
  image.apply(decodeFrame(moves) as WireUpdate, ofTechnology);
  image.forget(ofTechnology);
  expect(image.quote(apple)).toBeDefined();
  checkTrades(image, [33, 10, 1, ...trade], []);
  image.forget(ofTechnology);
  expect(image.quote(apple)).toBeUndefined();
});
