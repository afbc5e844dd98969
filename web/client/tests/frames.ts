import { encode } from "@msgpack/msgpack";
import { decodeFrame } from "../src/decode.js";
import { Image } from "../src/image.js";
import { updateToJson } from "../src/json.js";
import type { Epoch, Micros, Position, Update } from "../src/protocol.js";

/** 2026-11-22T18:55:44Z */
export const MOMENT = Date.UTC(2026, 10, 22, 18, 55, 44) * 1000;

export const AAPL = {
  symbol: "AAPL",
  name: "Apple",
  sector: "technology",
  currency: "USD",
  price_scale: 2,
  size_scale: 0,
  tick_size: 1,
  anchor: 18_900,
  previous_close: 18_890,
};

export function frame(...values: unknown[]): Uint8Array {
  return encode(values);
}

/** An image at position 100 of epoch 7, at {@link MOMENT}, that knows AAPL as number 3. */
export function imageWithApple(): Image {
  const image = new Image();
  image.begin({ epoch: 7 as Epoch, position: 100 as Position, time: MOMENT as Micros });
  applyTo(image, 0, 0, 3, 63, AAPL);
  return image;
}

export function applyTo(image: Image, ...values: unknown[]): Update {
  const update = decodeFrame(frame(...values));
  if (update.type !== "update") throw new Error(`not an update: ${update.type}`);
  return image.apply(update);
}

/** The JSON form of what one update says. */
export function jsonOf(update: Update): unknown[] {
  return (updateToJson(update) as { updates: unknown[] }).updates;
}
