import { decode, encode } from "@msgpack/msgpack";
import { expect, test } from "vitest";
import { TickcastClient } from "../src/client.js";
import { after, moved } from "../src/frame-head.js";
import type { Position } from "../src/protocol.js";
import type { TransportEvents } from "../src/transport.js";
import { Endpoint } from "../src/transports/endpoint.js";
import { OneWay, type FlowEvents, type FlowQuery } from "../src/transports/one-way.js";
import { FakeClock, welcome } from "./fakes.js";
import { AAPL, MOMENT } from "./frames.js";

/** A flow that was opened, with the server's end of it. */
interface FakeFlow {
  readonly query: FlowQuery;
  readonly events: FlowEvents;
  closed: boolean;
}

/** A client over flows that the test plays. */
function oneWay(answers: Record<string, [number, object]> = {}) {
  const clock = new FakeClock();
  const flows: FakeFlow[] = [];
  const asked: [string, unknown][] = [];
  const fetch = ((url: string, { body }: { body?: string }) => {
    const path = new URL(url).pathname;
    asked.push([path + new URL(url).search, body === undefined ? null : JSON.parse(body)]);
    const [status, answer] = answers[path] ?? [404, {}];
    return Promise.resolve(new Response(JSON.stringify(answer), { status }));
  }) as typeof globalThis.fetch;
  const open = (query: FlowQuery, events: FlowEvents) => {
    const flow: FakeFlow = { query, events, closed: false };
    flows.push(flow);
    return { close: () => void (flow.closed = true) };
  };
  const transport = {
    tells: true,
    open: (url: string, events: TransportEvents) =>
      new OneWay("sse", open, new Endpoint(url, fetch, clock), (then) => clock.soon(then), events),
  };
  const client = new TickcastClient("ws://test/market/v1/ws?room=one&key=secret", {
    transport,
    clock,
    random: () => 0.5,
    page: null,
  });
  const trades: number[] = [];
  const events: string[] = [];
  client.on("update", ({ changes }) => {
    for (const change of changes)
      if (change.kind === "trades") trades.push(...change.trades.map(({ number }) => number));
  });
  for (const type of ["gap", "resumed", "replaced", "error"] as const)
    client.on(type, (event) =>
      events.push(`${type} ${"message" in event ? event.message : ""}`.trim()),
    );
  const last = () => flows.at(-1)!;
  const turn = () => clock.advance(0);
  /** The server answers the newest flow. */
  const greet = (position = 100, resumed?: boolean, epoch = 7) => {
    const { query, events } = last();
    events.welcome(welcome(epoch, position) as never);
    const topics = [...query.topics, ...query.fresh].map((topic) => ({ topic }));
    const told = { position: position as Position, topics };
    events.answered(resumed === undefined ? told : { ...told, resumed });
    turn();
  };
  const update = (values: unknown[], position: number, time = MOMENT) => {
    last().events.update(encode(values), { position, time });
    turn();
  };
  return { client, clock, flows, last, greet, update, turn, trades, events, asked };
}

const trade = (number: number) => [33, number, 1, 42, 0, 1, 100];

/** A client that has trades 10 of AAPL, at position 101. */
function live() {
  const it = oneWay();
  it.client.subscribe(["trades:AAPL"]);
  it.client.connect();
  it.greet();
  it.greet();
  it.update([1, 0, 3, 63, AAPL, 3, ...trade(10)], 100);
  expect(it.trades).toEqual([10]);
  return it;
}

test("the first flow says where the tape is, and the next one brings what is asked for", () => {
  const { client, flows, greet, update } = oneWay();
  client.subscribe(["trades:AAPL", "quote:AAPL"], { maxHz: 5 });
  client.connect();
  expect(flows.map(({ query }) => query)).toMatchObject([{ topics: [], fresh: ["status"] }]);
  greet();
  expect(flows).toHaveLength(2);
  expect(flows[0]!.closed).toBe(true);
  expect(flows[1]!.query).toEqual({
    topics: [],
    since: null,
    fresh: ["trades:AAPL", "quote:AAPL"],
    maxHz: 5,
    times: false,
  });
  greet();
  update([0, 0], 100);
  expect(client.state.kind).toBe("live");
  expect(client.transport).toBe("sse");
});

test("topics that are added come whole, and the others go on where they were", () => {
  const { client, flows, last, greet, update, turn, trades, events } = live();
  client.subscribe(["quote:AAPL"]);
  client.subscribe(["day:AAPL"]);
  turn();
  turn();
  expect(flows.map(({ closed }) => closed)).toEqual([true, true, false]);
  const since = "7-101";
  expect(last().query).toMatchObject({
    topics: ["trades:AAPL"],
    since,
    fresh: ["quote:AAPL", "day:AAPL"],
  });
  // The tape has gone on meanwhile, and what this flow brings counts from there.
  greet(150, true);
  expect(client.image.position).toBe(101);
  update([2, 5, 3, ...trade(11)], 150, MOMENT + 1_000);
  expect([client.image.position, client.image.time]).toEqual([152, MOMENT + 1_005]);
  expect(trades).toEqual([10, 11]);
  expect(events).toEqual([]);
  client.subscribe(["bars.1m:AAPL"]);
  turn();
  turn();
  expect(last().query).toMatchObject({
    topics: ["trades:AAPL", "quote:AAPL", "day:AAPL"],
    since: "7-152",
    fresh: ["bars.1m:AAPL"],
  });
});

test("another rate opens another flow, and nothing comes whole again", () => {
  const { client, last, greet, update, turn, trades } = live();
  client.setMaxHz(2);
  turn();
  turn();
  const query = { topics: ["trades:AAPL"], since: "7-101", fresh: [], maxHz: 2 };
  expect(last().query).toMatchObject(query);
  greet(110, true);
  update([1, 0, 3, ...trade(11)], 110);
  expect(trades).toEqual([10, 11]);
});

test("what comes before the end of a flush is not taken for had", () => {
  const { client, last, greet, update, turn, trades } = live();
  client.subscribe(["trades:MSFT"]);
  turn();
  turn();
  greet(150, true);
  update([null, 0, 3, ...trade(11)], 150);
  client.subscribe(["quote:AAPL"]);
  turn();
  turn();
  expect(last().query).toMatchObject({
    topics: ["trades:AAPL"],
    since: "7-101",
    fresh: ["trades:MSFT", "quote:AAPL"],
  });
  greet(160, true);
  update([1, 0, 3, 33, 11, 2, 42, 0, 1, 100, 1, 0, 1, 100], 160);
  expect(trades).toEqual([10, 11, 12]);
});

test("what is given up is not asked for again, and nothing of it comes behind the answer", () => {
  const { client, flows, last, greet, turn, trades } = live();
  const before = last();
  client.unsubscribe(["trades:AAPL"]);
  turn();
  expect(before.closed).toBe(true);
  before.events.update(encode([1, 0, 3, ...trade(11)]), { position: 101, time: MOMENT });
  turn();
  turn();
  expect(trades).toEqual([10]);
  // Without topics it is still heard whether the server is there.
  expect(last().query).toMatchObject({ topics: [], fresh: ["status"] });
  greet(102);
  last().events.update(encode([9, 9, 3, ...trade(11)]), { position: 102, time: MOMENT });
  turn();
  expect([trades, client.image.position]).toEqual([[10], 101]);
  expect(flows).toHaveLength(3);
});

test("a flow that ends is followed by another connection, which goes on where it was", () => {
  const { client, clock, flows, last, greet, update, trades, events } = live();
  last().events.ended(1006, "the stream has ended");
  expect(client.state).toMatchObject({ kind: "reconnecting", reason: "the stream has ended" });
  clock.advance(1_000);
  greet(120);
  expect(last().query).toMatchObject({ topics: ["trades:AAPL"], since: "7-101", fresh: [] });
  greet(120, true);
  update([1, 0, 3, 33, 10, 2, 42, 0, 1, 100, 1, 0, 1, 100], 120);
  expect([trades, events.slice(1)]).toEqual([[10, 11], ["resumed"]]);
  expect(flows.filter(({ closed }) => !closed)).toHaveLength(1);
});

test("where a tape cannot go on, all comes anew", () => {
  const { client, clock, last, greet, update, trades, events } = live();
  // Unasked, as when the market was wound: the session has to hear of it in a connection of its own.
  client.subscribe(["quote:AAPL"]);
  clock.advance(0);
  greet(150, false);
  expect(client.state.kind).toBe("reconnecting");
  clock.advance(1_000);
  greet(150);
  expect(last().query).toMatchObject({
    topics: ["trades:AAPL"],
    since: "7-101",
    fresh: ["quote:AAPL"],
  });
  greet(150, false);
  expect(events).toContain("replaced");
  update([1, 0, 3, 63, AAPL, 3, ...trade(3)], 150);
  expect(trades).toEqual([10, 3]);
});

test("another tape ends the connection", () => {
  const { client, clock, greet, events } = live();
  client.subscribe(["quote:AAPL"]);
  clock.advance(0);
  greet(5, true, 8);
  expect(client.state).toMatchObject({
    kind: "reconnecting",
    reason: "the server's tape is another one",
  });
  clock.advance(1_000);
  greet(5, undefined, 8);
  expect(events).toContain("replaced");
});

test("each session has a flow of its own", () => {
  const { client, flows, greet, last, turn } = live();
  const other = client.openSession();
  const seen: number[] = [];
  other.on("update", ({ changes }) => {
    for (const change of changes) if (change.kind === "trades") seen.push(change.trades.length);
  });
  other.subscribe(["trades:*"]);
  turn();
  turn();
  expect(flows.filter(({ closed }) => !closed)).toHaveLength(2);
  expect(last().query).toMatchObject({ topics: [], fresh: ["trades:*"] });
  greet(130);
  last().events.update(encode([0, 0, 3, 63, AAPL, 3, ...trade(10)]), {
    position: 130,
    time: MOMENT,
  });
  turn();
  expect([seen, other.image.position, client.image.position]).toEqual([[1], 130, 101]);
  const flow = last();
  other.close();
  turn();
  expect(flow.closed).toBe(true);
});

test("a topic that is refused is told, and the others come", () => {
  const { client, last, events, turn, update, trades } = oneWay();
  client.subscribe(["trades:AAPL", "nothing:A"]);
  client.connect();
  last().events.welcome(welcome() as never);
  last().events.answered({ position: 100 as never, topics: [{ topic: "status" }] });
  turn();
  turn();
  const error = { code: "unknown_topic", message: "no such topic" };
  last().events.welcome(welcome() as never);
  last().events.answered({
    position: 100 as never,
    topics: [{ topic: "trades:AAPL" }, { topic: "nothing:A", error }],
  });
  turn();
  expect(events).toEqual(["error no such topic"]);
  update([1, 0, 3, 63, AAPL, 3, ...trade(10)], 100);
  expect(trades).toEqual([10]);
});

test("what is asked of the server goes by HTTP, or is refused", async () => {
  const state = { kind: "simulator", state: "paused", speed: 1, now: "2026-01-01T00:00:00Z" };
  const { client, clock, greet, asked } = oneWay({
    "/market/v1/feed": [200, { now_us: 123 }],
    "/market/v1/replay": [200, state],
  });
  client.connect();
  greet();
  const settled = async <T>(promise: Promise<T>) => {
    clock.advance(0);
    return promise;
  };
  expect(await settled(client.ping())).toMatchObject({ time: 123, position: 100 });
  expect(await settled(client.replay.pause())).toMatchObject(state);
  expect(await settled(client.replay.state())).toMatchObject(state);
  await expect(settled(client.verify(["quote:AAPL"]))).rejects.toThrow(/only a WebSocket/);
  expect(asked).toEqual([
    ["/market/v1/feed?room=one", null],
    ["/market/v1/replay?room=one&key=secret", { action: "pause" }],
    ["/market/v1/replay?room=one", null],
  ]);
});

test("a post goes by HTTP as well", async () => {
  const { client, clock, greet, asked } = oneWay({
    "/market/v1/publish": [200, { accepted: 1, rejected: [], position: 131 }],
  });
  client.connect();
  greet();
  const posted = [
    client.publish({ topic: "messages:desk", from: "Ann", data: "hello" }),
    client.publish({ topic: "states:desk", key: "Ann", data: null }),
  ];
  clock.advance(0);
  expect(await Promise.all(posted)).toMatchObject([{ position: 131 }, { position: 131 }]);
  expect(asked).toEqual([
    [
      "/market/v1/publish?room=one",
      { type: "message", channel: "desk", from: "Ann", data: "hello" },
    ],
    ["/market/v1/publish?room=one", { type: "state", channel: "desk", key: "Ann", data: null }],
  ]);
});

test("a control that is refused says why", async () => {
  const { client, clock, greet } = oneWay({
    "/market/v1/replay": [403, { detail: "not from here" }],
  });
  client.connect();
  greet();
  const paused = client.replay.pause();
  clock.advance(0);
  await expect(paused).rejects.toMatchObject({ code: "not_allowed", message: "not from here" });
});

test.each([
  [[1, 0, 3, 33], { position: 10, time: 50 }, { position: 10, time: 50 }, [1, 0, 3, 33]],
  [
    [300, -5, 3],
    { position: 1_000, time: 2 ** 45 },
    { position: 900, time: 2 ** 45 + 9 },
    [400, -14, 3],
  ],
  [[null, 70_000, "x"], { position: 9, time: 5 }, { position: 1, time: 0 }, [null, 70_005, "x"]],
  [[2, 0], { position: 1, time: 0 }, { position: 7, time: 0 }, [0, 0]],
] as const)("an update counts from where its session is: %j", (values, from, at, expected) => {
  expect(decode(moved(encode(values), from, at)!)).toEqual(expected);
});

test("what is no update is none", () => {
  for (const bytes of [[], [0x80], [0x92, 0xc1, 0], [0xdc, 0], [0x92, 0xcd, 1]]) {
    expect(after(Uint8Array.from(bytes), { position: 0, time: 0 })).toBe(null);
    expect(moved(Uint8Array.from(bytes), { position: 0, time: 0 }, { position: 1, time: 0 })).toBe(
      null,
    );
  }
});
