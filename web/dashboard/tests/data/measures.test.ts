import { expect, test } from "vitest";
import type { Bar, Change, Instrument, Micros, Quote } from "@tickcast/client";
import { applyTo, imageWithApple } from "../../../client/tests/frames.js";
import { pack, unpack } from "../../src/data/pack.js";
import { DisplayPace } from "../../src/data/pace.js";
import { Percentiles } from "../../src/data/percentiles.js";
import { feedClock, Timing } from "../../src/data/timing.js";
import { AAPL } from "../../../client/tests/frames.js";
import { ORIGIN, relayWorld } from "./fakes.js";

const serverTime = (ms: number) => (ms * 1_000) as Micros;

test("the quickest ping tells by how much the server's clock is before ours", () => {
  const timing = new Timing(ORIGIN);
  expect(timing.offset_ms).toBeNull();
  // It waited for 300 ms on the way back: half of that is taken for an offset.
  timing.addPing({ sent_at: 0, received_at: 300, time: serverTime(ORIGIN + 500) });
  expect(timing.offset_ms).toBeCloseTo(350);
  timing.addPing({ sent_at: 1_000, received_at: 1_004, time: serverTime(ORIGIN + 1_502) });
  timing.addPing({ sent_at: 2_000, received_at: 2_100, time: serverTime(ORIGIN + 2_502) });
  expect(timing.offset_ms).toBeCloseTo(500);
  expect(timing.round_trip_ms).toBe(4);
});

test("pings of long ago are forgotten: clocks drift", () => {
  const timing = new Timing(ORIGIN);
  timing.addPing({ sent_at: 0, received_at: 1, time: serverTime(ORIGIN) });
  for (let i = 1; i <= 8; i++) {
    const sent_at = 1_000 * i;
    timing.addPing({
      sent_at,
      received_at: sent_at + 10,
      time: serverTime(ORIGIN + sent_at + 105),
    });
  }
  expect(timing.offset_ms).toBeCloseTo(100);
});

test("a moment on the tape was due by the feed's clock, at its speed", () => {
  const timing = new Timing(ORIGIN);
  timing.addPing({ sent_at: 0, received_at: 0, time: serverTime(ORIGIN + 50) });
  const at = (feed_ms: number) => timing.due((feed_ms * 1_000) as Micros);
  expect(at(1_000)).toBeNull();
  timing.setFeedClock({ feed_us: 1_000_000, wall_us: (ORIGIN + 50) * 1_000, speed: 4 });
  expect(at(1_000)).toBeCloseTo(ORIGIN);
  expect(at(1_400)).toBeCloseTo(ORIGIN + 100);
  timing.setFeedClock({ feed_us: 0, wall_us: 0, speed: null });
  expect(at(1_000)).toBeNull();
});

test.each([
  [
    { clock: { feed_us: 1, wall_us: 2 }, speed: 4 },
    { feed_us: 1, wall_us: 2, speed: 4 },
  ],
  [
    { clock: { feed_us: 1, wall_us: 2 }, speed: "max" },
    { feed_us: 1, wall_us: 2, speed: null },
  ],
  [
    { clock: { feed_us: 1, wall_us: 2 }, speed: null },
    { feed_us: 1, wall_us: 2, speed: 1 },
  ],
  [{ clock: {} }, null],
  [null, null],
])("the feed's answer %j has the clock %j", (answer, clock) => {
  expect(feedClock(answer)).toEqual(clock);
});

test("percentiles are of the samples of late", () => {
  const latencies = new Percentiles(10_000, 1_000);
  expect(latencies.of([0.5], 0)).toBeNull();
  latencies.add(9_999, 0);
  for (let value = 1; value <= 100; value++) latencies.add(value, 5_000);
  expect(latencies.of([0.5, 0.99, 1], 9_000)).toEqual([51, 100, 9_999]);
  expect(latencies.of([0, 0.5, 0.99, 1], 10_001)).toEqual([1, 50, 99, 100]);
  expect(latencies.of([0.5], 15_001)).toBeNull();
  for (let value = 0; value < 5_000; value++) latencies.add(value, 20_000);
  expect(latencies.of([0], 20_000)).toEqual([4_000]);
});

function paced(pace: DisplayPace, ms: number, frames: number): number {
  for (let i = 0; i < frames; i++) pace.add(ms);
  return pace.hz;
}

test("slow frames are asked for less often at once, and quick ones more often once that has lasted", () => {
  const pace = new DisplayPace();
  expect(paced(pace, 16.7, 60)).toBe(60);
  expect(paced(pace, 8.3, 60)).toBe(60);
  expect(paced(pace, 30, 60)).toBe(30);
  expect(paced(pace, 90, 60)).toBe(10);
  expect(paced(pace, 16.7, 120)).toBe(10);
  expect(paced(pace, 16.7, 60)).toBe(20);
  expect(paced(pace, 16.7, 180)).toBe(30);
  expect(paced(pace, 16.7, 180)).toBe(60);
});

test("a few long frames among many are no reason", () => {
  const pace = new DisplayPace();
  for (let i = 0; i < 600; i++) pace.add(i % 10 === 0 ? 200 : 16.7);
  expect(pace.hz).toBe(60);
});

/** What the changes are at the other end of a port. */
function transferred(changes: readonly Change[], images = new Map<number, Images>()): Change[] {
  return unpack(structuredClone(pack(changes)), (number) => images.get(number));
}

interface Images {
  instrument: Instrument;
  quote: Quote;
  day: Bar;
}

function imagesOf(instrument: Instrument): Map<number, Images> {
  return new Map([[instrument.number, { instrument, quote: {}, day: {} }]]);
}

test("changes survive the way between threads", () => {
  const image = imageWithApple();
  const apple = image.find("AAPL")!;
  const { changes } = applyTo(
    image,
    ...[1, 0, 3, 15, 41, 300, null, 200],
    ...[3, 42, 511, 60, 40, 45, 35, null, 700, 5, null, -10],
    ...[3, 40, 255, 61, 40, 45, 35, 42, 700, 5, 4_000],
    ...[3, 33, 7, 2, 42, 0, 1, 100, 1, 5, 6, 50, "IO"],
    ...[3, 47, 4, 1, 60, 40, 45, 35, null, 700, 5, 4_000],
  );
  expect(transferred(changes, imagesOf(apple))).toEqual(changes);
});

test("integers up to the largest of the protocol survive the way", () => {
  const image = imageWithApple();
  const apple = image.find("AAPL")!;
  const { changes } = applyTo(
    image,
    1,
    0,
    3,
    15,
    -9_007_199_254_700_000,
    Number.MAX_SAFE_INTEGER,
    0,
    0,
  );
  expect(transferred(changes, imagesOf(apple))).toEqual(changes);
});

test("a new day takes nothing of the one before but the previous close", () => {
  const image = imageWithApple();
  const images = imagesOf(image.find("AAPL")!);
  transferred(applyTo(image, 1, 0, 3, 42, 1 + 2 + 4 + 256, 60, 40, 50, -10).changes, images);
  const [day] = transferred(applyTo(image, 1, 0, 3, 42, 1 + 16, 120, 44).changes, images);
  expect(day).toMatchObject({ day: { start: 120, close: 18_944, previous_close: 18_890 } });
  expect(images.get(3)!.day).toEqual({ start: 120, close: 18_944, previous_close: 18_890 });
});

test("changes of what the page does not know are left out, and those after them are not lost", () => {
  const image = imageWithApple();
  applyTo(image, 1, 0, 4, 63, { ...AAPL, symbol: "MSFT" });
  const trades = [33, 0, 1, 42, 0, 1, 100];
  const { changes } = applyTo(image, 1, 0, 4, ...trades, 4, 1, 41, 4, 42, 16, 40, 3, 1, 41);
  expect(transferred(changes, imagesOf(image.find("AAPL")!))).toMatchObject([
    { kind: "quote", changed: { bid: 18_941 } },
  ]);
});

test("latency is measured from when an update was due to when it is painted", () => {
  const it = relayWorld();
  const tab = it.open();
  it.universe.deliver([1, 0, 3, 63, AAPL]);
  tab.drawAll();
  it.timing.addPing({ sent_at: 0, received_at: 0, time: serverTime(ORIGIN) });
  tab.link.watch("list", ["AAPL"]);
  it.clock.advance(100);
  it.watched.asked();
  const { time } = it.watched.client.image;
  for (const late of [20, 30]) {
    // Due so long before it is painted.
    const wall_us = (ORIGIN + it.clock.now() - late) * 1_000;
    it.timing.setFeedClock({ feed_us: time, wall_us, speed: 1 });
    it.watched.deliver([1, 0, 3, 63, AAPL, 3, 1, late]);
    tab.draw();
  }
  it.clock.advance(1_000);
  expect(tab.link.measures).toMatchObject({ p50: 20, p99: 30 });
});

test("what waited while the page was hidden was not late", () => {
  const it = relayWorld();
  const tab = it.open();
  it.universe.deliver([1, 0, 3, 63, AAPL]);
  tab.drawAll();
  it.timing.addPing({ sent_at: 0, received_at: 0, time: serverTime(ORIGIN) });
  tab.link.open("AAPL", "1s");
  it.watched.asked();
  const { time } = it.watched.client.image;
  it.timing.setFeedClock({ feed_us: time, wall_us: (ORIGIN + it.clock.now()) * 1_000, speed: 1 });
  it.watched.deliver([1, 0, 3, 63, AAPL, 3, 1, 1]);
  it.watched.deliver([1, 0, 3, 1, 2]);
  tab.page.become("hidden");
  it.watched.deliver([1, 0, 3, 1, 3]);
  it.clock.advance(60_000);
  it.universe.deliver([1, 0]);
  tab.page.become("visible");
  tab.drawAll();
  it.clock.advance(1_000);
  expect(tab.link.measures).toMatchObject({ p50: null, p99: null });
});

test("rates are of the last second, as the server tells and as frames come", () => {
  const it = relayWorld();
  const tab = it.open();
  const stats = { type: "stats", position: 100, lag: 0, lag_ms: 0, frames: 0, bytes: 0 };
  for (const session of [it.watched, it.universe])
    session.deliver({ ...stats, events: 1_000, delivered: 900 });
  it.clock.advance(1_000);
  it.watched.deliver({ ...stats, events: 1_400, delivered: 1_000 });
  it.universe.deliver({ ...stats, events: 1_200, delivered: 950 });
  it.clock.advance(1_000);
  expect(tab.link.measures).toMatchObject({ ticks: 600, delivered: 150, conflation: 4, frames: 2 });
  it.clock.advance(1_000);
  expect(tab.link.measures).toMatchObject({ ticks: 0, conflation: null, frames: 0, bytes: 0 });
});

test("a session that the server cannot serve in time is lagging, until it is well in time again", () => {
  const it = relayWorld();
  const tab = it.open();
  for (const session of [it.watched, it.universe]) session.deliver([1, 0]);
  const lag = (lag_ms: number) => {
    const stats = {
      type: "stats",
      position: 100,
      lag: 5,
      frames: 0,
      bytes: 0,
      events: 0,
      delivered: 0,
    };
    it.watched.deliver({ ...stats, lag_ms });
    it.clock.advance(1_000);
    it.universe.deliver([1, 0]);
    return tab.link.state.kind;
  };
  expect(lag(0)).toBe("live");
  expect(lag(3_000)).toBe("lagging");
  expect(tab.link.state).toMatchObject({ by_ms: expect.closeTo(2_983, -1) as number });
  expect(lag(800)).toBe("lagging");
  expect(lag(300)).toBe("live");
});

test("what the worker's connection lags is the page's lag", () => {
  const it = relayWorld();
  const tab = it.open();
  for (const session of [it.watched, it.universe]) session.deliver([1, 0]);
  it.connection.socket.deliver({ type: "lag", lag_ms: 2_500 });
  expect(tab.link.state).toEqual({ kind: "lagging", by_ms: 2_500 });
  it.connection.socket.deliver({ type: "lag", lag_ms: 0 });
  expect(tab.link.state).toEqual({ kind: "live" });
});

test("ticks are counted on while a session lags", () => {
  const it = relayWorld();
  const tab = it.open();
  const stats = { type: "stats", position: 100, lag: 0, lag_ms: 0, frames: 0, bytes: 0 };
  for (const session of [it.watched, it.universe]) session.deliver([1, 0]);
  it.watched.deliver({ ...stats, events: 1_000, delivered: 900 });
  it.clock.advance(1_000);
  it.connection.socket.deliver({ type: "lag", lag_ms: 2_500 });
  it.watched.deliver({ ...stats, events: 1_400, delivered: 1_000 });
  it.clock.advance(1_000);
  expect(tab.link.measures).toMatchObject({ ticks: 400, delivered: 100 });
});

test("times of the connection's state are the page's own", () => {
  const it = relayWorld();
  const tab = it.open();
  it.connection.socket.drop();
  const { state } = tab.link;
  expect(state).toMatchObject({ kind: "reconnecting", retry_at: it.clock.now() + 125 });
  tab.link.reconnectNow();
  expect(tab.link.state).toMatchObject({ kind: "reconnecting", retry_at: null });
});
