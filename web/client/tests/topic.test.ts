import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { escapeSymbol, symbolOf, topicOf, unescapeSymbol } from "../src/topic.js";
import { fnv1a } from "../src/checksum.js";

/** The table that the server's tests read, too. */
const table = JSON.parse(
  readFileSync(new URL("../../../tests/topics.json", import.meta.url), "utf8"),
) as {
  symbol: string;
  topic: string;
  query: string;
  path: string;
}[];

test.each(table)(
  "the topic of $symbol is $topic, and names it",
  ({ symbol, topic, query, path }) => {
    expect(topicOf("quote", symbol)).toBe(topic);
    expect(symbolOf(new URLSearchParams(`topics=${query}`).get("topics") ?? "")).toBe(symbol);
    expect(decodeURIComponent(path)).toBe(symbol);
    expect(symbolOf(topic)).toBe(symbol);
    expect(unescapeSymbol(escapeSymbol(symbol))).toBe(symbol);
  },
);

test("sets name no symbol, and what is percent-encoded does", () => {
  expect(["quote:*", "quote:@tech", "status"].map(symbolOf)).toEqual([null, null, null]);
  expect(symbolOf("quote:@107")).toBe("@107");
  expect(symbolOf("quote:XYZ%2a")).toBe("XYZ*");
  expect(symbolOf("quote:%E5%B8")).toBe("%E5%B8");
});

test("a checksum is of the text's bytes in UTF-8", () => {
  expect(fnv1a("foobar")).toBe(0xbf9cf968);
  const bytes = String.fromCharCode(...new TextEncoder().encode("币"));
  expect(fnv1a("币")).not.toBe(fnv1a(bytes));
});
