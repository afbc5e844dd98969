import { expect, test } from "vitest";
import type { FurtherSession } from "../src/client.js";
import type { SessionEvents } from "../src/api.js";
import { AAPL } from "./frames.js";
import { welcome, world, type World } from "./fakes.js";

const MSFT = { ...AAPL, symbol: "MSFT", anchor: 40_000 };
const MALFORMED = [1, 0, 3, 999];

/** A client whose first session has quotes, and one more that has days once a second; both have had their snapshots. */
function twoSessions() {
  const it = world();
  it.client.subscribe(["quote:AAPL"]);
  const days = it.client.openSession({ maxHz: 1 });
  days.subscribe(["day:*"]);
  const said = heardOf(days);
  it.client.connect();
  it.socket().deliver(welcome());
  const asked = [...it.socket().requests];
  it.socket().accept();
  it.socket().deliver([1, 0, 3, 63, AAPL, 3, 1, 41]);
  it.socket().deliver([5, 0, 3, 63, AAPL, 3, 42, 16, 44], 1);
  it.said();
  return { ...it, days, asked, heard: said };
}

function heardOf(session: FurtherSession) {
  const heard: string[] = [];
  const types = ["gap", "resumed", "replaced", "subscribed", "error", "update"] as const;
  for (const type of types)
    session.on(type, (event) =>
      heard.push(
        type === "update"
          ? (event as SessionEvents["update"]).changes.map(({ kind }) => kind).join(" ")
          : type,
      ),
    );
  return () => heard.splice(0);
}

const places = ({ client, days }: Pick<ReturnType<typeof twoSessions>, "client" | "days">) => [
  client.image.position,
  days.image.position,
];

test("a further session is opened over the same connection, and told what it asked for", () => {
  const it = twoSessions();
  expect(it.sockets.length).toBe(1);
  expect(it.asked).toEqual([
    { op: "subscribe", id: 2, topics: ["quote:AAPL"] },
    { op: "open", id: 1, session: 1 },
    { op: "subscribe", id: 3, session: 1, topics: ["day:*"], max_hz: 1 },
  ]);
  expect(it.heard()).toEqual(["subscribed", "instrument day"]);
  expect(places(it)).toEqual([101, 105]);
  expect([it.client.maxHz, it.days.maxHz]).toEqual([null, 1]);
  // Each knows what it was told itself.
  expect([it.client.image.quote(3 as never), it.days.image.quote(3 as never)]).toEqual([
    { bid: 18_941 },
    undefined,
  ]);
  expect(it.days.image.bar("day", 3 as never)).toEqual({ close: 18_944 });
  expect(it.client.state.kind).toBe("live");
});

test("one that is opened while the connection is there begins where the server says", () => {
  const it = twoSessions();
  const third = it.client.openSession();
  third.subscribe(["status"]);
  expect(it.socket().requests).toMatchObject([
    { op: "open", session: 2 },
    { op: "subscribe", session: 2, topics: ["status"] },
  ]);
  it.socket().deliver({ type: "opened", position: 700, time: 5 }, 2);
  it.socket().deliver([3, 0], 2);
  expect(third.image.position).toBe(703);
  expect(places(it)).toEqual([101, 105]);
});

test("after a lost connection each session takes up where it was itself", () => {
  const it = twoSessions();
  it.socket().drop();
  it.clock.advance(125);
  it.socket().deliver(welcome(7, 130));
  expect(it.socket().requests).toMatchObject([
    { op: "subscribe", topics: ["quote:AAPL"], since: { epoch: 7, position: 101 } },
    { op: "open", session: 1 },
    { op: "subscribe", session: 1, topics: ["day:*"], since: { epoch: 7, position: 105 } },
  ]);
  it.heard();
  it.socket().accept(true);
  expect(it.heard()).toEqual(["resumed", "subscribed"]);
  expect(it.days.image.bar("day", 3 as never)).toEqual({ close: 18_944 });
  it.socket().deliver([40, 0, 3, 42, 16, 45], 1);
  expect(places(it)).toEqual([130, 140]);
});

test("on another tape all sessions have dropped what they knew before anything is told of it", () => {
  const it = twoSessions();
  it.heard();
  it.socket().drop();
  it.clock.advance(125);
  const known: unknown[] = [];
  it.client.on("replaced", () => known.push([...it.client.image.all()].length));
  it.days.on("replaced", () => known.push([...it.days.image.all()].length));
  it.socket().deliver(welcome(8, 10));
  expect(known).toEqual([0, 0]);
  expect(it.heard()).toEqual(["replaced"]);
  expect(it.socket().requests.map(({ since }) => since)).toEqual([undefined, undefined, undefined]);
});

test("where the tape begins anew all sessions hear so at once, and once", () => {
  const it = twoSessions();
  it.heard();
  const known: unknown[] = [];
  const note = () => known.push([it.client, it.days].map(({ image }) => [...image.all()].length));
  it.client.on("replaced", note);
  it.days.on("replaced", note);
  it.socket().deliver({ type: "reset", begins: 110 });
  expect(known).toEqual([
    [0, 0],
    [0, 0],
  ]);
  it.socket().deliver([10, 0, null, 59, 4, 63, MSFT, 4, 1, 1]);
  it.socket().deliver([6, 0, null, 59, 4, 63, MSFT, 4, 42, 16, 2], 1);
  expect(known.length).toBe(2);
  expect(it.heard()).toEqual(["replaced", "reset instrument day"]);
  expect(it.days.image.bar("day", 4 as never)).toEqual({ close: 40_002 });
  // One more, of which one session is behind the place already.
  it.socket().deliver([20, 0], 1);
  it.socket().deliver({ type: "reset", begins: 120 });
  expect(it.days.image.bar("day", 4 as never)).toEqual({ close: 40_002 });
  expect([...it.client.image.all()]).toEqual([]);
  it.socket().deliver([30, 0, null, 59, 5, 63, MSFT]);
  expect(it.said("replaced").length).toBe(2);
});

test("what waited for a handler comes before the word that it is void", () => {
  const it = twoSessions();
  it.heard();
  it.socket().onmessage?.({ data: new Uint8Array([1, 0x96, 1, 0, 3, 42, 16, 45]).buffer });
  it.socket().deliver({ type: "reset", begins: 200 });
  expect(it.heard()).toEqual(["day", "replaced"]);
});

test("a session that is closed hears nothing more, and its number is free once the server has said so", () => {
  const it = twoSessions();
  it.heard();
  it.days.close();
  expect(it.socket().requests.splice(0)).toMatchObject([{ op: "close", session: 1 }]);
  it.socket().deliver([1, 0, 3, 42, 16, 45], 1);
  expect(it.heard()).toEqual([]);
  const other = it.client.openSession();
  expect(it.socket().requests.splice(0)).toMatchObject([{ op: "open", session: 2 }]);
  it.socket().deliver({ type: "closed" }, 1);
  it.client.openSession();
  expect(it.socket().requests.splice(0)).toMatchObject([{ op: "open", session: 1 }]);
  expect(() => it.days.subscribe(["status"])).toThrow(new RangeError("the session is ended"));
  expect(() => it.days.maxHz).toThrow(RangeError);
  other.close();
  // Where there is no connection there is nobody to ask.
  it.socket().drop();
  it.clock.advance(125);
  it.socket().deliver(welcome());
  expect(it.socket().requests.map(({ op, session }) => [op, session])).toEqual([
    ["subscribe", undefined],
    ["open", 1],
  ]);
});

test("the loop of a session that is closed ends", async () => {
  const it = twoSessions();
  const updates = it.days.updates();
  const next = updates.next();
  it.days.close();
  expect(await next).toEqual({ done: true, value: undefined });
});

test("a server that knows no further sessions is told of as an error of the session", () => {
  const it = world();
  it.client.connect();
  it.socket().deliver(welcome());
  const session = it.client.openSession();
  const errors: string[] = [];
  session.on("error", ({ code }) => errors.push(code));
  const { id } = it.socket().requests[0]!;
  it.said();
  it.socket().deliver({ type: "error", id, code: "unknown_op", message: "unknown op" });
  expect(errors).toEqual(["unknown_op"]);
  expect(it.said("error")).toEqual([]);
});

test("a checksum is of the session that it was asked in", async () => {
  const it = twoSessions();
  it.socket().requests.splice(0);
  const verifying = it.days.verify(["day:AAPL"]);
  const { id, session } = it.socket().requests[0]!;
  expect(session).toBe(1);
  const topics = [{ topic: "day:AAPL", checksum: 1 }];
  it.socket().deliver({ type: "checksum", id, position: 105, topics }, 1);
  expect(await verifying).toEqual([{ topic: "day:AAPL", matches: false }]);
});

test("all sessions together keep to the rate of requests, and to the topics, of one connection", () => {
  const it = twoSessions();
  it.socket().requests.splice(0);
  const quotes = (from: number, count: number) =>
    Array.from({ length: count }, (_, i) => `quote:S${from + i}`);
  expect(() => it.days.subscribe(quotes(0, 1_023))).toThrow(RangeError);
  const sessions = Array.from({ length: 14 }, () => it.client.openSession());
  expect(() => it.client.openSession()).toThrow(RangeError);
  expect(() => sessions[0]!.setMaxHz(0)).toThrow(RangeError);
  let asked = it.socket().requests.splice(0).length;
  sessions.forEach((session, i) => {
    session.subscribe([`quote:S${i}`]);
    session.requestStats(true);
    asked += it.socket().requests.splice(0).length;
  });
  expect(asked).toBeLessThanOrEqual(20); // at once
  it.clock.advance(1_000);
  expect(it.socket().requests.length + asked).toBe(42);
});

test.each<[string, (it: World) => void]>([
  ["a message that cannot be read", (it) => it.socket().deliver(MALFORMED, 1)],
  ["one of a session that was never opened", (it) => it.socket().deliver([1, 0], 9)],
])("%s ends the connection, and all sessions begin anew", (_, deliver) => {
  const it = twoSessions();
  it.heard();
  deliver(it);
  expect(it.client.state.kind).toBe("reconnecting");
  expect(it.heard()).toEqual(["replaced"]);
  expect(it.said("replaced").length).toBe(1);
});
