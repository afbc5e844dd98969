/**
 * Which of several transports a client uses. They are tried in turn, the later ones soon, since a proxy that blocks one mostly lets its
 * attempt hang; the first that brings a message is taken. One that is not the first of the list is given up for a better one when that
 * gets through after all.
 *
 *            open
 *              │
 *              ▼            a message: the others are dropped
 *     ┌──── trying ─────────────────────────────────────────▶ settled
 *     │      │  ▲                                              │    ▲
 *     │      └──┘ one failed, or 600 ms are over:              │    │ it fails: later again
 *     │           the next one is tried as well                ▼    │
 *     │ all have failed                                       probing a better one
 *     ▼                                                        │
 *    over ◀── the connection ends ── settled, probing          │ a message: the session comes over at once
 *     ▲                                                        │
 *     └────────────────────────────────────────────────────────┘ what was opened serves the next `open`
 *
 * Pure: the time is passed in. Invariant: with three transports one that works is found within two seconds.
 */

import type { TransportName } from "./transport.js";

/** After how long the next transport is tried beside those that have not answered. */
export const STAGGER_MS = 600;
/** How long a probe of a better transport may take. */
const PROBE_MS = 5_000;
/** Between two probes: at first so long, then twice as long each time, up to the longest. */
const FIRST_PROBE_MS = 10_000;
const LONGEST_PROBE_MS = 300_000;

export type ChoiceOutput =
  /** Open it, beside those that are open. */
  | { readonly kind: "try"; readonly name: TransportName }
  | { readonly kind: "drop"; readonly name: TransportName }
  /** What it brings is the session's from here on. */
  | { readonly kind: "take"; readonly name: TransportName }
  /** None is left; or, `atOnce`, a better one is kept for the next `open`. */
  | { readonly kind: "over"; readonly atOnce: boolean };

type State =
  | { readonly kind: "over" }
  | { readonly kind: "trying"; readonly nextAt: number }
  | { readonly kind: "settled"; readonly name: TransportName; readonly probeAt: number }
  | {
      readonly kind: "probing";
      readonly name: TransportName;
      readonly better: TransportName;
      readonly until: number;
    };

export class Choice {
  /** The one that served last, which is tried first; null: none has. */
  last: TransportName | null;
  private state: State = { kind: "over" };
  /** Not tried yet in this attempt, and those that have neither answered nor failed. */
  private untried: TransportName[] = [];
  private open: TransportName[] = [];
  private probeAfter = FIRST_PROBE_MS;

  /** @param order the best first */
  constructor(
    private readonly order: readonly TransportName[],
    remembered: TransportName | null,
  ) {
    this.last = remembered !== null && order.includes(remembered) ? remembered : null;
  }

  /** When to pass in the next {@link tick}; Infinity for never. */
  get deadline(): number {
    switch (this.state.kind) {
      case "trying":
        return this.state.nextAt;
      case "settled":
        return this.state.probeAt;
      case "probing":
        return this.state.until;
      default:
        return Infinity;
    }
  }

  /** A session wants a connection. */
  begin(now: number): ChoiceOutput[] {
    const first = this.last ?? this.order[0]!;
    this.untried = [first, ...this.order.filter((name) => name !== first)];
    this.open = [];
    return this.next(now);
  }

  /** A session has come over to what was probed. */
  goesOver(now: number, name: TransportName): ChoiceOutput[] {
    this.open = [name];
    return this.settle(now, name);
  }

  heard(now: number, name: TransportName): ChoiceOutput[] {
    const { state } = this;
    if (state.kind === "trying" && this.open.includes(name)) return this.settle(now, name);
    if (state.kind !== "probing" || name !== state.better) return [];
    this.state = { kind: "over" };
    this.probeAfter = FIRST_PROBE_MS;
    return [
      { kind: "drop", name: state.name },
      { kind: "over", atOnce: true },
    ];
  }

  failed(now: number, name: TransportName): ChoiceOutput[] {
    const { state } = this;
    this.open = this.open.filter((other) => other !== name);
    switch (state.kind) {
      case "trying":
        return this.untried.length > 0 ? this.next(now) : this.open.length > 0 ? [] : this.end();
      case "settled":
        return name === state.name ? this.end() : [];
      case "probing":
        if (name === state.better) return this.wait(now, state.name);
        return name === state.name ? [{ kind: "drop", name: state.better }, ...this.end()] : [];
      default:
        return [];
    }
  }

  tick(now: number): ChoiceOutput[] {
    const { state } = this;
    if (now < this.deadline) return [];
    switch (state.kind) {
      case "trying":
        return this.next(now);
      case "settled": {
        const better = this.order[0]!;
        this.state = { kind: "probing", name: state.name, better, until: now + PROBE_MS };
        return [{ kind: "try", name: better }];
      }
      case "probing":
        return [{ kind: "drop", name: state.better }, ...this.wait(now, state.name)];
      default:
        return [];
    }
  }

  /** The session wants no connection any more. */
  close(): void {
    this.state = { kind: "over" };
  }

  private next(now: number): ChoiceOutput[] {
    const name = this.untried.shift();
    const nextAt = this.untried.length > 0 ? now + STAGGER_MS : Infinity;
    this.state = { kind: "trying", nextAt };
    if (name === undefined) return [];
    this.open.push(name);
    return [{ kind: "try", name }];
  }

  private settle(now: number, name: TransportName): ChoiceOutput[] {
    const others = this.open.filter((other) => other !== name);
    this.open = [name];
    this.last = name;
    const probeAt = name === this.order[0] ? Infinity : now + this.probeAfter;
    this.state = { kind: "settled", name, probeAt };
    return [...others.map((name) => ({ kind: "drop", name }) as const), { kind: "take", name }];
  }

  private wait(now: number, name: TransportName): ChoiceOutput[] {
    this.probeAfter = Math.min(2 * this.probeAfter, LONGEST_PROBE_MS);
    this.state = { kind: "settled", name, probeAt: now + this.probeAfter };
    return [];
  }

  private end(): ChoiceOutput[] {
    this.state = { kind: "over" };
    return [{ kind: "over", atOnce: false }];
  }
}
