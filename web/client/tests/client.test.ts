import { expect, test } from "vitest";
import { reconnectDelay } from "../src/backoff.js";
import { fnv1a } from "../src/checksum.js";
import { AAPL } from "./frames.js";
import { HEARTBEAT_MS, liveWorld, welcome, world } from "./fakes.js";

const trade = [42, 0, 1, 100];

test("a client is live once what it subscribed has begun to arrive", () => {
  const { client, socket } = world();
  client.subscribe(["quote:*"], { maxHz: 10 });
  client.connect();
  expect(client.state).toEqual({ kind: "connecting" });
  expect(socket().protocols).toEqual(["tickcast.v1.msgpack"]);
  socket().deliver(welcome());
  expect(socket().requests).toEqual([{ op: "subscribe", id: 1, topics: ["quote:*"], max_hz: 10 }]);
  expect(client.state.kind).toBe("connecting");
  socket().accept();
  expect(client.state.kind).toBe("connecting");
  socket().deliver([1, 0, 3, 63, AAPL, 3, 1, 41]);
  expect(client.state.kind).toBe("live");
  expect(client.image.quote(3 as never)).toEqual({ bid: 18_941 });
});

test("a client without topics is live once it is welcome", () => {
  const { client, socket } = world();
  client.connect();
  socket().deliver(welcome());
  expect(client.state.kind).toBe("live");
});

test("two heartbeats of silence are stale, and any frame is live again", () => {
  const { client, clock, socket, said } = liveWorld();
  clock.advance(2 * HEARTBEAT_MS - 1);
  expect(client.state.kind).toBe("live");
  clock.advance(1);
  expect(said("state")).toEqual([["state", { kind: "stale", heard_at: 1_000 }]]);
  socket().deliver([0, 0]);
  expect(client.state.kind).toBe("live");
  clock.advance(2 * HEARTBEAT_MS - 1);
  expect(client.state.kind).toBe("live");
  clock.advance(1);
  expect(client.state.kind).toBe("stale");
});

test("heartbeats keep a client live", () => {
  const { client, clock, socket } = liveWorld();
  for (let beat = 0; beat < 10; beat++) {
    clock.advance(HEARTBEAT_MS);
    socket().deliver([1, 0]);
    expect(client.state.kind).toBe("live");
  }
});

test("a connection that stays silent is given up and made anew", () => {
  const { client, clock, sockets } = liveWorld();
  clock.advance(3 * HEARTBEAT_MS);
  expect(client.state).toMatchObject({ kind: "reconnecting", attempt: 1 });
  expect(sockets[0]!.closed).toBe(true);
  clock.advance(125);
  expect(sockets).toHaveLength(2);
});

test("a handshake that is not answered is tried again", () => {
  const { client, clock, sockets } = world();
  client.connect();
  clock.advance(10_000);
  expect(client.state).toMatchObject({ kind: "reconnecting", attempt: 1 });
  clock.advance(125);
  expect(sockets).toHaveLength(2);
});

test("waits double with full jitter up to 30 seconds", () => {
  const { client, clock, socket, said } = world();
  client.connect();
  const delays = Array.from({ length: 9 }, () => {
    said();
    socket().drop();
    const [[, state]] = said("state") as [[string, { retry_at: number; attempt: number }]];
    const delay = state.retry_at - clock.now();
    clock.advance(delay);
    return delay;
  });
  expect(delays).toEqual([125, 250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
  expect([reconnectDelay(3, 0, 1006, null), reconnectDelay(3, 0.999, 1006, null)]).toEqual([
    0, 999,
  ]);
});

test("only a session that lasted starts the waits over", () => {
  const { client, clock, socket } = world();
  client.connect();
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome());
  socket().drop();
  expect(client.state).toMatchObject({ attempt: 2 });
  clock.advance(250);
  socket().deliver(welcome());
  clock.advance(HEARTBEAT_MS);
  socket().drop();
  expect(client.state).toMatchObject({ attempt: 1 });
});

test("a goodbye says when to come back", () => {
  const { client, clock, socket, said } = liveWorld();
  socket().deliver({
    type: "goodbye",
    code: 1012,
    reason: "restart",
    retry_after_ms: 3_000,
    jitter_ms: 2_000,
  });
  expect(said("goodbye")).toMatchObject([["goodbye", { reason: "restart" }]]);
  socket().drop(1012);
  expect(client.state).toMatchObject({ kind: "reconnecting", retry_at: clock.now() + 4_000 });
});

test.each([1002, 1007, 1009])("close code %i is final: coming back would not mend it", (code) => {
  const { client, clock, socket, sockets } = liveWorld();
  socket().drop(code);
  expect(client.state).toMatchObject({ kind: "closed", code });
  clock.advance(60_000);
  expect(sockets).toHaveLength(1);
});

test("after too many requests the client comes back slower", () => {
  const { client, clock, socket } = liveWorld();
  socket().drop(4429);
  expect(client.state).toMatchObject({ retry_at: clock.now() + 2_500 });
});

test("a wait can be cut short", () => {
  const { client, socket, sockets } = liveWorld();
  socket().drop();
  client.reconnectNow();
  expect(sockets).toHaveLength(2);
  expect(client.state).toMatchObject({ kind: "reconnecting", retry_at: null });
});

test("a lost session is taken up at the last position, and only new trades come out", () => {
  const { client, clock, socket, said } = liveWorld();
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome(7, 150));
  expect(socket().requests).toMatchObject([
    { topics: ["trades:AAPL"], since: { epoch: 7, position: 101 } },
  ]);
  socket().accept(true);
  expect(said("resumed")).toEqual([["resumed", { epoch: 7, position: 101 }]]);
  socket().deliver([1, 0, 3, 33, 11, 2, ...trade, ...trade]);
  expect(client.state.kind).toBe("live");
  expect(said("update", "gap")).toMatchObject([
    ["update", { position: 151, changes: [{ missed: 0, trades: [{ number: 12 }] }] }],
  ]);
});

test("trades lost while away are a gap of the exact count", () => {
  const { client, clock, socket, said } = liveWorld();
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome(7, 900));
  socket().accept(true);
  socket().deliver([0, 0, 3, 33, 500, 1, ...trade]);
  expect(said("gap")).toEqual([["gap", { topic: "trades:AAPL", missed: 488 }]]);
  expect(client.counters.missed).toBe(488);
});

test("of a ring that was empty at first, the gap counts from number 0", () => {
  const { client, clock, socket, said } = world();
  client.subscribe(["trades:AAPL"]);
  client.connect();
  socket().deliver(welcome());
  socket().accept();
  socket().deliver([1, 0, 3, 63, AAPL]);
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome(7, 900));
  socket().accept(true);
  socket().deliver([1, 0, 3, 33, 244, 1, ...trade]);
  expect(said("gap")).toEqual([["gap", { topic: "trades:AAPL", missed: 244 }]]);
});

test("a connection lost within a flush is resumed from before it", () => {
  const { clock, socket } = liveWorld();
  socket().deliver([null, 0, 3, 32, 1, ...trade]);
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome(7, 150));
  socket().drop();
  clock.advance(250);
  socket().deliver(welcome(7, 160));
  expect(socket().requests).toMatchObject([{ since: { position: 101 } }]);
});

test("a topic whose snapshot may not be whole is not resumed but begun anew", () => {
  const { client, clock, socket } = liveWorld();
  client.subscribe(["quote:AAPL"]);
  socket().accept();
  socket().deliver([null, 0, 3, 1, 41]);
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome());
  expect(socket().requests).toMatchObject([
    { topics: ["trades:AAPL"], since: { position: 101 } },
    { topics: ["quote:AAPL"] },
  ]);
  expect(socket().requests[1]).not.toHaveProperty("since");
});

test.each(["another epoch in the welcome", "a refusal to resume"])(
  "%s drops everything kept",
  (how) => {
    const { client, clock, socket, said } = liveWorld();
    const epoch = how === "a refusal to resume" ? 7 : 8;
    socket().drop();
    clock.advance(125);
    socket().deliver(welcome(epoch, 5));
    if (epoch === 8) expect(socket().requests[0]).not.toHaveProperty("since");
    socket().accept(epoch === 7 ? false : undefined, epoch);
    expect(said("replaced", "resumed")).toEqual([["replaced", { epoch }]]);
    expect(client.image.instrument(3 as never)).toBeUndefined();
    socket().deliver([1, 0, 3, 63, AAPL, 3, 33, 0, 1, ...trade]);
    expect(said("gap", "update")).toMatchObject([
      ["update", { position: 6, changes: [{}, { missed: 0, trades: [{ number: 0 }] }] }],
    ]);
  },
);

test("what cannot be resumed is dropped once, however many requests ask for it", () => {
  const { client, clock, socket, said } = world();
  const topics = ["trades:AAPL", ...Array.from({ length: 299 }, (_, i) => `quote:S${i}`)];
  client.subscribe(topics);
  client.connect();
  socket().deliver(welcome());
  expect(socket().requests.map((request) => request.topics.length)).toEqual([256, 44]);
  socket().accept();
  socket().deliver([1, 0, 3, 63, AAPL]);
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome(7, 200));
  const [first, second] = socket().requests.splice(0);
  expect([first, second]).toMatchObject([{ since: {} }, { since: {} }]);
  said();
  socket().requests.push(first!);
  socket().accept(false);
  socket().deliver([1, 0, 3, 63, AAPL, 3, 33, 0, 1, ...trade]);
  socket().requests.push(second!);
  socket().accept(false);
  expect(said("replaced")).toHaveLength(1);
  expect(client.image.instrument(3 as never)).toBeDefined();
});

test("a malformed frame is reported, and the client begins anew", () => {
  const { client, clock, socket, said } = liveWorld();
  socket().deliver([0, 0, 3, 99]);
  expect(said("error", "replaced")).toMatchObject([
    ["error", { code: "malformed" }],
    ["replaced", { epoch: 7 }],
  ]);
  expect(client.state.kind).toBe("reconnecting");
  clock.advance(125);
  socket().deliver(welcome());
  expect(socket().requests[0]).not.toHaveProperty("since");
});

test("an unsubscribed topic is dropped, and does not come back with the next session", () => {
  const { client, clock, socket } = liveWorld();
  client.subscribe(["quote:AAPL"]);
  socket().accept();
  socket().deliver([1, 0, 3, 1, 41]);
  client.unsubscribe(["quote:AAPL"]);
  expect(socket().requests).toMatchObject([{ op: "unsubscribe", topics: ["quote:AAPL"] }]);
  socket().deliver({ type: "unsubscribed", topics: [{ topic: "quote:AAPL" }] });
  expect(client.image.quote(3 as never)).toBeUndefined();
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome());
  expect(socket().requests).toMatchObject([{ topics: ["trades:AAPL"] }]);
});

test("what was unsubscribed when the connection was lost is dropped, and begins anew if it comes back", () => {
  const { client, clock, socket } = liveWorld();
  client.subscribe(["quote:AAPL"]);
  socket().accept();
  socket().deliver([1, 0, 3, 1, 41]);
  client.unsubscribe(["quote:AAPL"]);
  socket().drop();
  expect(client.image.quote(3 as never)).toBeUndefined();
  clock.advance(125);
  socket().deliver(welcome());
  socket().accept(true);
  socket().drop();
  client.subscribe(["quote:AAPL"]);
  clock.advance(250);
  socket().deliver(welcome());
  expect(socket().requests).toMatchObject([
    { topics: ["trades:AAPL"], since: {} },
    { topics: ["quote:AAPL"] },
  ]);
  expect(socket().requests[1]).not.toHaveProperty("since");
});

test("a topic that is dropped and taken again at once begins with a snapshot", () => {
  const { client, socket } = liveWorld();
  client.unsubscribe(["trades:AAPL"]);
  client.subscribe(["trades:AAPL"]);
  expect(socket().requests.map(({ op }) => op)).toEqual(["unsubscribe", "subscribe"]);
  expect(socket().requests[1]).not.toHaveProperty("since");
});

test("a refused topic is reported and not asked for again", () => {
  const { client, clock, socket, said } = world();
  client.subscribe(["qoute:AAPL"]);
  client.connect();
  socket().deliver(welcome());
  const error = { code: "unknown_topic", message: "no such kind", nearest: "quote" };
  socket().deliver({
    type: "subscribed",
    id: 1,
    epoch: 7,
    position: 100,
    topics: [{ topic: "qoute:AAPL", error }],
  });
  expect(said("error")).toEqual([
    ["error", { code: "unknown_topic", message: "no such kind", topic: "qoute:AAPL" }],
  ]);
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome());
  expect(socket().requests).toEqual([]);
});

test("of a topic that is asked for once more the last answer decides", () => {
  const { client, clock, socket, said } = world();
  client.subscribe(["quote:LATE"]);
  client.connect();
  socket().deliver(welcome());
  client.unsubscribe(["quote:LATE"]);
  client.subscribe(["quote:LATE"]);
  const refused = { topic: "quote:LATE", error: { code: "unknown_topic", message: "none yet" } };
  const answer = { type: "subscribed", epoch: 7, position: 100 };
  socket().deliver({ ...answer, id: 1, topics: [refused] });
  socket().deliver({ ...answer, id: 3, topics: [{ topic: "quote:LATE" }] });
  expect(said("error")).toHaveLength(1);
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome());
  expect(socket().requests).toMatchObject([{ op: "subscribe", topics: ["quote:LATE"] }]);
});

test("status changes are said on their own", () => {
  const { socket, said } = liveWorld();
  socket().deliver([1, 0, null, 61, 1, 2, 4]);
  expect(said("status")).toEqual([
    ["status", { kind: "feed", feed: { kind: "replay", state: "paused", speed: 4 } }],
  ]);
});

test("a closed client stays closed", () => {
  const { client, clock, sockets } = liveWorld();
  client.close();
  clock.advance(120_000);
  expect(client.state).toMatchObject({ kind: "closed", code: 1000 });
  expect(sockets).toHaveLength(1);
  client.connect();
  expect(sockets).toHaveLength(2);
});

test("a cap set before the first answer is asked for, and holds in the sessions to come", () => {
  const { client, clock, socket } = world();
  client.subscribe(["quote:AAPL"]);
  client.connect();
  socket().deliver(welcome());
  client.setMaxHz(5);
  expect(socket().requests).toMatchObject([
    { topics: ["quote:AAPL"] },
    { topics: ["quote:AAPL"], max_hz: 5 },
  ]);
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome());
  expect(socket().requests).toMatchObject([{ topics: ["quote:AAPL"], max_hz: 5 }]);
});

test.each([0, 0.05, 1_001, NaN])("a cap of %d is an error, and changes nothing", (hz) => {
  const { client, socket } = liveWorld();
  expect(() => client.subscribe(["quote:AAPL"], { maxHz: hz })).toThrow(`maxHz ${hz}`);
  expect(() => client.setMaxHz(hz)).toThrow(`maxHz ${hz}`);
  expect(client.maxHz).toBeNull();
  expect(socket().requests).toEqual([]);
});

test("a session holds at most 1,024 topics", () => {
  const { client } = world();
  const topics = Array.from({ length: 1_025 }, (_, i) => `quote:S${i}`);
  expect(() => client.subscribe(topics)).toThrow(RangeError);
  client.subscribe(topics.slice(1));
});

test("a copy is proved by the server's checksum, at the moment of the answer", async () => {
  const { client, socket } = liveWorld();
  client.subscribe(["quote:AAPL"]);
  socket().accept();
  socket().deliver([1, 0, 3, 15, 41, 300, 43, 200]);
  const verified = client.verify(["quote:AAPL", "day:AAPL", "quote:MSFT"]);
  const id = socket().requests.at(-1)?.id;
  socket().deliver([1, 0, 3, 1, 42]);
  socket().deliver({
    type: "checksum",
    id,
    position: 103,
    topics: [
      { topic: "quote:AAPL", checksum: fnv1a("quote:AAPL=18942,300,18943,200") },
      { topic: "day:AAPL", checksum: 1 },
      { topic: "quote:MSFT", error: { code: "not_subscribed", message: "not subscribed" } },
    ],
  });
  expect(await verified).toEqual([
    { topic: "quote:AAPL", matches: true },
    { topic: "day:AAPL", matches: false },
    { topic: "quote:MSFT", matches: null, reason: "not subscribed" },
  ]);
});

test("a verification ends with its session", async () => {
  const { client, socket } = liveWorld();
  const verified = client.verify(["quote:AAPL"]);
  socket().drop();
  await expect(verified).rejects.toThrow("the session ended");
  await expect(client.verify(["quote:AAPL"])).rejects.toThrow("no session");
});

test("the hash is FNV-1a of 32 bits", () => {
  // Published test vectors.
  expect([fnv1a(""), fnv1a("foobar")]).toEqual([0x811c9dc5, 0xbf9cf968]);
});
