import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { mayReconnect, reconnectDelay } from "../src/backoff.js";

/** What the Rust client is held to as well. */
interface Row {
  name: string;
  code: number | null;
  attempt: number;
  goodbye: { retry_after_ms: number; jitter_ms: number } | null;
  least_ms: number | null;
  most_ms: number | null;
}

const rows = JSON.parse(
  readFileSync(new URL("../../../tests/backoff.json", import.meta.url), "utf8"),
) as Row[];

test("the table has rows", () => expect(rows.length).toBeGreaterThan(20));

test.each(rows)("$name: attempt $attempt after $code", (row) => {
  const { code, attempt, goodbye, least_ms, most_ms } = row;
  expect(mayReconnect(code)).toBe(least_ms !== null);
  if (least_ms === null) return;
  const waits = [0, 0.5, 1].map((random) => reconnectDelay(attempt, random, code, goodbye));
  expect(waits).toEqual([least_ms, (least_ms + most_ms!) / 2, most_ms]);
});
