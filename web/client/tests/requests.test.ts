import { expect, test } from "vitest";
import { liveWorld, welcome, world, type World } from "./fakes.js";

const row = (i: number) => [`quote:S${i}`];

/** A client that is live, and has sent nothing yet. */
function idleWorld(requests_per_second = 50): World {
  const it = world();
  it.client.connect();
  const { limits, ...rest } = welcome();
  it.socket().deliver({ ...rest, limits: { ...limits, requests_per_second } });
  return it;
}

/** Plays the server: how many requests it lets through, and what a session is subscribed to by them. */
class Gate {
  readonly subscribed = new Set<string>();
  count = 0;
  least = Infinity;
  private tokens: number;
  private at = 0;

  constructor(
    private readonly it: World,
    private readonly perSecond: number,
  ) {
    this.tokens = 2 * perSecond;
    this.at = it.clock.now();
  }

  take(): void {
    this.it.socket().deliver([0, 0]); // a heartbeat
    const now = this.it.clock.now();
    const earned = ((now - this.at) / 1000) * this.perSecond;
    this.tokens = Math.min(2 * this.perSecond, this.tokens + earned);
    this.at = now;
    for (const { op, topics } of this.it.socket().requests.splice(0)) {
      this.count++;
      this.tokens--;
      this.least = Math.min(this.least, this.tokens);
      if (op === "subscribe") for (const topic of topics) this.subscribed.add(topic);
      if (op === "unsubscribe") for (const topic of topics) this.subscribed.delete(topic);
    }
  }
}

test("three hundred rows that each subscribe for themselves are two requests", () => {
  const { client, socket } = idleWorld();
  for (let i = 0; i < 300; i++) client.subscribe(row(i));
  expect(socket().requests.map(({ op, topics }) => [op, topics.length])).toEqual([
    ["subscribe", 256],
    ["subscribe", 44],
  ]);
});

test("what is undone before it was sent is not sent", () => {
  const { client, socket } = idleWorld();
  client.subscribe(row(1));
  client.subscribe(row(2));
  client.unsubscribe(row(1));
  client.unsubscribe(row(3));
  expect(socket().requests).toMatchObject([{ op: "subscribe", topics: row(2) }]);
});

test("what is dropped and taken again is asked for anew, once", () => {
  const { client, socket } = liveWorld();
  for (let i = 0; i < 3; i++) {
    client.unsubscribe(["trades:AAPL"]);
    client.subscribe(["trades:AAPL"]);
  }
  expect(socket().requests).toMatchObject([
    { op: "unsubscribe", topics: ["trades:AAPL"] },
    { op: "subscribe", topics: ["trades:AAPL"] },
  ]);
});

test("requests keep their order where one depends on another", () => {
  const { client, socket } = idleWorld();
  client.subscribe(row(1));
  void client.verify(row(1)).catch(() => {});
  client.unsubscribe(row(1));
  expect(socket().requests.map(({ op }) => op)).toEqual(["subscribe", "checksum", "unsubscribe"]);
});

test.each([50, 10, 1])(
  "a scroll of 60 rows a second stays below %d requests a second, and ends with what is wanted",
  (perSecond) => {
    const it = idleWorld(perSecond);
    const gate = new Gate(it, perSecond);
    const { client, clock } = it;
    for (let i = 0; i < 30; i++) client.subscribe(row(i));
    for (let i = 0; i < 60 * 20; i++) {
      client.subscribe(row(i + 30));
      client.unsubscribe(row(i));
      clock.advance(1000 / 60);
      gate.take();
    }
    expect(gate.least).toBeGreaterThanOrEqual(0);
    expect(gate.count).toBeLessThanOrEqual(20 * perSecond);
    clock.advance(5_000);
    gate.take();
    clock.advance(5_000);
    gate.take();
    const shown = Array.from({ length: 30 }, (_, i) => `quote:S${i + 1_200}`);
    expect([...gate.subscribed].sort()).toEqual(shown.sort());
  },
);

test("everything else that is asked for keeps to the pace as well", () => {
  const it = idleWorld(5);
  const gate = new Gate(it, 5);
  for (let i = 0; i < 100; i++) void it.client.ping().catch(() => {});
  for (let second = 0; second < 60; second++) {
    gate.take();
    it.clock.advance(1_000);
  }
  expect(gate.least).toBeGreaterThanOrEqual(0);
  expect(gate.count).toBe(100);
});

test("a ping is timed from when it goes out", async () => {
  const { client, clock, socket } = idleWorld(1);
  client.subscribe(row(1));
  expect(socket().requests.splice(0)).toHaveLength(1);
  const ping = client.ping();
  expect(socket().requests).toEqual([]);
  clock.advance(2_000);
  const { id } = socket().requests[0]!;
  socket().deliver({ type: "pong", id, time: 0, position: 1 });
  expect(await ping).toMatchObject({ sent_at: 2_250, received_at: 3_000 });
});

test("what waited for its turn when a session ended goes out with the next one", () => {
  const { client, clock, socket } = idleWorld(1);
  client.subscribe(row(1));
  expect(socket().requests.splice(0)).toHaveLength(1);
  client.subscribe(row(2));
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome());
  expect(socket().requests).toMatchObject([{ op: "subscribe", topics: [...row(1), ...row(2)] }]);
});

test("a topic that was refused, and is asked for once more in the same moment, is wanted still", () => {
  const { client, clock, socket } = idleWorld();
  client.subscribe(row(1));
  const id = socket().requests.splice(0)[0]!.id;
  client.unsubscribe(row(1));
  client.subscribe(row(1));
  const error = { code: "unknown_topic", message: "none yet" };
  const topics = [{ topic: row(1)[0], error }];
  socket().deliverTogether({ type: "subscribed", id, epoch: 7, position: 100, topics });
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome());
  expect(socket().requests).toMatchObject([{ op: "subscribe", topics: row(1) }]);
});

test("what is resumed is not covered by what comes before it was asked for", () => {
  const it = liveWorld();
  const { client, clock, socket } = it;
  const topics = Array.from({ length: 600 }, (_, i) => `quote:S${i}`);
  client.subscribe(topics);
  socket().accept();
  socket().deliver([1, 0]);
  socket().drop();
  clock.advance(125);
  const { limits, ...rest } = welcome(7, 150);
  socket().deliver({ ...rest, limits: { ...limits, requests_per_second: 1 } });
  const [first] = socket().requests.splice(0);
  socket().requests.push(first!);
  socket().accept(true);
  socket().deliver([50, 0]);
  socket().drop();
  clock.advance(250);
  socket().deliver(welcome(7, 300));
  expect(socket().requests[0]).toMatchObject({ since: { position: 102 } });
});

test("a cap goes out also where the topic that was to take it along is given up", () => {
  const { client, socket } = liveWorld();
  client.subscribe(row(1));
  socket().requests.length = 0;
  client.setMaxHz(5);
  client.unsubscribe(["trades:AAPL"]);
  expect(socket().requests.splice(0)).toMatchObject([
    { op: "unsubscribe", topics: ["trades:AAPL"] },
    { op: "subscribe", topics: row(1), max_hz: 5 },
  ]);
  client.subscribe(row(2), { maxHz: 10 });
  client.unsubscribe(row(2));
  expect(socket().requests).toMatchObject([{ op: "subscribe", topics: row(1), max_hz: 10 }]);
});
