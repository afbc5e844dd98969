import { expect, test, vi } from "vitest";
import type { Update } from "../src/protocol.js";
import { AAPL } from "./frames.js";
import { liveWorld, welcome, type World } from "./fakes.js";

const trade = [42, 0, 1, 100];
const oneTrade = [1, 0, 3, 32, 1, ...trade];
const bid = (offset: number) => [1, 0, 3, 1, offset];

/** Numbers of the trades in an update. */
function numbers({ changes }: Update): number[] {
  return changes.flatMap((change) =>
    change.kind === "trades" ? change.trades.map(({ number }) => number) : [],
  );
}

/** A handler that is busy until it is released, and what it was given. */
function slowHandler() {
  const given: Update[] = [];
  let release: (error?: Error) => void = () => {};
  return {
    given,
    handler: (update: Update) => {
      given.push(update);
      return new Promise<void>((resolve, reject) => {
        release = (error) => (error ? reject(error) : resolve());
      });
    },
    /** Lets it finish, and what follows from that happen. */
    async finish({ clock }: World, error?: Error) {
      release(error);
      await new Promise((resolve) => setImmediate(resolve));
      clock.turn();
    },
  };
}

test("a handler gets updates one by one as they come, and together where they came together", () => {
  const { client, socket } = liveWorld();
  const given: number[][] = [];
  client.on("update", (update) => given.push(numbers(update)));
  socket().deliver(oneTrade);
  socket().deliver(oneTrade);
  socket().deliverTogether(oneTrade, oneTrade, oneTrade);
  expect(given).toEqual([[12], [13]]);
  socket().deliver(oneTrade);
  expect(given).toEqual([[12], [13], [14, 15, 16, 17]]);
});

test("what a handler is told, the image has, and nothing newer that is not told", () => {
  const { client, socket } = liveWorld();
  const seen: unknown[] = [];
  client.on("update", ({ changes, position }) => {
    for (const change of changes)
      if (change.kind === "quote")
        seen.push(change.changed.bid, client.image.quote(change.instrument.number)?.bid, position);
  });
  socket().deliverTogether(bid(41), bid(42), bid(43));
  socket().deliver(bid(44));
  expect(seen).toEqual([18_944, 18_944, 105]);
});

test("a handler that returns a promise gets what came meanwhile as one update, and every trade", async () => {
  const it = liveWorld();
  const slow = slowHandler();
  it.client.on("update", slow.handler);
  it.socket().deliver(oneTrade);
  for (let i = 0; i < 500; i++) {
    it.socket().deliver(bid(i));
    it.socket().deliver(oneTrade);
  }
  expect(slow.given).toHaveLength(1);
  await slow.finish(it);
  expect(slow.given).toHaveLength(2);
  const [first, rest] = slow.given;
  expect(numbers(first!)).toEqual([12]);
  expect(numbers(rest!)).toEqual(Array.from({ length: 500 }, (_, i) => 13 + i));
  expect(rest!.changes.filter(({ kind }) => kind === "quote")).toMatchObject([
    { changed: { bid: 18_900 + 499 } },
  ]);
  expect(it.said("gap")).toEqual([]);
  await slow.finish(it);
  expect(slow.given).toHaveLength(2);
});

test("a slow handler holds up no other one", () => {
  const { client, socket } = liveWorld();
  const slow = slowHandler();
  const quick: number[][] = [];
  client.on("update", slow.handler);
  client.on("update", (update) => quick.push(numbers(update)));
  for (let i = 0; i < 3; i++) socket().deliver(oneTrade);
  expect(slow.given).toHaveLength(1);
  expect(quick).toEqual([[12], [13], [14]]);
});

test("an error of a handler is seen, and the handler goes on", async () => {
  const it = liveWorld();
  const surfaced: (() => void)[] = [];
  const spy = vi.spyOn(globalThis, "queueMicrotask").mockImplementation((task) => {
    surfaced.push(task);
  });
  try {
    const slow = slowHandler();
    it.client.on("update", slow.handler);
    it.client.on("update", () => {
      throw new Error("at once");
    });
    it.socket().deliver(oneTrade);
    await slow.finish(it, new Error("later"));
    it.socket().deliver(oneTrade);
    expect(slow.given.map(numbers)).toEqual([[12], [13]]);
    expect(surfaced.map((task) => expect(task).toThrow())).toHaveLength(3);
    expect(surfaced[1]).toThrow("later");
  } finally {
    spy.mockRestore();
  }
});

test("trades that a handler is too slow for are a gap of the exact count", async () => {
  const it = liveWorld();
  const slow = slowHandler();
  it.client.on("update", slow.handler);
  for (let i = 0; i < 10_000; i++) it.socket().deliver(oneTrade);
  await slow.finish(it);
  const told = slow.given.flatMap(numbers);
  const gaps = it.said("gap") as [string, { topic: string; missed: number }][];
  const missed = gaps.reduce((sum, [, gap]) => sum + gap.missed, 0);
  expect(missed).toBeGreaterThan(7_000);
  expect(new Set(gaps.map(([, { topic }]) => topic))).toEqual(new Set(["trades:AAPL"]));
  expect(told.length + missed).toBe(10_000);
  expect(told.slice(1)).toEqual(Array.from({ length: told.length - 1 }, (_, i) => told[1]! + i));
  expect(told.at(-1)).toBe(12 + 9_999);
  expect(it.client.counters.missed).toBe(missed);
});

test("what came before a session ends, goes on or is replaced is told before that is", () => {
  const { clock, socket, said } = liveWorld();
  const kinds = () => said("update", "state", "resumed", "replaced").map(([type]) => type);
  socket().deliverTogether(oneTrade);
  socket().drop();
  expect(kinds()).toEqual(["update", "state"]);
  clock.advance(125);
  socket().deliver(welcome(7, 150));
  said();
  socket().deliverTogether(oneTrade);
  socket().accept(true);
  expect(kinds()).toEqual(["update", "resumed"]);
  socket().deliverTogether(oneTrade);
  socket().deliver([1, 0, null, 59, 3, 63, AAPL, 3, 33, 4, 1, ...trade]);
  expect(kinds()).toEqual(["state", "update", "replaced", "update"]);
});

test("what a busy handler has not been given of another tape is void, and its trades a gap", async () => {
  const it = liveWorld();
  const slow = slowHandler();
  it.client.on("update", slow.handler);
  for (let i = 0; i < 4; i++) it.socket().deliver(oneTrade);
  it.socket().deliver([1, 0, null, 59, 3, 63, AAPL, 3, 33, 70, 1, ...trade]);
  expect(it.said("gap", "replaced")).toEqual([
    ["gap", { topic: "trades:AAPL", missed: 3 }],
    ["replaced", { epoch: 7 }],
  ]);
  await slow.finish(it);
  expect(slow.given.map(numbers)).toEqual([[12], [70]]);
});

test("nothing is told after close, not even what waited", async () => {
  const it = liveWorld();
  const slow = slowHandler();
  it.client.on("update", slow.handler);
  it.socket().deliver(oneTrade);
  it.socket().deliverTogether(oneTrade);
  it.client.close();
  await slow.finish(it);
  expect(slow.given).toHaveLength(1);
});

test("a handler may close the client, whatever it is called for", () => {
  for (const last of ["drop", "goodbye", "welcome", "reset"]) {
    const it = liveWorld();
    const { client, clock, socket, sockets } = it;
    if (last === "welcome") {
      socket().drop();
      clock.advance(125);
    }
    client.on("update", () => client.close());
    if (last === "welcome") client.on("replaced", () => client.close());
    else socket().deliverTogether(oneTrade);
    const goodbye = { code: 1001, reason: "", retry_after_ms: 0, jitter_ms: 0 };
    if (last === "drop") socket().drop();
    if (last === "goodbye") socket().deliver({ type: "goodbye", ...goodbye });
    if (last === "welcome") socket().deliver(welcome(8));
    if (last === "reset") socket().deliver([1, 0, null, 59]);
    expect(client.state).toMatchObject({ kind: "closed", code: 1000 });
    const before = sockets.length;
    clock.advance(60_000);
    expect(sockets).toHaveLength(before);
  }
});

test("a handler that takes long makes the state lagging by what it is shown late", () => {
  const { client, clock, socket, said } = liveWorld();
  const stop = client.on("update", () => clock.stall(1_400));
  socket().deliver(bid(41));
  expect(said("state")).toEqual([["state", { kind: "lagging", by_ms: 1_400 }]]);
  // What is read now may have come while the handler ran.
  socket().deliverTogether(bid(42));
  stop();
  clock.advance(3_000);
  socket().deliver(bid(43));
  expect(client.state).toEqual({ kind: "live" });
});

test("frames that came while a handler ran are as old as that run", () => {
  const { client, clock, socket, said } = liveWorld();
  let runs = 0;
  client.on("update", () => {
    // Read when it is over, before anything else.
    if (runs++ === 0) clock.soon(() => socket().deliverTogether(bid(42)));
    clock.stall(700);
  });
  socket().deliver(bid(41));
  expect(runs).toBe(2);
  expect(said("state")).toEqual([["state", { kind: "lagging", by_ms: 1_400 }]]);
});

test("a promise that does not resolve is told as lagging while it lasts, once a second", async () => {
  const it = liveWorld();
  const slow = slowHandler();
  it.client.on("update", slow.handler);
  it.socket().deliver(bid(41));
  for (let second = 0; second < 4; second++) {
    it.clock.advance(1_000);
    it.socket().deliver(bid(42));
  }
  const lags = it.said("state").map(([, state]) => (state as { by_ms: number }).by_ms);
  expect(lags).toEqual([2_000, 3_000, 4_000]);
  await slow.finish(it);
  await slow.finish(it);
  it.clock.advance(2_000);
  it.socket().deliver([1, 0]);
  await slow.finish(it);
  expect(it.client.state).toEqual({ kind: "live" });
});

test("a loop that is slow is told as lagging when it comes back", async () => {
  const { client, clock, socket, said } = liveWorld();
  const updates = client.updates();
  const first = updates.next();
  socket().deliver(bid(41));
  await first;
  said();
  clock.advance(1_500);
  const second = updates.next();
  await Promise.resolve();
  clock.turn();
  expect(said("state")).toEqual([["state", { kind: "lagging", by_ms: 1_500 }]]);
  clock.advance(2_000);
  expect(said("state")).toEqual([["state", { kind: "live" }]]);
  client.close();
  await second;
});

test("what the server says of the session's lag is the state, until it says that it is over", () => {
  const { client, clock, socket, said } = liveWorld();
  const lag = (lag_ms: number) => socket().deliver({ type: "lag", lag_ms });
  lag(2_500);
  lag(2_600); // within the same second
  clock.advance(1_000);
  lag(4_000);
  lag(300);
  expect(said("state")).toEqual([
    ["state", { kind: "lagging", by_ms: 2_500 }],
    ["state", { kind: "lagging", by_ms: 2_600 }],
    ["state", { kind: "live" }],
  ]);
  lag(5_000);
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome());
  socket().accept(true);
  socket().deliver([1, 0]);
  expect(client.state).toEqual({ kind: "live" });
});

test("silence is worse than lag", () => {
  const { client, clock, socket } = liveWorld();
  socket().deliver({ type: "lag", lag_ms: 2_500 });
  clock.advance(10_000);
  expect(client.state.kind).toBe("stale");
  socket().deliver([1, 0]);
  expect(client.state.kind).not.toBe("stale");
});
