import { expect, test } from "vitest";
import { HEARTBEAT_MS, liveWorld, welcome, world, type World } from "./fakes.js";

type Listener = (event: { persisted?: boolean }) => void;

class FakePage {
  readonly listeners: [string, Listener][] = [];

  addEventListener(type: string, listener: Listener): void {
    this.listeners.push([type, listener]);
  }

  removeEventListener(type: string, listener: Listener): void {
    const at = this.listeners.findIndex(([other, same]) => other === type && same === listener);
    this.listeners.splice(at, 1);
  }

  fire(type: string, event: { persisted?: boolean } = {}): void {
    for (const [other, listener] of [...this.listeners]) if (other === type) listener(event);
  }
}

function livePage(): World & { page: FakePage } {
  const page = new FakePage();
  return { ...liveWorld({ page }), page };
}

/** The newest session goes on where the one before was. */
function checkResumed({ socket }: World): void {
  socket().deliver(welcome(7, 150));
  expect(socket().requests).toMatchObject([
    { topics: ["trades:AAPL"], since: { epoch: 7, position: 101 } },
  ]);
  socket().accept(true);
}

test.each([
  ["the browser's cache of pages", "pagehide", "pageshow"],
  ["being frozen", "freeze", "resume"],
])(
  "a page gives its connection up for %s, and resumes at once when it is back",
  (_, away, back) => {
    const it = livePage();
    const { client, clock, sockets, page } = it;
    page.fire(away, { persisted: true });
    expect(sockets[0]!.closed).toBe(true);
    expect(client.state).toMatchObject({ kind: "reconnecting", retry_at: null });
    clock.advance(3_600_000);
    expect(sockets).toHaveLength(1);
    page.fire(back, { persisted: true });
    expect(sockets).toHaveLength(2);
    checkResumed(it);
  },
);

test("freezing within the cache is one going and one coming", () => {
  const it = livePage();
  for (const type of ["pagehide", "visibilitychange", "freeze"])
    it.page.fire(type, { persisted: true });
  for (const type of ["resume", "pageshow", "visibilitychange"])
    it.page.fire(type, { persisted: true });
  expect(it.sockets).toHaveLength(2);
  checkResumed(it);
});

test("a page that goes for good, or comes for the first time, is no matter of the client's", () => {
  const { client, sockets, page } = livePage();
  page.fire("pagehide", { persisted: false });
  page.fire("pageshow", { persisted: false });
  expect(client.state.kind).toBe("live");
  expect(sockets).toHaveLength(1);
});

test("a closed client follows no page, and comes back for none", () => {
  const { client, sockets, page } = livePage();
  page.fire("pagehide", { persisted: true });
  client.close();
  page.fire("pageshow", { persisted: true });
  expect(page.listeners).toEqual([]);
  expect(client.state.kind).toBe("closed");
  expect(sockets).toHaveLength(1);
  client.connect();
  expect(sockets).toHaveLength(2);
  expect(page.listeners.length).toBeGreaterThan(0);
});

test("the network that is back ends a wait", () => {
  const { clock, socket, sockets, page } = livePage();
  for (let attempt = 0; attempt < 6; attempt++) {
    socket().drop();
    if (attempt < 5) clock.advance(30_000);
  }
  const before = sockets.length;
  page.fire("online");
  expect(sockets).toHaveLength(before + 1);
});

test.each([4429, 1013])(
  "a wait that the server asked for by %d is not ended by the network",
  (code) => {
    const { client, socket, sockets, page } = livePage();
    socket().drop(code);
    page.fire("online");
    page.fire("visibilitychange");
    expect(sockets).toHaveLength(1);
    client.reconnectNow();
    expect(sockets).toHaveLength(2);
  },
);

test.each(["online", "offline", "visibilitychange"])(
  "after %s a connection has to show that it is one",
  (type) => {
    const it = livePage();
    const { client, clock, socket, sockets, page } = it;
    clock.advance(2_000);
    page.fire(type);
    page.fire(type);
    expect(socket().requests.splice(0)).toMatchObject([{ op: "ping" }]);
    socket().deliver([0, 0]);
    clock.advance(3_000);
    expect(sockets).toHaveLength(1);
    page.fire(type);
    clock.advance(3_000);
    expect(sockets).toHaveLength(2);
    expect(client.state).toMatchObject({ kind: "reconnecting", attempt: 1, retry_at: null });
    checkResumed(it);
  },
);

test("a machine that slept so long that the server has ended the session resumes at once", () => {
  const it = liveWorld();
  it.clock.sleep(8 * 3_600_000);
  it.clock.advance(1_000);
  expect(it.sockets).toHaveLength(2);
  checkResumed(it);
});

test("a machine that slept for a while finds out whether the connection lives", () => {
  const { clock, socket, sockets, client } = liveWorld();
  clock.sleep(40_000);
  clock.advance(1_000);
  expect(socket().requests.splice(0)).toMatchObject([{ op: "ping" }]);
  expect(client.state.kind).toBe("live");
  clock.advance(2_999);
  expect(sockets).toHaveLength(1);
  clock.advance(1);
  expect(sockets).toHaveLength(2);
});

test("what lay in the socket when the machine fell asleep does not hide that it slept", () => {
  const { clock, socket, sockets } = liveWorld();
  clock.sleep(600_000);
  socket().deliver([1, 0]);
  expect(socket().requests.splice(0)).toMatchObject([{ op: "ping" }]);
  clock.advance(3_000);
  expect(sockets).toHaveLength(2);
});

test("a handler that takes longer than the server may be silent costs no connection", () => {
  const { client, clock, socket, sockets } = liveWorld();
  client.on("update", () => clock.stall(4 * HEARTBEAT_MS));
  for (let i = 0; i < 5; i++) {
    socket().deliver([1, 0, 3, 32, 1, 42, 0, 1, 100]);
    clock.advance(0);
    socket().deliver({ type: "pong", id: 99, time: 0, position: 1 });
  }
  expect(sockets).toHaveLength(1);
  expect(client.state.kind).toBe("lagging");
});

test("where there is no page the client follows none", () => {
  const it = world();
  it.client.connect();
  it.socket().deliver(welcome());
  expect(it.client.state.kind).toBe("live");
});
