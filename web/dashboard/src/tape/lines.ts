import { price, size, toNumber } from "@tickcast/client";
import { formatNumber, formatVolume } from "../format.js";
import type { TapeLine } from "../selection.js";
import type { Longest } from "./layout.js";

/** Trades of at least `smallest`, and every gap: what is missing may have been of any size. */
export function filterLines(lines: readonly TapeLine[], smallest: number): readonly TapeLine[] {
  if (smallest <= 0) return lines;
  return lines.filter((line) => line.kind === "gap" || sizeOf(line) >= smallest);
}

/** How many trades of `lines`, which begin with the newest, came after the newest one of `held`. */
export function newSince(lines: readonly TapeLine[], held: readonly TapeLine[]): number {
  const newest = held.find((line) => line.kind === "trade");
  const known = newest?.kind === "trade" ? newest.trade.number : -1;
  let count = 0;
  for (const line of lines) {
    if (line.kind !== "trade") continue;
    if (line.trade.number <= known) break;
    count++;
  }
  return count;
}

export const NOTHING_LONG: Longest = { price: 6, size: 4, briefSize: 4, conditions: 0 };

const measured = new WeakSet<TapeLine>();

/** The longest texts of `lines`, which begin with the newest, and of what was `known` before. Each line is looked at once. */
export function longest(lines: readonly TapeLine[], known: Longest): Longest {
  const isNew = known === NOTHING_LONG;
  // A new object, so that not all lines are looked at again.
  let found = isNew ? { ...known } : known;
  for (const line of lines) {
    if (line.kind !== "trade") continue;
    if (!isNew && measured.has(line)) break;
    measured.add(line);
    const { trade, instrument } = line;
    const whole = size(instrument, trade.size);
    const lengths = {
      price: formatNumber(price(instrument, trade.price)).length,
      size: formatNumber(whole).length,
      briefSize: formatVolume(whole).length,
      conditions: trade.conditions.length,
    };
    if (
      lengths.price > found.price ||
      lengths.size > found.size ||
      lengths.briefSize > found.briefSize ||
      lengths.conditions > found.conditions
    )
      found = {
        price: Math.max(found.price, lengths.price),
        size: Math.max(found.size, lengths.size),
        briefSize: Math.max(found.briefSize, lengths.briefSize),
        conditions: Math.max(found.conditions, lengths.conditions),
      };
  }
  return found;
}

function sizeOf({ trade, instrument }: Extract<TapeLine, { kind: "trade" }>): number {
  return toNumber(size(instrument, trade.size));
}
