import { expect, test } from "vitest";
import { TickcastClient } from "../src/client.js";
import type { Update } from "../src/protocol.js";
import { followVisibility } from "../src/visibility.js";
import { AAPL } from "./frames.js";
import { liveWorld, welcome, world, type World } from "./fakes.js";

const trade = [42, 0, 1, 100];

/** Numbers of the trades that the next round of a loop gets. */
async function numbers(updates: AsyncIterator<Update>): Promise<number[] | "end"> {
  const { done, value } = await updates.next();
  if (done) return "end";
  return value.changes.flatMap((change) =>
    change.kind === "trades" ? change.trades.map(({ number }) => number) : [],
  );
}

test("a loop gets updates as they come, and merged where it is slow", async () => {
  const { client, socket } = liveWorld();
  const updates = client.updates();
  const first = numbers(updates);
  socket().deliver([1, 0, 3, 32, 1, ...trade]);
  expect(await first).toEqual([12]);
  for (let i = 0; i < 3; i++) socket().deliver([1, 0, 3, 32, 1, ...trade]);
  expect(await numbers(updates)).toEqual([13, 14, 15]);
});

test("a heartbeat is no round of a loop", async () => {
  const { client, socket } = liveWorld();
  const next = numbers(client.updates());
  socket().deliver([1, 0]);
  socket().deliver([1, 0, 3, 32, 1, ...trade]);
  expect(await next).toEqual([12]);
});

test("a loop may begin before the client connects, and ends when it is closed", async () => {
  const { client, socket } = world();
  const updates = client.updates();
  const first = numbers(updates);
  client.subscribe(["trades:AAPL"]);
  client.connect();
  socket().deliver(welcome());
  socket().accept();
  const frame = [1, 0, 3, 63, AAPL, 3, 33, 0, 1, ...trade];
  socket().deliver(frame);
  expect(await first).toEqual([0]);
  const last = numbers(updates);
  client.close();
  expect(await last).toBe("end");
  expect(await numbers(updates)).toBe("end");
});

test("a loop ends by its signal, and listens no more", async () => {
  const { client, socket } = liveWorld();
  const ending = new AbortController();
  const updates = client.updates({ signal: ending.signal });
  const next = numbers(updates);
  ending.abort();
  expect(await next).toBe("end");
  socket().deliver([1, 0, 3, 32, 1, ...trade]);
  expect(await numbers(updates)).toBe("end");
});

test("a loop that is left by break takes nothing more", async () => {
  const { client, socket } = liveWorld();
  const updates = client.updates();
  socket().deliver([1, 0, 3, 32, 1, ...trade]);
  for await (const _ of updates) break;
  expect(await numbers(updates)).toBe("end");
});

test("a loop throws where coming back would not help", async () => {
  const { client, socket } = liveWorld();
  const next = client.updates().next();
  socket().drop(1002);
  await expect(next).rejects.toThrow("closed with 1002");
});

test("a loop goes on over a lost connection, and what waits of another tape is dropped", async () => {
  const { client, clock, socket } = liveWorld();
  const updates = client.updates();
  socket().deliver([1, 0, 3, 32, 1, ...trade]);
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome(8, 5));
  socket().accept(undefined, 8);
  socket().deliver([1, 0, 3, 63, AAPL, 3, 33, 0, 1, ...trade]);
  expect(await numbers(updates)).toEqual([0]);
});

test("the cap of a running session is changed with a topic that it has", () => {
  const { client, socket, clock } = liveWorld();
  client.setMaxHz(5);
  client.setMaxHz(5);
  expect(socket().requests.splice(0)).toMatchObject([
    { op: "subscribe", topics: ["trades:AAPL"], max_hz: 5 },
  ]);
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome());
  expect(socket().requests).toMatchObject([{ op: "subscribe", max_hz: 5 }]);
  socket().accept(true);
  client.setMaxHz(null);
  expect(socket().requests).toMatchObject([{ op: "subscribe", max_hz: null }]);
});

test("a ping tells the server's time, and by when it was asked and answered", async () => {
  const { client, clock, socket } = liveWorld();
  const ping = client.ping();
  const { id } = socket().requests.at(-1)!;
  clock.advance(40);
  socket().deliver({ type: "pong", id, time: 1_795_372_544_000_000, position: 102 });
  expect(await ping).toMatchObject({
    time: 1_795_372_544_000_000,
    sent_at: 1_000,
    received_at: 1_040,
  });
});

test("a ping without an answer is refused, in a session that ends or where there is none", async () => {
  const { client, socket } = liveWorld();
  const ping = client.ping();
  socket().drop();
  await expect(ping).rejects.toThrow("the session ended");
  await expect(client.ping()).rejects.toThrow("no session");
});

test("stats are asked for again in the next session", () => {
  const { client, clock, socket } = liveWorld();
  client.requestStats(true);
  socket().drop();
  clock.advance(125);
  socket().deliver(welcome());
  expect(socket().requests).toContainEqual({
    op: "stats",
    enabled: true,
    id: expect.anything() as number,
  });
});

class FakePage {
  visibilityState = "visible";
  private readonly listeners = new Set<() => void>();
  addEventListener(_: string, listener: () => void): void {
    this.listeners.add(listener);
  }
  removeEventListener(_: string, listener: () => void): void {
    this.listeners.delete(listener);
  }
  become(state: "visible" | "hidden"): void {
    this.visibilityState = state;
    for (const listener of this.listeners) listener();
  }
}

function followed(maxHz: number | null): {
  client: World["client"];
  page: FakePage;
  stop: () => void;
} {
  const { client } = liveWorld();
  client.setMaxHz(maxHz);
  const page = new FakePage();
  return { client, page, stop: followVisibility(client, { page, hiddenHz: 2 }) };
}

test.each([60, null])(
  "a hidden page falls to a trickle, and has its cap of %s again when shown",
  (maxHz) => {
    const { client, page } = followed(maxHz);
    expect(client.maxHz).toBe(maxHz);
    page.become("hidden");
    page.become("hidden");
    expect(client.maxHz).toBe(2);
    page.become("visible");
    expect(client.maxHz).toBe(maxHz);
  },
);

test("a page that asks for less than the trickle keeps to that", () => {
  const { client, page } = followed(0.5);
  page.become("hidden");
  expect(client.maxHz).toBe(0.5);
});

test("who stops following a hidden page has the cap of a shown one", () => {
  const { client, page, stop } = followed(60);
  page.become("hidden");
  stop();
  expect(client.maxHz).toBe(60);
  page.become("visible");
  page.become("hidden");
  expect(client.maxHz).toBe(60);
});

test("where there is no WebSocket the client says what to do", () => {
  const { WebSocket } = globalThis;
  Reflect.deleteProperty(globalThis, "WebSocket");
  try {
    expect(() => new TickcastClient("ws://test/v1/ws", { fetch: null })).toThrow(
      /pass one.*package ws/,
    );
  } finally {
    globalThis.WebSocket = WebSocket;
  }
});
