import { expect, test } from "vitest";
import type { Change, ChannelMessage, Instrument, Json, Micros } from "@tickcast/client";
import { Talk, textOf, topicsOf, typingText, watchersText } from "../src/talk/talk.js";

const said = (number: number, data: Json, event?: string): ChannelMessage => ({
  number,
  data,
  ...(event === undefined ? {} : { event }),
  ts_event: 0 as Micros,
});
const messages = (...all: ChannelMessage[]): Change => ({
  kind: "messages",
  channel: "desk",
  missed: 0,
  repeated: [],
  messages: all,
  first: all[0]?.number ?? 0,
});
const states = (whole: boolean, changed: Record<string, Json>): Change => ({
  kind: "states",
  channel: "desk",
  whole,
  changed,
});

test("the panel shows each message once, whoever told of it", () => {
  const talk = new Talk();
  expect(talk.take([messages(said(0, "a"), said(1, "b"))], "X")).toBe(true);
  talk.take([messages(said(1, "b"), said(2, "c"))], "X");
  expect(talk.messages.map(({ data }) => data)).toEqual(["a", "b", "c"]);
  talk.take([messages(...Array.from({ length: 300 }, (_, i) => said(3 + i, i)))], "X");
  expect([talk.messages.length, talk.messages[0]?.number]).toEqual([256, 47]);
});

test("those who type are shown until they have ended, and other states are not", () => {
  const talk = new Talk();
  talk.take([states(true, { Bob: { typing: true }, Ann: { typing: true }, Eve: "away" })], "X");
  expect(talk.typing).toEqual(["Ann", "Bob"]);
  talk.take([states(false, { Bob: null })], "X");
  expect(typingText(talk.typing)).toBe("Ann is typing …");
  talk.take([states(true, {})], "X");
  expect(typingText(talk.typing)).toBe("");
  expect(typingText(["a", "b"])).toBe("a, b are typing …");
  expect(typingText(["a", "b", "c", "d"])).toBe("4 are typing …");
});

test("the watchers are those of the open symbol", () => {
  const talk = new Talk();
  const watched = (symbol: string, watchers: number): Change => ({
    kind: "watchers",
    instrument: { symbol } as Instrument,
    changed: { watchers },
    watchers: { watchers },
  });
  expect(talk.take([watched("Y", 9)], "X")).toBe(false);
  expect(talk.take([watched("X", 2)], "X")).toBe(true);
  expect(watchersText(talk.watchers!, "X")).toBe("2 watch X");
  expect(watchersText(1, "X")).toBe("1 watches X");
  expect(topicsOf("A,B")).toEqual(["messages:desk", "states:desk", "watchers:A%2CB"]);
});

test("what programs say is shown as it is", () => {
  expect(textOf(said(0, "hello", "chat message"))).toBe("hello");
  expect(textOf(said(0, { headline: "x" }, "news"))).toBe('news: {"headline":"x"}');
});
