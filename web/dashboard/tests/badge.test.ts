import { expect, test } from "vitest";
import { HEARTBEAT_MS, liveWorld, world } from "../../client/tests/fakes.js";
import { connectionBadge, feedBadge, isFresh } from "../src/shell/badge.js";
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

test("a page is not live before data has come", () => {
  const it = world();
  it.client.subscribe(["quote:*"]);
  it.client.connect();
  check(it, "warn", "Connecting");
  it.client.close();
  check(it, "bad", "Offline");
});

test.each<[Feed | null, string, string]>([
  [null, "warn", "FEED UNKNOWN"],
  [{ kind: "simulator", state: "live", speed: 1 }, "good", "SIMULATED"],
  [{ kind: "replay", state: "live", speed: 4 }, "good", "REPLAY ×4"],
  [{ kind: "replay", state: "paused", speed: 4 }, "warn", "REPLAY ×4 paused"],
  [{ kind: "replay", state: "ended", speed: null }, "warn", "REPLAY MAX ended"],
  [{ kind: "publisher", state: "live", speed: 1 }, "good", "LIVE publisher"],
  [{ kind: "publisher", state: "stale", speed: 1 }, "bad", "Publisher stale"],
])("the feed %j is shown as %s %s", (feed, tone, label) => {
  expect(feedBadge(feed)).toMatchObject({ tone, label });
  expect(isFresh({ kind: "live" }, feed)).toBe(feed?.state === "live");
});
