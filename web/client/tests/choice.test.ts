import fc from "fast-check";
import { expect, test } from "vitest";
import { Choice, STAGGER_MS, type ChoiceOutput } from "../src/choice.js";
import type { TransportName } from "../src/transport.js";

const ORDER: TransportName[] = ["websocket", "sse", "poll"];

/** A choice with what has come of it since the last call of `did`. */
function choosing(remembered: TransportName | null = null) {
  const choice = new Choice(ORDER, remembered);
  let now = 0;
  const outputs: string[] = [];
  const note = (more: ChoiceOutput[]) =>
    outputs.push(
      ...more.map((output) =>
        output.kind === "over"
          ? `over${output.atOnce ? " at once" : ""}`
          : `${output.kind} ${output.name}`,
      ),
    );
  return {
    choice,
    begin: () => note(choice.begin(now)),
    goesOver: (name: TransportName) => note(choice.goesOver(now, name)),
    heard: (name: TransportName) => note(choice.heard(now, name)),
    failed: (name: TransportName) => note(choice.failed(now, name)),
    /** Lets time pass up to each deadline on the way. */
    pass: (ms: number) => {
      const until = now + ms;
      while (choice.deadline <= until) {
        now = choice.deadline;
        note(choice.tick(now));
      }
      now = until;
    },
    did: () => outputs.splice(0).join(", "),
  };
}

test("the first transport is used where it answers, and nothing else is tried", () => {
  const { begin, heard, pass, did, choice } = choosing();
  begin();
  expect(did()).toBe("try websocket");
  pass(STAGGER_MS - 1);
  heard("websocket");
  expect(did()).toBe("take websocket");
  expect(choice.deadline).toBe(Infinity);
});

test("those that do not answer are not waited for, and the first to answer is taken", () => {
  const { begin, heard, pass, did } = choosing();
  begin();
  pass(STAGGER_MS);
  expect(did()).toBe("try websocket, try sse");
  pass(STAGGER_MS);
  heard("poll");
  expect(did()).toBe("try poll, drop websocket, drop sse, take poll");
});

test("one that fails is followed by the next at once, and the last one by the end", () => {
  const { begin, failed, did } = choosing();
  begin();
  failed("websocket");
  failed("sse");
  failed("poll");
  expect(did()).toBe("try websocket, try sse, try poll, over");
});

test("what hangs may still answer when the others have failed", () => {
  const { begin, failed, heard, pass, did } = choosing();
  begin();
  pass(2 * STAGGER_MS);
  failed("sse");
  failed("poll");
  heard("websocket");
  expect(did()).toBe("try websocket, try sse, try poll, take websocket");
});

test("the one that served last is tried first", () => {
  const { begin, failed, heard, did, choice } = choosing("poll");
  begin();
  failed("poll");
  heard("websocket");
  expect(did()).toBe("try poll, try websocket, take websocket");
  expect(choice.last).toBe("websocket");
});

test("a better one is tried now and then, less often each time, and taken at once where it answers", () => {
  const { begin, failed, heard, goesOver, pass, did } = choosing("sse");
  begin();
  heard("sse");
  expect(did()).toBe("try sse, take sse");
  pass(10_000);
  expect(did()).toBe("try websocket");
  failed("websocket");
  pass(19_999);
  expect(did()).toBe("");
  pass(1);
  expect(did()).toBe("try websocket");
  // It hangs.
  pass(5_000);
  expect(did()).toBe("drop websocket");
  pass(40_000);
  heard("websocket");
  expect(did()).toBe("try websocket, drop sse, over at once");
  goesOver("websocket");
  expect(did()).toBe("take websocket");
});

test("where the connection ends, so does the search for a better one", () => {
  const { begin, failed, heard, pass, did } = choosing("poll");
  begin();
  heard("poll");
  pass(10_000);
  failed("poll");
  expect(did()).toBe("try poll, take poll, try websocket, drop websocket, over");
});

test("whatever works is found within two seconds, and one at most is taken", () => {
  const outcome = fc.oneof(
    fc.record({ kind: fc.constant("answers" as const), after: fc.integer({ min: 0, max: 500 }) }),
    fc.record({ kind: fc.constant("fails" as const), after: fc.integer({ min: 0, max: 9_000 }) }),
    fc.record({ kind: fc.constant("hangs" as const), after: fc.constant(0) }),
  );
  fc.assert(
    fc.property(
      fc.tuple(outcome, outcome, outcome),
      fc.constantFrom(null, ...ORDER),
      (outcomes, remembered) => {
        const choice = new Choice(ORDER, remembered);
        const open = new Set<TransportName>();
        const due: { at: number; name: TransportName; answers: boolean }[] = [];
        let taken: { name: TransportName; at: number } | null = null;
        let isOver = false;
        const perform = (now: number, outputs: ChoiceOutput[]) => {
          for (const output of outputs) {
            expect(isOver).toBe(false);
            if (output.kind === "over") isOver = true;
            else if (output.kind === "drop") expect(open.delete(output.name)).toBe(true);
            else if (output.kind === "take") {
              expect(taken).toBe(null);
              taken = { name: output.name, at: now };
            } else {
              expect(open.has(output.name)).toBe(false);
              open.add(output.name);
              const { kind, after } = outcomes[ORDER.indexOf(output.name)]!;
              const at = now + after;
              if (kind !== "hangs")
                due.push({ at, name: output.name, answers: kind === "answers" });
            }
          }
        };
        perform(0, choice.begin(0));
        while (!taken && !isOver) {
          due.sort((a, b) => a.at - b.at);
          const next = due.find(({ name }) => open.has(name));
          const now = Math.min(next?.at ?? Infinity, choice.deadline);
          if (now === Infinity) break;
          if (next && next.at === now) {
            due.splice(due.indexOf(next), 1);
            if (next.answers) perform(now, choice.heard(now, next.name));
            else {
              open.delete(next.name);
              perform(now, choice.failed(now, next.name));
            }
          } else perform(now, choice.tick(now));
        }
        const works = outcomes.some(({ kind }) => kind === "answers");
        const found = taken as { name: TransportName; at: number } | null;
        expect(found !== null).toBe(works);
        if (found) {
          expect(found.at).toBeLessThanOrEqual(2_000);
          expect([...open]).toEqual([found.name]);
        }
        expect(isOver).toBe(outcomes.every(({ kind }) => kind === "fails"));
      },
    ),
  );
});
