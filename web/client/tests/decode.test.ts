import { encode } from "@msgpack/msgpack";
import { expect, test } from "vitest";
import { DecodeError, decodeFrame } from "../src/decode.js";
import { AAPL, applyTo, frame, imageWithApple, jsonOf } from "./frames.js";

function check(entries: unknown[], ...expected: unknown[]): void {
  expect(jsonOf(applyTo(imageWithApple(), 1, 0, ...entries))).toEqual(expected);
}

function checkRefused(bytes: Uint8Array, message: RegExp): void {
  expect(() => decodeFrame(bytes)).toThrow(DecodeError);
  expect(() => decodeFrame(bytes)).toThrow(message);
}

test("the first two integers move the position and the time", () => {
  const image = imageWithApple();
  expect(applyTo(image, 3, 250_000)).toMatchObject({ position: 103, changes: [] });
  expect(applyTo(image, 0, -1)).toMatchObject({ position: 103 });
  expect(image.time).toBe(Date.UTC(2026, 10, 22, 18, 55, 44) * 1000 + 249_999);
});

test("tags 1 to 15 are the fields of a quote", () => {
  check([3, 1, 41], { topic: "quote:AAPL", bid: "189.41" });
  check([3, 2, 300], { topic: "quote:AAPL", bid_size: "300" });
  check([3, 4, -41], { topic: "quote:AAPL", ask: "188.59" });
  check([3, 8, 7], { topic: "quote:AAPL", ask_size: "7" });
  check([3, 15, 41, 300, 43, 200], {
    topic: "quote:AAPL",
    bid: "189.41",
    bid_size: "300",
    ask: "189.43",
    ask_size: "200",
  });
});

test("an empty side of a quote is null", () => {
  check([3, 5, null, 43], { topic: "quote:AAPL", bid: null, ask: "189.43" });
});

test("tags 17 to 31 add the time of the quote, relative to the update", () => {
  check([3, 17, 41, -1_000_001], {
    topic: "quote:AAPL",
    bid: "189.41",
    ts_event: "2026-11-22T18:55:42.999999Z",
  });
});

test("several entries of one update follow each other", () => {
  check(
    [3, 1, 41, 3, 4, 43],
    { topic: "quote:AAPL", bid: "189.41" },
    { topic: "quote:AAPL", ask: "189.43" },
  );
});

test("trades carry price, size, side, conditions and time, and go on counting", () => {
  const image = imageWithApple();
  const first = applyTo(image, 1, 0, 3, 33, 17, 2, 42, -10, 1, 100, -1, 10, 6, 50, "I");
  expect(jsonOf(first)).toEqual([
    {
      topic: "trades:AAPL",
      trades: [
        {
          number: 17,
          price: "189.42",
          size: "100",
          side: "buy",
          ts_event: "2026-11-22T18:55:43.999990Z",
        },
        {
          number: 18,
          price: "189.41",
          size: "50",
          side: "sell",
          conditions: "I",
          ts_event: "2026-11-22T18:55:44.000000Z",
        },
      ],
    },
  ]);
  const next = applyTo(image, 1, 0, 3, 32, 1, 40, 0, 0, 1);
  expect(jsonOf(next)).toMatchObject([{ trades: [{ number: 19, side: "none" }] }]);
});

test("tags 40 to 42 are the fields of the latest bar", () => {
  check([3, 40, 1 + 2 + 4 + 8 + 16 + 32 + 64 + 128, 1_795_373_744, 40, 42, 40, 42, 700, 5, 4114], {
    topic: "bars.1s:AAPL",
    bar: {
      start: "2026-11-22T18:55:44Z",
      open: "189.40",
      high: "189.42",
      low: "189.40",
      close: "189.42",
      volume: "700",
      trades: 5,
      vwap: "189.4114",
    },
  });
  check([3, 41, 16 + 32, 43, 800], {
    topic: "bars.1m:AAPL",
    bar: { close: "189.43", volume: "800" },
  });
  check([3, 42, 16 + 256, 42, -10], {
    topic: "day:AAPL",
    close: "189.42",
    previous_close: "188.90",
  });
});

test("tags 44 to 47 are closed bars, numbered where they are 46 or 47", () => {
  const bar = [1_795_373_744, 40, 42, 40, 42, 700, 5, 4114];
  const image = imageWithApple();
  const numbered = jsonOf(applyTo(image, 1, 0, 3, 46, 4, 2, ...bar, ...bar));
  expect(numbered).toMatchObject([
    { topic: "bars.1s:AAPL", closed: [{ number: 4, vwap: "189.4114" }, { number: 5 }] },
  ]);
  expect(jsonOf(applyTo(image, 1, 0, 3, 44, 1, ...bar))).toMatchObject([
    { closed: [{ number: 6 }] },
  ]);
  expect(jsonOf(applyTo(image, 1, 0, 3, 47, 0, 1, ...bar))).toMatchObject([
    { topic: "bars.1m:AAPL" },
  ]);
  expect(jsonOf(applyTo(image, 1, 0, 3, 45, 1, ...bar))).toMatchObject([
    { closed: [{ number: 1 }] },
  ]);
});

test("tag 60 is the trading state of an instrument or of the market", () => {
  const ts_event = "2026-11-22T18:55:44.000000Z";
  check([3, 60, 2, 0], { topic: "status:AAPL", state: "halted", ts_event });
  check([null, 60, 0, 0], { topic: "status", state: "pre-open", ts_event });
});

test("tag 61 is the feed", () => {
  check([null, 61, 0, 0, 1], {
    topic: "status",
    feed: { kind: "simulator", state: "live", speed: 1 },
  });
  check([null, 61, 1, 4, "max"], {
    topic: "status",
    feed: { kind: "replay", state: "seeking", speed: "max" },
  });
});

test("tag 63 defines an instrument", () => {
  const { anchor: _, ...fields } = AAPL;
  check([3, 63, AAPL], { instrument: { ...fields, tick_size: "0.01", previous_close: "188.90" } });
});

test("a malformed update is refused with the place and what is wrong", () => {
  checkRefused(frame(), /update value 0 \(positions\): expected an integer, found the end/);
  checkRefused(frame(-1, 0), /positions\): expected 0 or more, found -1/);
  checkRefused(
    frame(0, 0, 3, 99),
    /update value 3 \(tag\): expected one of tickcast\.v1, found 99/,
  );
  checkRefused(frame(0, 0, 3, 16), /found 16/);
  checkRefused(frame(0, 0, null, 1, 5), /instrument\): expected a number, found null/);
  checkRefused(frame(0, 0, 3, 1, "5"), /bid\): expected an integer, found 5/);
  checkRefused(frame(0, 0, 3, 1, 2 ** 53), /bid\): expected an integer/);
  checkRefused(frame(0, 0, 3, 32, 4_000_000_000, 1, 1, 1, 1), /count\): expected at most 4 values/);
  checkRefused(frame(0, 0, 3, 32, 1, 1, 1, 3, 1), /flags\): expected .*, found 3/);
  checkRefused(frame(0, 0, 3, 40, 256), /mask\): expected at most 255/);
  checkRefused(frame(0, 0, 3, 63, { ...AAPL, price_scale: 19 }), /price_scale: expected 0 to 18/);
});

test("bytes that are no message are refused, and lengths they claim are not believed", () => {
  checkRefused(new Uint8Array(), /not MessagePack/);
  checkRefused(new Uint8Array([0x93, 1]), /not MessagePack/);
  checkRefused(new Uint8Array([0xdd, 0xff, 0xff, 0xff, 0xff]), /not MessagePack/);
  checkRefused(encode(5), /neither an array nor a map/);
  checkRefused(encode({ type: "welcome" }), /welcome, field epoch: expected an integer/);
  checkRefused(encode({ type: "unsubscribed", topics: [5] }), /field topics/);
});

test("answers of an unknown type are passed over", () => {
  expect(decodeFrame(encode({ type: "fanfare" }))).toEqual({ type: "unknown" });
});
