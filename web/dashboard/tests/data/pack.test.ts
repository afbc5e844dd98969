import { expect, test } from "vitest";
import type {
  Change,
  Instrument,
  Integer,
  InstrumentNumber,
  Micros,
  Units,
} from "@tickcast/client";
import { pack, unpack, type Images } from "../../src/data/pack.js";

const number = 7 as InstrumentNumber;
const units = (value: Integer) => value as Units;
const instrument = { number, symbol: "SHIB" } as Instrument;

test("numbers beyond 2^53 cross to the page with all their digits", () => {
  const large = [9007199254740992n, -9007199254740992n, (1n << 127n) - 1n, -(1n << 96n), 1n << 95n];
  const trades = [...large, 5].map((value, i) => ({
    number: i,
    price: units(value),
    size: units(value),
    side: "buy" as const,
    conditions: "",
    ts_event: 1 as Micros,
  }));
  const day = {
    start: 60,
    open: units(1n << 70n),
    close: null,
    volume: units((1n << 120n) + 1n),
    trades: 3,
  };
  const changes: Change[] = [
    { kind: "trades", instrument, missed: 0, repeated: [], trades },
    { kind: "day", instrument, changed: day, day },
  ];
  const images: Images = { instrument, quote: {}, day: {} };
  const [told, toldDay] = unpack(pack(changes), () => images);
  expect(told).toEqual(changes[0]);
  expect(toldDay).toMatchObject({ changed: day });
});
