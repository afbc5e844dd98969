import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  curl,
  json,
  messages,
  operations,
  resolve,
  rows,
  typeName,
  type AsyncApi,
  type OpenApi,
} from "../src/docs/documents.js";

const open = JSON.parse(
  readFileSync(new URL("../../../docs/openapi.json", import.meta.url), "utf8"),
) as OpenApi;
const all = operations(open);

function operation(id: string) {
  return all.find((one) => one.id === id)!;
}

describe("the page that describes the server", () => {
  it("has a line for a shell that asks with the examples of the parameters", () => {
    const base = "https://desk.example/market/";
    expect(curl(base, operation("quotes"))).toBe(
      "curl 'https://desk.example/market/v1/quotes?symbols=AAPL,MSFT'",
    );
    expect(curl(base, operation("barsOfOne"))).toBe(
      "curl 'https://desk.example/market/v1/bars/AAPL?interval=1m&limit=10'",
    );
    expect(curl(base, operation("control"))).toBe(
      `curl -H 'Content-Type: application/json' --data-binary '{ "action": "pause" }' 'https://desk.example/market/v1/replay'`,
    );
    expect(curl(base, operation("webSocket"))).toBe(
      "websocat 'wss://desk.example/market/v1/ws?topics=quote:AAPL,trades:AAPL&format=json'",
    );
    expect(curl(base, operation("lines"))).toBe(
      "curl -N 'https://desk.example/market/v1/lines?topics=quote:AAPL,trades:AAPL'",
    );
    expect(curl("http://it's/", operation("healthz"))).toBe(`curl 'http://it'\\''s/healthz'`);
  });

  it("shows every operation, with its parameters and its answers", () => {
    const paths = Object.values(open.paths).flatMap((methods) => Object.keys(methods));
    expect(all.length).toBe(paths.length);
    const tags = open.tags.map(({ name }) => name);
    for (const { tag, summary, id } of all) {
      expect(tags, id).toContain(tag);
      expect(summary, id).not.toBe("");
    }
    expect(operation("trades").parameters.map(({ name }) => name)).toEqual([
      "symbols",
      "start",
      "end",
      "sort",
      "limit",
      "page_token",
      "format",
      "room",
    ]);
    expect(operation("trades").answers.map(({ type }) => type)).toEqual([
      "application/json",
      "application/x-ndjson",
      "text/csv",
    ]);
  });

  it("follows references, and names types in a few words", () => {
    const document = { a: { "b/c": { type: "string", description: "A word." } } };
    const reference = { $ref: "#/a/b~1c" };
    expect(resolve(document, reference)).toEqual({ type: "string", description: "A word." });
    const name = (schema: Parameters<typeof typeName>[1]) => typeName(document, schema);
    expect(name(reference)).toBe("string");
    expect(name({ type: "array", items: reference })).toBe("string[]");
    expect(name({ type: ["integer", "null"] })).toBe("integer | null");
    expect(name({ anyOf: [reference, { type: "null" }] })).toBe("string | null");
    expect(name({ enum: ["asc", "desc"] })).toBe('"asc" | "desc"');
    expect(name({ const: true })).toBe("true");
    expect(name({})).toBe("any");
    const fields = { properties: { x: reference, y: { type: "boolean" } }, required: ["y"] };
    expect(rows(document, fields)).toEqual([
      { name: "x", type: "string", required: false, about: "A word." },
      { name: "y", type: "boolean", required: true, about: "" },
    ]);
  });

  it("tells what clients send from what they get", () => {
    const message = {
      name: "ping",
      summary: "",
      payload: {},
      examples: [{ name: "one", payload: { op: "ping" } }],
    };
    const document = {
      components: {
        messages: { "request.ping": message, "answer.pong": { ...message, name: "pong" } },
        schemas: {},
      },
    } satisfies AsyncApi;
    const told = messages(document);
    expect(told.map(({ name, isRequest }) => [name, isRequest])).toEqual([
      ["ping", true],
      ["pong", false],
    ]);
    expect(told[0]!.examples).toEqual([{ name: "one", text: '{ "op": "ping" }' }]);
  });

  it("writes JSON that is the same JSON, and fits where it can", () => {
    for (const { answers } of all) {
      for (const { type, example } of answers) {
        if (type !== "application/json" || example === null) continue;
        expect(() => JSON.parse(example) as unknown).not.toThrow();
        expect(example.split("\n").every((line) => line.length <= 110)).toBe(true);
      }
    }
    expect(json({ a: [1, 2], b: {} })).toBe('{ "a": [1, 2], "b": {} }');
    expect(json({ a: "x".repeat(50), b: ["y".repeat(60)] })).toBe(
      `{\n  "a": "${"x".repeat(50)}",\n  "b": ["${"y".repeat(60)}"]\n}`,
    );
  });
});
