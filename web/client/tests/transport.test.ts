import { expect, test } from "vitest";
import { TickcastClient, type ConnectionState } from "../src/client.js";
import { FakeClock, HEARTBEAT_MS, welcome } from "./fakes.js";
import { AAPL } from "./frames.js";
import { ScriptedTransport, type Script } from "./scripted-transport.js";

/** A client that reaches its server by nothing but a script. */
function scripted(...scripts: Script[]) {
  const clock = new FakeClock();
  const transport = new ScriptedTransport(clock, scripts);
  const client = new TickcastClient("script://server", {
    transport,
    clock,
    random: () => 0.5,
    page: null,
  });
  const states: ConnectionState[] = [];
  const trades: number[] = [];
  client.on("state", (state) => states.push(state));
  client.on("update", ({ changes }) => {
    for (const change of changes)
      if (change.kind === "trades") trades.push(...change.trades.map(({ number }) => number));
  });
  const greet = (position = 100) => {
    transport.last.write(welcome(7, position));
    clock.advance(0);
  };
  const grant = (resumed?: boolean) => {
    clock.advance(0);
    for (const { op, id, topics } of transport.last.sent.splice(0))
      if (op === "subscribe")
        transport.last.write({
          type: "subscribed",
          id,
          epoch: 7,
          position: 100,
          ...(resumed === undefined ? {} : { resumed }),
          topics: topics.map((topic) => ({ topic, instrument: 3 })),
        });
    clock.advance(0);
  };
  return { client, clock, transport, states, trades, greet, grant };
}

const TRADES = ["trades:AAPL"];
const FIRST_TRADES = [1, 0, 3, 63, AAPL, 3, 33, 10, 2, 42, 0, 1, 100, 1, 0, 1, 100];

test("a whole session runs over a transport that is no socket", () => {
  const { client, clock, transport, states, trades, greet, grant } = scripted();
  client.subscribe(TRADES);
  client.connect();
  greet();
  grant();
  transport.last.write(FIRST_TRADES);
  clock.advance(0);
  expect(trades).toEqual([10, 11]);
  expect(states.map(({ kind }) => kind)).toEqual(["connecting", "live"]);
  client.close();
  expect(transport.last.closed).toBe(true);
  expect(client.state).toMatchObject({ kind: "closed", code: 1000 });
});

test("a session that is lost is resumed over the next connection, where it was", () => {
  const { client, clock, transport, trades, greet, grant } = scripted();
  client.subscribe(TRADES);
  client.connect();
  greet();
  grant();
  transport.last.write(FIRST_TRADES);
  clock.advance(0);
  transport.last.drop(1012);
  clock.advance(1_000);
  expect(transport.connections).toHaveLength(2);
  greet(101);
  clock.advance(0);
  expect(transport.last.sent).toMatchObject([{ topics: TRADES, since: { position: 101 } }]);
  grant(true);
  // One of them is repeated, and is no news.
  transport.last.write([1, 0, 3, 33, 11, 2, 42, 0, 1, 100, 1, 0, 1, 100]);
  clock.advance(0);
  expect(trades).toEqual([10, 11, 12]);
});

test("attempts that fail are told, and made again later each time", () => {
  const fails: Script = { kind: "fails", code: 1006, reason: "no route" };
  const { client, clock, transport, states, greet } = scripted(fails, fails, fails);
  client.connect();
  clock.advance(60_000);
  expect(transport.connections.length).toBeGreaterThanOrEqual(4);
  const waits = states.flatMap((state) =>
    state.kind === "reconnecting" && state.retry_at !== null ? [state] : [],
  );
  expect(waits.slice(0, 3).map(({ attempt, reason }) => [attempt, reason])).toEqual([
    [1, "no route"],
    [2, "no route"],
    [3, "no route"],
  ]);
  greet();
  expect(client.state.kind).toBe("live");
});

test.each([
  ["hangs", "no answer to the handshake"],
  ["half-opens", "the server did not say welcome"],
] as const)("a connection that %s is given up after ten seconds", (kind, reason) => {
  const { client, clock, transport } = scripted({ kind });
  client.connect();
  clock.advance(9_999);
  expect(client.state.kind).toBe("connecting");
  clock.advance(1);
  expect(client.state).toMatchObject({ kind: "reconnecting", code: 1006, reason });
  expect(transport.connections[0]!.closed).toBe(true);
});

test("a connection that falls silent is stale, and then given up", () => {
  const { client, clock, transport, greet } = scripted();
  client.connect();
  greet();
  clock.advance(2 * HEARTBEAT_MS);
  expect(client.state.kind).toBe("stale");
  clock.advance(HEARTBEAT_MS);
  expect(client.state).toMatchObject({ kind: "reconnecting", reason: "the server fell silent" });
  expect(transport.connections[0]!.closed).toBe(true);
});

test("messages that come late count from when they are read", () => {
  const { client, clock, transport } = scripted({ kind: "delays", ms: 4_000 });
  client.connect();
  transport.last.write(welcome());
  clock.advance(3_999);
  expect(client.state.kind).toBe("connecting");
  clock.advance(1);
  expect(client.state.kind).toBe("live");
});

test("a text where bytes were promised ends the connection, not the client", () => {
  const { client, clock, transport, greet } = scripted();
  client.connect();
  greet();
  transport.last.writeText("{}");
  clock.advance(0);
  expect(client.state.kind).toBe("reconnecting");
  clock.advance(1_000);
  expect(transport.connections.length).toBe(2);
});

test("questions of a connection that ends are refused, and none is left open", async () => {
  const { client, clock, transport, greet } = scripted();
  client.connect();
  greet();
  const asked = [client.ping(), client.verify(TRADES), client.replay.state()];
  clock.advance(0);
  transport.last.drop(1006);
  clock.advance(0);
  const results = await Promise.allSettled([...asked, client.ping()]);
  expect(results.map(({ status }) => status)).toEqual(Array(4).fill("rejected"));
});

test("a handler that closes the client in the midst of anything is the last that hears of it", () => {
  for (const kind of ["connecting", "live", "reconnecting"] as const) {
    const { client, clock, transport, states, greet } = scripted();
    client.on("state", (state) => {
      if (state.kind === kind) client.close();
    });
    client.connect();
    if (kind !== "connecting") greet();
    if (kind === "reconnecting") transport.last.drop(1006);
    clock.advance(60_000);
    expect(states.at(-1)).toMatchObject({ kind: "closed", code: 1000 });
    expect(transport.connections).toHaveLength(1);
  }
});
