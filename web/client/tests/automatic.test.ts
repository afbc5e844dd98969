import { encode } from "@msgpack/msgpack";
import { expect, test } from "vitest";
import { TickcastClient, type ConnectionState } from "../src/client.js";
import type { TransportName } from "../src/transport.js";
import { AutomaticTransport, type Named } from "../src/transports/automatic.js";
import { FakeClock, welcome } from "./fakes.js";
import { AAPL } from "./frames.js";
import { ScriptedTransport, type Script } from "./scripted-transport.js";

const HANGS: Script = { kind: "hangs" };
const FAILS: Script = { kind: "fails", code: 1006, reason: "blocked" };

/** A client with three transports, each of which does what its scripts say, and then works. */
function automatic(scripts: Partial<Record<TransportName, Script[]>>, remembered?: TransportName) {
  const clock = new FakeClock();
  const made = new Map<TransportName, ScriptedTransport>();
  const transports = (["websocket", "sse", "poll"] as const).map((name): Named => {
    const scripted = new ScriptedTransport(clock, scripts[name] ?? []);
    made.set(name, scripted);
    return { name, tells: true, open: (url, events) => scripted.open(url, events) };
  });
  const memory = {
    name: remembered ?? null,
    get: () => memory.name,
    set: (name: TransportName) => void (memory.name = name),
  };
  const client = new TickcastClient("script://server", {
    transport: new AutomaticTransport(transports, memory, clock),
    clock,
    random: () => 0.5,
    page: null,
  });
  const states: ConnectionState["kind"][] = [];
  const trades: number[] = [];
  const told: string[] = [];
  client.on("state", ({ kind }) => states.push(kind));
  client.on("update", ({ changes }) => {
    for (const change of changes)
      if (change.kind === "trades") trades.push(...change.trades.map(({ number }) => number));
  });
  for (const type of ["resumed", "replaced", "gap", "error"] as const)
    client.on(type, () => told.push(type));
  const of = (name: TransportName) => made.get(name)!;
  const write = (name: TransportName, message: object) => {
    of(name).last.write(message);
    clock.advance(0);
  };
  /** Answers what was asked over it. */
  const grant = (name: TransportName, resumed?: boolean) => {
    for (const { op, id, topics } of of(name).last.sent.splice(0))
      if (op === "subscribe") {
        const answers = topics.map((topic) => ({ topic, instrument: 3 }));
        const answer = { type: "subscribed", id, epoch: 7, position: 100, topics: answers };
        write(name, resumed === undefined ? answer : { ...answer, resumed });
      }
  };
  return { client, clock, memory, of, write, grant, states, trades, told };
}

test("a transport that is blocked is passed over, and the session does not know", () => {
  const { client, clock, memory, of, write, grant, states, trades } = automatic({
    websocket: [HANGS],
    sse: [FAILS],
  });
  client.subscribe(["trades:AAPL"]);
  client.connect();
  clock.advance(600);
  expect(of("poll").connections).toHaveLength(1);
  expect(client.transport).toBe(null);
  write("poll", welcome());
  clock.advance(0);
  expect([client.transport, memory.name]).toEqual(["poll", "poll"]);
  expect(of("websocket").last.closed).toBe(true);
  grant("poll");
  write("poll", [1, 0, 3, 63, AAPL, 3, 33, 10, 1, 42, 0, 1, 100]);
  expect([trades, states]).toEqual([[10], ["connecting", "live"]]);
});

test("where all are blocked it is as with one: why, and again later", () => {
  const { client, clock, states } = automatic({
    websocket: [FAILS],
    sse: [FAILS],
    poll: [FAILS],
  });
  client.connect();
  clock.advance(0);
  expect(client.state).toMatchObject({ kind: "reconnecting", code: 1006, reason: "blocked" });
  clock.advance(1_000);
  expect(states).toEqual(["connecting", "reconnecting", "reconnecting"]);
});

test("a better one takes over where the session is, which loses nothing and is told nothing twice", () => {
  const { client, clock, memory, of, write, grant, states, trades, told } = automatic({}, "sse");
  client.subscribe(["trades:AAPL"]);
  client.connect();
  write("sse", welcome());
  grant("sse");
  write("sse", [1, 0, 3, 63, AAPL, 3, 33, 10, 1, 42, 0, 1, 100]);
  expect(of("websocket").connections).toHaveLength(0);
  // The session is not to find it silent meanwhile.
  for (let second = 0; second < 10; second += 2) {
    clock.advance(2_000);
    write("sse", [0, 0]);
  }
  expect(of("websocket").connections).toHaveLength(1);
  expect(client.transport).toBe("sse");
  write("websocket", welcome(7, 120));
  clock.advance(0);
  expect([client.transport, memory.name]).toEqual(["websocket", "websocket"]);
  expect(of("sse").last.closed).toBe(true);
  expect(of("websocket").connections).toHaveLength(1);
  expect(of("websocket").last.sent).toMatchObject([
    { op: "subscribe", topics: ["trades:AAPL"], since: { epoch: 7, position: 101 } },
  ]);
  grant("websocket", true);
  write("websocket", [1, 0, 3, 33, 10, 2, 42, 0, 1, 100, 1, 0, 1, 100]);
  expect(trades).toEqual([10, 11]);
  expect(told).toEqual(["resumed"]);
  expect(states).toEqual(["connecting", "live", "reconnecting", "live"]);
});

test("a client that is closed leaves nothing open, whatever was being tried", () => {
  const { client, clock, of } = automatic({ websocket: [HANGS], sse: [HANGS], poll: [HANGS] });
  client.connect();
  clock.advance(1_300);
  client.close();
  for (const name of ["websocket", "sse", "poll"] as const) expect(of(name).last.closed).toBe(true);

  const probing = automatic({ websocket: [HANGS] }, "poll");
  probing.client.connect();
  probing.write("poll", welcome());
  probing.clock.advance(5_000);
  probing.write("poll", [0, 0]);
  probing.clock.advance(5_000);
  probing.client.close();
  expect(probing.of("websocket").last.closed).toBe(true);
  expect(probing.of("poll").last.closed).toBe(true);
});

test("a better connection that no session comes over to is closed", () => {
  const { client, clock, of, write } = automatic({}, "sse");
  client.connect();
  write("sse", welcome());
  clock.advance(5_000);
  write("sse", [0, 0]);
  clock.advance(5_000);
  client.on("state", ({ kind }) => {
    if (kind === "reconnecting") client.close();
  });
  write("websocket", welcome());
  clock.advance(2_000);
  expect(client.state.kind).toBe("closed");
  expect(of("websocket").last.closed).toBe(true);
});

/** What a fake server does with requests: the answer to each path in turn. */
function serverOf(answer: (url: URL, signal: AbortSignal) => Response | Promise<Response>) {
  const asked: URL[] = [];
  const fetch = ((address: string, { signal }: { signal: AbortSignal }) => {
    const url = new URL(address);
    asked.push(url);
    return Promise.resolve(answer(url, signal));
  }) as typeof globalThis.fetch;
  return { asked, fetch };
}

const base64 = (message: object) => btoa(String.fromCharCode(...encode(message)));

test("a stream is read in whatever pieces it comes", async () => {
  const subscribed = (topic: string) => ({
    ...{ type: "subscribed", epoch: 7, position: 100 },
    topics: [{ topic }],
  });
  const { asked, fetch } = serverOf((url) => {
    const topic = url.searchParams.get("new")!;
    const update = topic === "status" ? [0, 0] : [1, 0, 3, 63, AAPL, 3, 33, 10, 1, 42, 0, 1, 100];
    const text = [welcome(), subscribed(topic), update].map(
      (m) => `id: 7-1\ndata: ${base64(m)}\n\n`,
    );
    const bytes = new TextEncoder().encode(text.join(":\r\n"));
    return new Response(
      new ReadableStream({
        start(controller) {
          for (let at = 0; at < bytes.length; at += 7) controller.enqueue(bytes.slice(at, at + 7));
        },
      }),
    );
  });
  const client = new TickcastClient("ws://test/desk/v1/ws?room=one", {
    transports: ["sse"],
    fetch,
  });
  client.subscribe(["trades:AAPL"], { maxHz: 5, times: true });
  client.connect();
  for await (const { changes } of client.updates())
    if (changes.some(({ kind }) => kind === "trades")) break;
  client.close();
  expect(asked.map(String)).toEqual([
    "http://test/desk/v1/sse?room=one&format=msgpack&new=status",
    "http://test/desk/v1/sse?room=one&format=msgpack&new=trades:AAPL&max_hz=5&times=true",
  ]);
});

test("polls go on where the last one ended, and wait once they have all", async () => {
  const answer = (update: unknown[], position: number, since: string, resumed?: boolean) => {
    const told = { epoch: 7, position, time: 1, since, update: encode(update) };
    return new Response(encode(resumed === undefined ? told : { ...told, resumed }).slice());
  };
  const { asked, fetch } = serverOf((url, signal) => {
    const { searchParams } = url;
    if (searchParams.get("new") === "status") return answer([0, 0], 100, "7-100");
    if (searchParams.get("new")?.includes("nothing"))
      return Response.json({ topic: "nothing:A", detail: "no such topic" }, { status: 400 });
    switch (searchParams.get("since")) {
      case null:
        return answer([null, 0, 3, 63, AAPL], 100, "7-0-100-4-1");
      case "7-0-100-4-1":
        return answer([0, 0, 3, 33, 10, 1, 42, 0, 1, 100], 100, "7-100", true);
      case "7-100":
        return answer([3, 0, 3, 33, 11, 1, 42, 0, 1, 100], 100, "7-103", true);
      default:
        return new Promise((_, reject) =>
          signal.addEventListener("abort", () => reject(new Error())),
        );
    }
  });
  const client = new TickcastClient("ws://test/v1/ws", { transports: ["poll"], fetch });
  const errors: string[] = [];
  client.on("error", ({ message }) => errors.push(message));
  client.subscribe(["trades:AAPL", "nothing:A"]);
  client.connect();
  const trades: number[] = [];
  for await (const { changes } of client.updates()) {
    for (const change of changes)
      if (change.kind === "trades") trades.push(...change.trades.map(({ number }) => number));
    if (trades.includes(11)) break;
  }
  expect(client.image.position).toBe(103);
  client.close();
  expect([trades, errors]).toEqual([[10, 11], ["no such topic"]]);
  expect(asked.map(({ search }) => search)).toEqual([
    "?format=msgpack&new=status",
    "?format=msgpack&new=trades:AAPL,nothing:A",
    "?format=msgpack&new=trades:AAPL",
    "?format=msgpack&new=trades:AAPL&since=7-0-100-4-1",
    "?format=msgpack&topics=trades:AAPL&since=7-100&wait=10",
  ]);
});

test.each(["sse", "poll"] as const)("why %s does not get through is told", async (name) => {
  const { fetch } = serverOf(() => Response.json({ detail: "not let in" }, { status: 403 }));
  const client = new TickcastClient("ws://test/v1/ws", { transports: [name], fetch, page: null });
  client.connect();
  const message = await new Promise((resolve) =>
    client.on("error", ({ message }) => resolve(message)),
  );
  client.close();
  expect(message).toMatch(/^HTTP 403.*: not let in$/);
});

test("a transport that there is not is named", () => {
  const transports = ["carrier pigeon"] as unknown as "sse"[];
  expect(() => new TickcastClient("ws://test/v1/ws", { transports })).toThrow(
    /websocket, sse, poll/,
  );
});
