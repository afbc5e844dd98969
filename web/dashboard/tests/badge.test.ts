import { expect, test } from "vitest";
import { HEARTBEAT_MS, liveWorld, world } from "../../client/tests/fakes.js";
import { connectionBadge, feedBadge, isAwaited, isFresh } from "../src/shell/badge.js";
import type { Feed } from "@tickcast/client";

type World = ReturnType<typeof world>;

const simulator = [1, 0, null, 61, 0, 0, 1];

function check({ client, clock }: World, tone: string, label: string): void {
  expect(connectionBadge(client.state, clock.now())).toMatchObject({ tone, label });
}

test("a page that hears nothing for two heartbeats is stale, and says for how long", () => {
  const it = liveWorld();
  it.socket().deliver(simulator);
  check(it, "good", "Live");
  expect(isFresh(it.client.state, it.client.image.feed)).toBe(true);
  it.clock.advance(2 * HEARTBEAT_MS);
  check(it, "bad", "Stale 10 s");
  expect(isFresh(it.client.state, it.client.image.feed)).toBe(false);
  it.clock.advance(2_500);
  check(it, "bad", "Stale 12 s");
  it.socket().deliver([0, 0]);
  check(it, "good", "Live");
});

test("a lost connection counts down to the next attempt", () => {
  const it = liveWorld();
  it.socket().drop();
  it.clock.advance(125);
  check(it, "bad", "Reconnecting, attempt 1 now");
  for (const delay of [250, 500, 1_000]) {
    it.socket().drop();
    it.clock.advance(delay);
  }
  it.socket().drop();
  check(it, "bad", "Reconnecting, attempt 5 in 2 s");
  it.clock.advance(1_500);
  check(it, "bad", "Reconnecting, attempt 5 in 1 s");
  expect(isFresh(it.client.state, it.client.image.feed)).toBe(false);
});

test("prices that come late say by how much, and whose fault it may be", () => {
  const it = liveWorld();
  it.socket().deliver({ type: "lag", lag_ms: 2_430 });
  check(it, "warn", "Lagging 2.4 s");
  const { detail } = connectionBadge(it.client.state, 0);
  expect(detail).toMatch(/shown 2\.4 s late: this computer, the way to it or the server/);
  it.socket().deliver({ type: "lag", lag_ms: 10 });
  check(it, "good", "Live");
});

test("a lost connection says why", () => {
  const it = liveWorld();
  it.socket().drop(4429, "too many requests");
  const { detail } = connectionBadge(it.client.state, it.clock.now());
  expect(detail).toBe(
    "There is no connection: too many requests. Trying again in 3 s (attempt 1).",
  );
});

test("a page is not live before data has come", () => {
  const it = world();
  it.client.subscribe(["quote:*"]);
  it.client.connect();
  check(it, "warn", "Connecting");
  it.client.close();
  check(it, "bad", "Offline");
});

test("a server that waits for its first publisher gives no alarm", () => {
  const feed: Feed = { kind: "publisher", state: "stale", speed: 1 };
  expect(isAwaited(feed, 0)).toBe(true);
  expect(feedBadge(feed, 0)).toMatchObject({ tone: "good", label: "Waiting for a publisher" });
  expect(isAwaited(feed, 1)).toBe(false);
  expect(isAwaited({ ...feed, state: "live" }, 0)).toBe(false);
  expect(isAwaited({ ...feed, kind: "replay" }, 0)).toBe(false);
});

test.each<[Feed | null, string, string]>([
  [null, "warn", "FEED UNKNOWN"],
  [{ kind: "simulator", state: "live", speed: 1 }, "good", "SIMULATED"],
  [{ kind: "replay", state: "live", speed: 4 }, "good", "REPLAY ×4"],
  [{ kind: "replay", state: "paused", speed: 4 }, "warn", "REPLAY ×4 paused"],
  [{ kind: "replay", state: "ended", speed: "max" }, "warn", "REPLAY MAX ended"],
  [{ kind: "replay", state: "seeking", speed: 1 }, "warn", "REPLAY ×1 seeking"],
  [{ kind: "publisher", state: "live", speed: 1 }, "good", "LIVE publisher"],
  [{ kind: "publisher", state: "stale", speed: 1 }, "bad", "Publisher stale"],
])("the feed %j is shown as %s %s", (feed, tone, label) => {
  expect(feedBadge(feed, 3)).toMatchObject({ tone, label });
  expect(isFresh({ kind: "live" }, feed)).toBe(feed?.state === "live" || feed?.state === "seeking");
});
