import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

/** What decides must be given the time, and has nothing of the world. */

const SOURCES = new URL("../src/", import.meta.url);
const WORLD =
  /\b(setTimeout|setInterval|setImmediate|queueMicrotask|performance|Date\.now|Math\.random|Promise|async|await|new WebSocket|AbortController|document|globalThis|fetch\()/;

/** A file without its comments. */
function code(file: string): string {
  return readFileSync(new URL(file, SOURCES), "utf8").replace(/\/\*[^]*?\*\/|\/\/.*/g, "");
}

/** The files that `file` needs when it runs, itself among them: what is only a type is not. */
function needed(file: string, known = new Set<string>()): Set<string> {
  if (known.has(file)) return known;
  known.add(file);
  for (const [, what, path] of code(file).matchAll(/import ([^;]*?) from "\.\/(.*?)\.js"/g))
    if (!what!.startsWith("type ")) needed(`${path}.ts`, known);
  return known;
}

test.each([
  ["session.ts", 12],
  ["pending.ts", 2],
  ["choice.ts", 1],
])("%s and what it needs are pure", (file, least) => {
  const files = [...needed(file)];
  expect(files.length).toBeGreaterThanOrEqual(least);
  for (const file of files) expect([file, WORLD.exec(code(file))?.[0]]).toEqual([file, undefined]);
});

test("the shell is not", () => expect(WORLD.test(code("shell.ts"))).toBe(true));
