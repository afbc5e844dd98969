/** That this client's words are those of the server, whose tables write `tests/vectors/schema.json`. */

import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import * as schema from "../src/schema.js";

interface CloseCode {
  code: number;
  then: string;
}

interface Schema extends Record<string, unknown> {
  topics: { kind: string }[];
  close_codes: CloseCode[];
}

const path = new URL("../../../tests/vectors/schema.json", import.meta.url);
const told = JSON.parse(readFileSync(path, "utf8")) as Schema;

/** What the client has no use for: it asks for no faults, and takes error codes as they come. */
const UNUSED = [
  "protocol",
  "market_topics",
  "ops",
  "replay_actions",
  "faults",
  "answers",
  "error_codes",
  "max_hz",
  "speed",
  "largest_integer",
];

const { TOPICS, CLOSE_CODES } = schema;

const own: Record<string, unknown> = {
  topics: Object.entries(TOPICS).map(([kind, topic]) => ({ kind, ...topic })),
  fields: schema.FIELDS,
  tags: schema.TAGS,
  channel_topics: schema.CHANNEL_TOPICS,
  trade_flags: schema.TRADE_FLAGS,
  sides: schema.SIDES,
  counts: schema.COUNTS,
  trading_states: schema.TRADING_STATES,
  feed_kinds: schema.FEED_KINDS,
  feed_states: schema.FEED_STATES,
  largest_scale: schema.LARGEST_SCALE,
  backoff: schema.BACKOFF,
};

test.each(Object.keys(own))("%s are the server's", (name) => {
  expect(own[name]).toEqual(told[name]);
});

test("the subprotocol is one of the server's", () => {
  expect(told["subprotocols"]).toMatchObject({ msgpack: schema.SUBPROTOCOL });
});

test("after each close code the client does what the protocol says", () => {
  const then = Object.entries(CLOSE_CODES).map(([code, { then }]) => ({
    code: Number(code),
    then,
  }));
  expect(then).toEqual(told.close_codes.map(({ code, then }) => ({ code, then })));
});

test("what a trade counts for is named in the server's order, as few words as say it", () => {
  expect(Object.keys(schema.COUNTS)).toEqual(Object.keys(told["counts"] as object));
});

test("nothing of the schema is passed over", () => {
  const known = [...Object.keys(own), "subprotocols", "close_codes", ...UNUSED];
  expect(Object.keys(told).filter((name) => !known.includes(name))).toEqual([]);
});
