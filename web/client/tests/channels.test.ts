/** Messages and states of channels, from the wire to a slow consumer. */

import { expect, test } from "vitest";
import { Conflation } from "../src/conflation.js";
import { DecodeError, type WireUpdate } from "../src/decode.js";
import { Image } from "../src/image.js";
import type { Change, Epoch, Micros, Position } from "../src/protocol.js";
import { AAPL, applyTo, imageWithApple, MOMENT } from "./frames.js";

const messages = (number: number, ...said: string[]) => [
  ...[null, 48, "desk", number, said.length],
  ...said.flatMap((text) => [0, "Ann", null, JSON.stringify(text)]),
];
const states = (whole: 0 | 1, of: Record<string, unknown>) => [
  ...[null, 49, "desk", whole, Object.keys(of).length],
  ...Object.entries(of).flatMap(([key, data]) => [
    key,
    data === null ? null : JSON.stringify(data),
  ]),
];

/** What a change says of messages: how many were missed, and those that are new. */
function heard(change: Change | undefined) {
  if (change?.kind !== "messages") throw new Error("no messages");
  return [change.missed, change.first, change.messages.map(({ data }) => data)];
}

test("each message comes once, and a gap is exact", () => {
  const image = new Image();
  const hear = (number: number, ...said: string[]) =>
    heard(applyTo(image, 1, 0, ...messages(number, ...said)).changes[0]);
  expect(hear(7, "a", "b")).toEqual([0, 7, ["a", "b"]]);
  expect(hear(8, "b", "c")).toEqual([0, 9, ["c"]]);
  expect(hear(12, "d")).toEqual([2, 12, ["d"]]);
  expect(hear(20)).toEqual([7, 20, []]);
  const [said] = applyTo(image, 1, 5, ...messages(20, "e")).changes;
  expect(said).toMatchObject({ messages: [{ number: 20, from: "Ann", data: "e" }] });
});

test("what came to a channel that had no messages before is missed from its first one on", () => {
  const image = new Image();
  const wire: WireUpdate = {
    type: "update",
    positions: 1,
    micros: 0,
    entries: [{ kind: "messages", channel: "desk", number: 7, messages: [] }],
  };
  const [change] = image.apply(wire, (kind, of) => kind === "messages" && of === "desk").changes;
  expect(heard(change)).toEqual([7, 7, []]);
});

test("a reset of the market leaves channels as they are, and another tape does not", () => {
  const image = imageWithApple();
  applyTo(image, 1, 0, ...messages(5, "a"), ...states(1, { Ann: 1 }));
  applyTo(image, 1, 0, null, 59);
  expect(image.states("desk")).toEqual(new Map([["Ann", 1]]));
  expect(heard(applyTo(image, 1, 0, ...messages(5, "a", "b")).changes[0])).toEqual([0, 6, ["b"]]);
  image.begin({ epoch: 8 as Epoch, position: 0 as Position, time: MOMENT as Micros });
  expect(image.states("desk").size).toBe(0);
  expect(heard(applyTo(image, 1, 0, ...messages(0, "new")).changes[0])).toEqual([0, 0, ["new"]]);
});

test("a state holds until it has ended, or is not among all that are", () => {
  const image = new Image();
  const of = (whole: 0 | 1, changed: Record<string, unknown>) => {
    applyTo(image, 1, 0, ...states(whole, changed));
    return Object.fromEntries(image.states("desk"));
  };
  expect(of(1, { Ann: { typing: true }, Bob: 1 })).toEqual({ Ann: { typing: true }, Bob: 1 });
  expect(of(0, { Ann: null, Eve: 2 })).toEqual({ Bob: 1, Eve: 2 });
  expect(of(1, { Eve: 3 })).toEqual({ Eve: 3 });
  image.forget((kind) => kind !== "states");
  expect(image.states("desk").size).toBe(0);
});

test("how many watch is an image of its instrument", () => {
  const image = imageWithApple();
  const [change] = applyTo(image, 1, 0, 3, 43, 1, 12).changes;
  expect(change).toMatchObject({ kind: "watchers", watchers: { watchers: 12 } });
  expect(change).toMatchObject({ instrument: { symbol: AAPL.symbol } });
});

test("a slow consumer gets every message, the oldest beyond its bound as missed, and of states the newest", () => {
  const image = new Image();
  const lost: unknown[] = [];
  const waiting = new Conflation(3, (...what) => lost.push(what));
  const add = (...values: unknown[]) => waiting.add(applyTo(image, 1, 0, ...values));
  add(...messages(0, "a", "b"), ...states(1, { Ann: 1, Bob: 1 }));
  add(...messages(2, "c", "d"), ...states(0, { Ann: null }));
  // A reset in between drops what is of the market only.
  add(null, 59);
  add(...states(0, { Bob: 2 }));
  const changes = waiting.take()!.changes;
  expect(changes.map(({ kind }) => kind)).toEqual(["reset", "messages", "states"]);
  expect(heard(changes[1])).toEqual([1, 1, ["b", "c", "d"]]);
  expect(changes[2]).toMatchObject({ whole: true, changed: { Ann: null, Bob: 2 } });
  expect(lost).toEqual([["messages:desk", 1]]);
  add(...messages(4, "e"));
  add(...messages(9, "j"));
  expect(waiting.take()!.changes.map(heard)).toEqual([
    [0, 4, ["e"]],
    [4, 9, ["j"]],
  ]);
  for (const number of [20, 30, 40, 50]) add(...messages(number, String(number)));
  expect(waiting.take()!.changes.map(heard)).toEqual([
    [20, 30, ["30"]],
    [9, 40, ["40"]],
    [9, 50, ["50"]],
  ]);
  expect(waiting.empty).toBe(true);
});

test.each([
  ["no JSON", [null, 48, "desk", 0, 1, 0, null, null, "{"]],
  ["more than there are", [null, 48, "desk", 0, 9]],
  ["a channel that is none", [null, 49, 7, 1, 0]],
])("%s is malformed", (_, values) => {
  expect(() => applyTo(new Image(), 1, 0, ...values)).toThrow(DecodeError);
});
