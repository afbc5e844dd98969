import { expect, test } from "vitest";
import type { Change } from "@tickcast/client";
import { AAPL } from "../../../client/tests/frames.js";
import { LINGER_MS, WATCHED_MOST } from "../../src/data/shared-demand.js";
import { relayWorld, type FakeTab, type RelayWorld } from "./fakes.js";

const MSFT = { ...AAPL, symbol: "MSFT", name: "Microsoft" };
const QUOTE = 15;
const DAY = 42;
const trade = [42, 0, 1, 100];

/** Two instruments with a day each, as the universe's first update has them. */
function withUniverse(): RelayWorld {
  const it = relayWorld();
  it.universe.deliver([1, 0, 3, 63, AAPL, 3, DAY, 16, 40, 4, 63, MSFT, 4, DAY, 16, 50]);
  return it;
}

/** What the session of what is watched is asked for, by operation. */
function asked({ watched }: RelayWorld): Record<string, string[]> {
  const topics: Record<string, string[]> = {};
  for (const { op, topics: some } of watched.asked())
    topics[op] = [...(topics[op] ?? []), ...(some ?? [])];
  return topics;
}

const both = (...symbols: string[]) =>
  symbols.flatMap((symbol) => [`quote:${symbol}`, `day:${symbol}`]);

test("the universe comes by itself, once a second, and what is watched as fast as it is drawn", () => {
  const it = withUniverse();
  const tab = it.open();
  tab.drawAll();
  expect(tab.told()).toEqual(["instrument AAPL", "instrument MSFT", "day AAPL", "day MSFT"]);
  tab.link.watch("list", ["AAPL"]);
  it.clock.advance(100);
  expect(it.watched.client.maxHz).toBe(60);
  expect(it.universe.client.maxHz).toBe(1);
  expect(asked(it)).toMatchObject({ subscribe: both("AAPL") });
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, QUOTE, 41, 300, 43, 200, 3, DAY, 16, 44]);
  tab.drawAll();
  expect(tab.told()).toEqual(["quote AAPL", "day AAPL"]);
});

test("of what is watched the slower session tells nothing more", () => {
  const it = withUniverse();
  const tab = it.open();
  tab.link.watch("list", ["AAPL"]);
  it.clock.advance(100);
  asked(it);
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, DAY, 16, 44]);
  tab.drawAll();
  tab.told();
  it.universe.deliver([1, 0, 3, DAY, 16, 43, 4, DAY, 16, 51]);
  tab.drawAll();
  expect(tab.told()).toEqual(["day MSFT"]);
});

test("tabs together subscribe what any of them shows, once", () => {
  const it = withUniverse();
  const [one, two] = [it.open(), it.open()];
  one.link.watch("list", ["AAPL", "MSFT"]);
  two.link.watch("list", ["MSFT", "IBM"]);
  it.clock.advance(100);
  expect(asked(it)).toMatchObject({ subscribe: [...both("AAPL", "MSFT"), ...both("IBM")] });
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, 1, 41, 4, 63, MSFT, 4, 1, 51]);
  for (const tab of [one, two]) tab.drawAll();
  expect(one.told().filter((change) => change.startsWith("quote"))).toEqual([
    "quote AAPL",
    "quote MSFT",
  ]);
  expect(two.told().filter((change) => change.startsWith("quote"))).toEqual(["quote MSFT"]);
});

test("what a tab begins to show that another one shows already is told at once", () => {
  const it = withUniverse();
  const [one, two] = [it.open(), it.open()];
  one.link.watch("list", ["AAPL"]);
  it.clock.advance(100);
  asked(it);
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, QUOTE, 41, 300, 43, 200, 3, DAY, 16, 44]);
  two.drawAll();
  two.told();
  two.link.watch("list", ["AAPL"]);
  it.clock.advance(100);
  two.drawAll();
  expect(two.told()).toEqual(["quote AAPL", "day AAPL"]);
  expect(asked(it)).toEqual({});
});

test("what scrolls out of sight and back is not subscribed again, and what stays away ends", () => {
  const it = withUniverse();
  const tab = it.open();
  tab.link.watch("list", ["AAPL"]);
  it.clock.advance(100);
  asked(it);
  tab.link.watch("list", ["MSFT"]);
  it.clock.advance(LINGER_MS / 2);
  expect(asked(it)).toMatchObject({ subscribe: both("MSFT") });
  tab.link.watch("list", ["AAPL"]);
  it.clock.advance(LINGER_MS / 2);
  expect(asked(it)).toEqual({});
  it.clock.advance(LINGER_MS);
  expect(asked(it)).toEqual({ unsubscribe: both("MSFT") });
});

test("a demand changes ten times a second at most", () => {
  const it = withUniverse();
  const tab = it.open();
  it.clock.advance(200);
  for (let step = 0; step < 100; step++) {
    tab.link.watch("list", [`S${step}`]);
    it.clock.advance(10);
  }
  expect(it.watched.asked().length).toBeLessThanOrEqual(11);
});

test("however much is shown, subscriptions stay bounded", () => {
  const it = withUniverse();
  const tabs = Array.from({ length: 5 }, () => it.open());
  const subscribed = new Set<string>();
  for (let step = 0; step < 20; step++) {
    tabs.forEach(({ link }, i) =>
      link.watch(
        "list",
        Array.from({ length: 300 }, (_, row) => `S${i}-${step}-${row}`),
      ),
    );
    // Requests keep to the pace that the server allows.
    for (const ms of [100, 2_000]) {
      it.clock.advance(ms);
      for (const { op, topics = [] } of it.watched.asked())
        for (const topic of topics)
          if (op === "unsubscribe") subscribed.delete(topic);
          else subscribed.add(topic);
      expect(subscribed.size).toBeLessThanOrEqual(2 * WATCHED_MOST + 2);
    }
    expect(subscribed.size).toBeGreaterThanOrEqual(2 * WATCHED_MOST - 2);
  }
});

test("a hidden page falls to a trickle, and catches up with one merged update", () => {
  const it = withUniverse();
  const tab = it.open();
  tab.link.watch("list", ["AAPL"]);
  tab.link.open("MSFT", "1s");
  it.clock.advance(100);
  asked(it);
  tab.drawAll();
  tab.page.become("hidden");
  expect([it.watched.client.maxHz, it.universe.client.maxHz]).toEqual([1, 0.1]);
  it.clock.advance(LINGER_MS);
  const ended = asked(it)["unsubscribe"];
  expect(ended).toEqual(both("AAPL"));

  tab.said.length = 0;
  for (let i = 0; i < 50; i++) {
    const run = i === 0 ? [33, 0] : [32];
    const define = i === 0 ? [4, 63, MSFT] : [];
    it.watched.deliver([1, 0, ...define, 4, ...run, 1, ...trade, 4, DAY, 16, i]);
    it.universe.deliver([1, 0, 3, DAY, 16, i]);
  }
  const batches = () => tab.received.filter(({ kind }) => kind === "batch").length;
  const before = batches();
  tab.page.become("visible");
  expect([it.watched.client.maxHz, it.universe.client.maxHz]).toEqual([60, 1]);
  tab.drawAll();
  expect(batches() - before).toBe(1);
  expect(tab.link.position).toBe(151);
  expect(tab.told().filter((kind) => kind.startsWith("trades")).length).toBeLessThanOrEqual(2);
});

test("a tab that is shown keeps the rate, whatever tabs are hidden", () => {
  const it = withUniverse();
  const [one, two] = [it.open(), it.open()];
  one.page.become("hidden");
  expect(it.watched.client.maxHz).toBe(60);
  two.page.become("hidden");
  expect(it.watched.client.maxHz).toBe(1);
  two.goAway();
  one.page.become("visible");
  expect(it.watched.client.maxHz).toBe(60);
});

test("what a tab showed that is gone is not subscribed for it any more", () => {
  const it = withUniverse();
  const [one, two] = [it.open(), it.open()];
  one.link.watch("list", ["AAPL"]);
  two.link.watch("list", ["MSFT"]);
  it.clock.advance(100);
  asked(it);
  two.goAway();
  it.clock.advance(LINGER_MS);
  expect(asked(it)).toEqual({ unsubscribe: both("MSFT") });
});

test("a page has one batch at a time: what comes before it is drawn is merged", () => {
  const it = withUniverse();
  const tab = it.open();
  tab.link.watch("list", ["AAPL"]);
  it.clock.advance(100);
  asked(it);
  tab.drawAll();
  const batches = () => tab.received.filter(({ kind }) => kind === "batch").length;
  const before = batches();
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, QUOTE, 41, 300, 43, 200]);
  for (let i = 0; i < 100; i++) it.watched.deliver([1, 0, 3, 1, i]);
  expect(batches() - before).toBe(1);
  tab.said.length = 0;
  tab.draw();
  expect(batches() - before).toBe(2);
  expect(tab.said.filter(([type]) => type === "update")).toMatchObject([
    ["update", { changes: [{ kind: "quote", changed: { bid: 18_999 }, quote: { ask: 18_943 } }] }],
  ]);
});

test("ten thousand instruments come a thousand at a time", () => {
  const it = relayWorld();
  const tab = it.open();
  tab.drawAll();
  const entries = Array.from({ length: 2_500 }, (_, n) => [
    n,
    63,
    { ...AAPL, symbol: `S${n}` },
    n,
    DAY,
    16,
    40,
  ]);
  it.universe.deliver([1, 0, ...entries.flat()]);
  const sizes: number[] = [];
  tab.link.on("update", ({ changes }) => sizes.push(changes.length));
  tab.drawAll();
  expect(sizes).toEqual([1_000, 1_000, 1_000, 1_000]); // the first went as it came
  expect(tab.received.flatMap((m) => (m.kind === "batch" ? m.instruments : [])).length).toBe(2_500);
});

test("a tab that opens what another one has open gets the same trades and bars", () => {
  const it = withUniverse();
  const one = it.open();
  one.link.open("AAPL", "1s");
  asked(it);
  const bar = (start: number) => [start, 40, 45, 35, 42, 700, 5, 4000];
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, 33, 7, 2, ...trade, ...trade, 3, 46, 4, 1, ...bar(60)]);
  it.watched.deliver([1, 0, 3, 32, 1, ...trade, 3, 40, 255, 61, 40, 45, 35, 42, 700, 5, 4000]);
  const two = it.open();
  two.drawAll();
  two.said.length = 0;
  two.link.open("AAPL", "1s");
  two.drawAll();
  expect(asked(it)).toEqual({});
  const changes = two.said.flatMap(([, event]) => (event as { changes?: unknown[] }).changes ?? []);
  expect(changes).toMatchObject([
    { kind: "trades", missed: 0, trades: [{ number: 7 }, { number: 8 }, { number: 9 }] },
    { kind: "closed_bars", first: 4, bars: [{ start: 60 }] },
    { kind: "bar", bar: { start: 61, close: 18_942 } },
  ]);
});

test("trades that were on their way when another symbol was opened are not told of that one", () => {
  const it = withUniverse();
  const tab = it.open();
  tab.link.open("AAPL", "1s");
  asked(it);
  tab.drawAll();
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, 33, 0, 1, ...trade]);
  it.watched.deliver([1, 0, 3, 32, 1, ...trade]); // waits for the frame
  tab.link.open("MSFT", "1s");
  tab.link.open("AAPL", "1s");
  tab.said.length = 0;
  tab.drawAll();
  const numbers = tab.said.flatMap(([, event]) =>
    (
      (event as { changes?: { kind: string; trades?: { number: number }[] }[] }).changes ?? []
    ).flatMap((change) =>
      change.kind === "trades" ? change.trades!.map(({ number }) => number) : [],
    ),
  );
  expect(numbers).toEqual([0, 1]);
});

test("a gap is told to those who have the symbol open, and where it happened", () => {
  const it = withUniverse();
  const [one, two] = [it.open(), it.open()];
  one.link.open("AAPL", "1s");
  asked(it);
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, 33, 0, 1, ...trade]);
  for (const tab of [one, two]) tab.drawAll();
  one.said.length = two.said.length = 0;
  it.watched.deliver([1, 0, 3, 33, 6, 1, ...trade]);
  for (const tab of [one, two]) tab.drawAll();
  expect(one.said.filter(([type]) => type !== "state")).toMatchObject([
    ["update", { changes: [{ kind: "trades", missed: 5, trades: [{ number: 6 }] }] }],
    ["gap", { topic: "trades:AAPL", missed: 5 }],
  ]);
  expect(two.said).toEqual([]);
});

test.each([
  ["the universe's session", true],
  ["that of what is watched", false],
])("pages begin anew on another tape, also where %s notices first", (_, universeFirst) => {
  const it = withUniverse();
  const tab = it.open();
  tab.link.watch("list", ["AAPL"]);
  tab.link.open("AAPL", "1s");
  it.clock.advance(100);
  asked(it);
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, 1, 41, 3, 33, 5, 1, ...trade]);
  tab.drawAll();
  it.connection.socket.drop();
  it.clock.advance(125);
  tab.said.length = 0;
  // The same number is another instrument there.
  const universe = () => {
    it.universe.deliver([1, 0, 3, 63, MSFT, 3, DAY, 16, 50, 4, 63, AAPL, 4, DAY, 16, 40]);
  };
  const watched = () => {
    it.watched.deliver([1, 0, 4, 63, AAPL, 4, 1, 44, 4, 33, 2, 1, ...trade]);
  };
  it.connection.begin(8);
  for (const session of [it.watched, it.universe]) session.asked(8);
  for (const begin of universeFirst ? [universe, watched] : [watched, universe]) {
    begin();
    tab.drawAll();
  }
  it.watched.deliver([1, 0, 4, 1, 45]);
  tab.drawAll();
  const replaced = tab.said.map(([type]) => type).lastIndexOf("replaced");
  expect(replaced).toBeGreaterThanOrEqual(0);
  tab.said.splice(0, replaced);
  const changes = tab.said.flatMap(([, event]) => (event as { changes?: object[] }).changes ?? []);
  expect(changes).toContainEqual(
    expect.objectContaining({ kind: "quote", quote: { bid: 18_945 } }),
  );
  expect(changes.filter((change) => (change as { kind: string }).kind === "trades")).toMatchObject([
    { missed: 0, trades: [{ number: 2 }] },
  ]);
  const names = changes.flatMap((change) => {
    const { kind, instrument } = change as {
      kind: string;
      instrument?: { symbol: string; number: number };
    };
    return kind === "instrument" ? [`${instrument!.number} ${instrument!.symbol}`] : [];
  });
  expect([...new Set(names)].sort()).toEqual(["3 MSFT", "4 AAPL"]);
});

/** Both sessions on AAPL, which is open, and the replay wound back: numbers are others from here on. */
function wound(...order: ("watched" | "universe")[]) {
  const it = withUniverse();
  const tab = it.open();
  tab.link.open("AAPL", "1s");
  asked(it);
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, 1, 41, 3, 33, 5, 1, ...trade]);
  tab.drawAll();
  tab.said.length = 0;
  it.connection.socket.deliver({ type: "reset", begins: 111 });
  for (const session of order) {
    const entries =
      session === "universe"
        ? [3, 63, MSFT, 3, DAY, 16, 50, 4, 63, AAPL, 4, DAY, 16, 40]
        : [4, 63, AAPL, 4, 1, 44, 4, 33, 2, 1, ...trade];
    it[session].deliver([10, -1_000_000, null, 59, ...entries]);
    tab.drawAll();
  }
  return { ...it, tab };
}

const saidOf = (tab: FakeTab) =>
  tab.said.flatMap(([type, event]) => {
    if (type === "replaced") return ["replaced"];
    return type === "update" ? (event as { changes: Change[] }).changes.map(describe) : [];
  });

function describe(change: Change): string {
  switch (change.kind) {
    case "instrument":
      return `${change.instrument.number} is ${change.instrument.symbol}`;
    case "quote":
      return `${change.instrument.symbol} bid ${change.quote.bid}`;
    case "day":
      return `${change.instrument.symbol} last ${change.day.close}`;
    case "trades":
      return `${change.instrument.symbol} trades from ${change.trades[0]!.number}, ${change.missed} missed`;
    default:
      return change.kind;
  }
}

test.each([
  ["universe", "watched"],
  ["watched", "universe"],
] as const)("a replay that was wound is told anew, where %s comes first", (first, second) => {
  const { tab } = wound(first, second);
  const said = saidOf(tab);
  expect(said[0]).toBe("replaced");
  expect(said.filter((what) => what === "replaced").length).toBe(1);
  expect([...new Set(said.slice(1))].sort()).toEqual([
    "3 is MSFT",
    "4 is AAPL",
    "AAPL bid 18944",
    "AAPL last 18940",
    "AAPL trades from 2, 0 missed",
    "MSFT last 18950",
  ]);
});

test("nothing from before is told once one session is behind the place where the tape began anew", () => {
  const { tab } = wound("watched");
  expect(saidOf(tab)).toEqual([
    "replaced",
    "4 is AAPL",
    "AAPL bid 18944",
    "AAPL trades from 2, 0 missed",
  ]);
});

test("where a frame was malformed pages begin anew with both sessions, and get no trade twice", () => {
  const it = withUniverse();
  const tab = it.open();
  tab.link.open("AAPL", "1s");
  asked(it);
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, 1, 41, 3, 33, 5, 1, ...trade]);
  tab.drawAll();
  it.watched.deliver([1, 0, 3, 999]);
  it.clock.advance(125);
  it.connection.begin();
  for (const session of [it.watched, it.universe]) session.asked();
  tab.said.length = 0;
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, 1, 42, 3, 33, 5, 2, ...trade, ...trade]);
  tab.drawAll();
  it.universe.deliver([1, 0, 3, 63, AAPL, 3, DAY, 16, 40]);
  tab.drawAll();
  expect(saidOf(tab)).toEqual([
    "replaced",
    "3 is AAPL",
    "AAPL bid 18942",
    "AAPL trades from 5, 0 missed",
    "AAPL last 18940",
  ]);
});

test("a finer scale reaches pages with all that is kept in it", () => {
  const it = withUniverse();
  const tab = it.open();
  tab.link.watch("list", ["AAPL"]);
  it.clock.advance(100);
  asked(it);
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, QUOTE, 41, 300, 43, 200, 3, DAY, 16, 44]);
  tab.drawAll();
  const finer = { ...AAPL, price_scale: 3, anchor: 189_000, previous_close: 188_900 };
  tab.said.length = 0;
  it.watched.deliver([1, 0, 3, 63, finer, 3, 1, 415]);
  it.universe.deliver([1, 0, 3, DAY, 16, 45]); // does not know yet
  tab.drawAll();
  const changes = tab.said.flatMap(([, event]) => (event as { changes?: object[] }).changes ?? []);
  expect(changes).toMatchObject([
    { kind: "instrument", instrument: { price_scale: 3 } },
    { kind: "quote", quote: { bid: 189_415, ask: 189_430 } },
    { kind: "day", day: { close: 189_440 } },
  ]);
});

test("a symbol that the server refuses is told, and the others go on", () => {
  const it = withUniverse();
  const tab = it.open();
  tab.link.watch("list", ["AAPL"]);
  it.clock.advance(100);
  const { id } = it.watched.lastRequest;
  const error = { code: "unknown_topic", message: "no such thing" };
  it.watched.deliver({
    type: "subscribed",
    id,
    epoch: 7,
    position: 100,
    topics: [
      { topic: "quote:AAPL", error },
      { topic: "day:AAPL", instrument: 3 },
    ],
  });
  expect(tab.said).toContainEqual(["error", { ...error, topic: "quote:AAPL" }]);
});

test("only what is watched can be verified, and the answer comes to the page that asked", async () => {
  const it = withUniverse();
  const tab = it.open();
  tab.link.watch("list", ["AAPL"]);
  it.clock.advance(100);
  asked(it);
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, QUOTE, 41, 300, 43, 200]);
  const verifying = tab.link.verify(["quote:AAPL", "quote:MSFT"]);
  const { id, op, topics } = it.watched.lastRequest;
  expect({ op, topics }).toEqual({ op: "checksum", topics: ["quote:AAPL"] });
  it.watched.deliver({
    type: "checksum",
    id,
    position: 101,
    topics: [{ topic: "quote:AAPL", checksum: 1 }],
  });
  expect(await verifying).toEqual([{ topic: "quote:AAPL", matches: false }]);
  await expect(tab.link.verify(["quote:MSFT"])).rejects.toThrow("nothing of that is watched");
});
