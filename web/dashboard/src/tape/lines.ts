import type { TapeLine } from "../selection.js";

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

function sizeOf({ trade, instrument }: Extract<TapeLine, { kind: "trade" }>): number {
  return trade.size / 10 ** instrument.size_scale;
}
