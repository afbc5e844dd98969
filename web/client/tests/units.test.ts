import { expect, test } from "vitest";
import { formatDecimal } from "../src/number.js";
import type { InstrumentNumber } from "../src/protocol.js";
import { integerFrom, minus, plus, shifted, type Integer } from "../src/units.js";
import { AAPL, applyTo, imageWithApple, jsonOf } from "./frames.js";

/** Integers of all lengths up to 120 bits, always the same ones, and the edges of what a double holds. */
function integers(): bigint[] {
  let state = 42n;
  const next = () => (state = (state * 6364136223846793005n + 1442695040888963407n) % (1n << 64n));
  const edges = [0n, 1n, 1n << 53n, 1n << 54n, 1n << 64n].flatMap((edge) => [
    edge - 1n,
    edge,
    edge + 1n,
  ]);
  const random = Array.from(
    { length: 400 },
    () => (((next() << 64n) | next()) >> (next() % 120n)) >> 8n,
  );
  return [...edges, ...random].flatMap((value) => [value, -value]);
}

/** The form that a value has: one only. */
function check(got: Integer, exact: bigint): void {
  const safe = exact <= 9007199254740991n && exact >= -9007199254740991n;
  expect(got).toBe(safe ? Number(exact) + 0 : exact);
}

const form = (value: bigint): Integer =>
  integerFrom(Number.isSafeInteger(Number(value)) ? Number(value) : String(value))!;

test("sums and multiples are those of integers without a bound", () => {
  const all = integers();
  all.forEach((a, i) => {
    const b = all[(i * 7 + 3) % all.length]!;
    check(form(a), a);
    check(plus(form(a), form(b)), a + b);
    check(minus(form(a), form(b)), a - b);
    for (const digits of [0, 1, 2, 8, 15, 16, 18])
      check(shifted(form(a), digits), a * 10n ** BigInt(digits));
  });
});

test("what is no integer, or has another form, is refused", () => {
  for (const value of [
    1.5,
    NaN,
    2 ** 53,
    "5",
    "9007199254740991",
    "-9007199254740991",
    "1e30",
    "01".padEnd(20, "0"),
    "",
    null,
    undefined,
    {},
    "9".repeat(41),
    5n,
  ])
    expect(integerFrom(value)).toBeNull();
  expect(integerFrom("9007199254740992")).toBe(9007199254740992n);
  expect(integerFrom("-9007199254740992")).toBe(-9007199254740992n);
});

test("decimals are shown with all their digits", () => {
  expect(formatDecimal({ units: 1850123456789012345678n, scale: 18 })).toBe(
    "1850.123456789012345678",
  );
  expect(formatDecimal({ units: -100000000000000012345678n, scale: 8 })).toBe(
    "-1000000000000000.12345678",
  );
});

test("what is kept is multiplied exactly where a scale grows", () => {
  const image = imageWithApple();
  const apple = 3 as InstrumentNumber;
  applyTo(image, 1, 0, 3, 15, 41, 9007199254740991, 42, 7, 3, 42, 32, 9007199254740991);
  applyTo(image, 1, 0, 3, 63, {
    ...AAPL,
    size_scale: 8,
    price_scale: 18,
    anchor: "189000000000000000000",
    previous_close: "188900000000000000000",
    tick_size: "10000000000000000",
  });
  expect(image.quote(apple)).toEqual({
    bid: 189410000000000000000n,
    bid_size: 900719925474099100000000n,
    ask: 189420000000000000000n,
    ask_size: 700000000,
  });
  expect(image.bar("day", apple)).toEqual({ volume: 900719925474099100000000n });
  const update = applyTo(image, 1, 0, 3, 1, 5, 3, 42, 160, "900719925474099100000001", -3);
  expect(jsonOf(update)).toEqual([
    { topic: "quote:AAPL", bid: "189.000000000000000005" },
    { topic: "day:AAPL", volume: "9007199254740991.00000001", vwap: "188.99999999999999999997" },
  ]);
});
