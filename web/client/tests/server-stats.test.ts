import { expect, test } from "vitest";
import { readServerStats } from "../src/server-stats.js";

test("what another version does not tell is zero, empty or null", () => {
  const stats = readServerStats({ time: 5, sessions: { open: 3 }, shards: [{ busy: 0.5 }] });
  expect(stats.time).toBe(5);
  expect(stats.sessions).toMatchObject({ open: 3, blocked: 0, closed_by_code: {} });
  expect(stats.shards).toMatchObject([{ busy: 0.5, sends_per_s: 0, late: false }]);
  expect(stats.memory_bytes).toBeNull();
  expect(stats.slow).toEqual([]);
});

test("what is of another type is not believed", () => {
  const stats = readServerStats({ shards: "many", slow: [7, null], latency: null, version: 3 });
  expect(stats.shards).toEqual([]);
  expect(stats.slow).toHaveLength(2);
  expect(stats.slow[0]).toMatchObject({ session: 0, merged: null });
  expect(stats.latency.counts).toEqual([]);
  expect(stats.version).toBe("");
});

test("codes by which sessions ended are counted whatever they are", () => {
  const { sessions } = readServerStats({ sessions: { closed_by_code: { 1000: 2, other: 1 } } });
  expect(sessions.closed_by_code).toEqual({ 1000: 2, other: 1 });
});

test("a speed is a number or the word max, and 1 where it is neither", () => {
  const speed = (speed: unknown) => readServerStats({ feed: { speed } }).feed.speed;
  expect([4, "max", "fast", null].map(speed)).toEqual([4, "max", 1, 1]);
});
