import { expect, test } from "vitest";
import type { ReplayState } from "../src/protocol.js";
import { RequestError, type ReplayControl } from "../src/replay.js";
import { liveWorld } from "./fakes.js";

const PLAYED = {
  type: "replay",
  kind: "replay",
  state: "paused",
  speed: 4,
  now: "2024-08-08T23:54:20Z",
  start: "2024-08-08T23:54:14Z",
  end: "2024-08-08T23:55:14Z",
  loop: false,
  controllable: true,
  room: null,
};

test.each<[string, (replay: ReplayControl) => Promise<ReplayState>, object]>([
  ["looked at", (replay) => replay.state(), {}],
  ["played", (replay) => replay.play(), { action: "play" }],
  ["paused", (replay) => replay.pause(), { action: "pause" }],
  ["sped up", (replay) => replay.speed(4), { action: "speed", speed: 4 }],
  ["hurried", (replay) => replay.speed("max"), { action: "speed", speed: "max" }],
  [
    "wound to a date",
    (replay) => replay.seek(new Date("2024-08-08T23:54:20Z")),
    { action: "seek", to: "2024-08-08T23:54:20.000Z" },
  ],
  [
    "wound to a nanosecond",
    (replay) => replay.seek("2024-08-08T23:54:14.024619568Z"),
    { action: "seek", to: "2024-08-08T23:54:14.024619568Z" },
  ],
  ["stepped", (replay) => replay.step(), { action: "step", by: "event" }],
  ["stepped a second", (replay) => replay.step("1s"), { action: "step", by: "1s" }],
])("a replay is %s, and how it stands then is the answer", async (_, act, sent) => {
  const { client, socket } = liveWorld();
  const done = act(client.replay);
  const { id, ...request } = socket().requests.at(-1)!;
  expect(request).toEqual({ op: "replay", ...sent });
  socket().deliver({ ...PLAYED, id: id + 1 }); // of another request
  socket().deliver({ ...PLAYED, id, now: "2024-08-08T23:54:21Z" });
  expect(await done).toMatchObject({ state: "paused", speed: 4, now: "2024-08-08T23:54:21Z" });
});

test("what the server does not do with a replay is refused with its reason", async () => {
  const { client, socket } = liveWorld();
  const sought = client.replay.seek("1999-01-01T00:00:00Z");
  const { id } = socket().requests.at(-1)!;
  socket().deliver({ type: "error", id, code: "outside", message: "there is nothing then" });
  await expect(sought).rejects.toThrow(new RequestError("outside", "there is nothing then"));
  await expect(sought).rejects.toMatchObject({ name: "RequestError", code: "outside" });
});

test("an action on a replay ends with its session", async () => {
  const { client, socket } = liveWorld();
  const played = client.replay.play();
  socket().drop();
  await expect(played).rejects.toThrow("the session ended");
  await expect(client.replay.play()).rejects.toThrow("no session");
});
