import type { ChartBar } from "../selection.js";

/** The bars of a chart: the server's, of one second or one minute, combined to longer ones. */
export class Candles {
  /** Oldest first; the last one may still be open. */
  readonly bars: ChartBar[] = [];
  private readonly base: ChartBar[] = [];

  /** @param seconds how long a bar is */
  constructor(private readonly seconds: number) {}

  /**
   * Takes new bars, or updates of known ones, in any order.
   *
   * @returns which of `bars` changed, oldest first; null if one appeared in the past, so that all are to be drawn
   */
  add(given: readonly ChartBar[]): ChartBar[] | null {
    const touched = new Set<number>();
    for (const bar of given) {
      put(this.base, bar);
      touched.add(this.bucket(bar.time));
    }
    const before = this.bars.at(-1)?.time ?? -Infinity;
    let ordered = true;
    const changed = [...touched].sort((a, b) => a - b).map((time) => this.together(time));
    for (const bar of changed) {
      const known = put(this.bars, bar);
      if (!known && bar.time < before) ordered = false;
    }
    return ordered ? changed : null;
  }

  private bucket(time: number): number {
    return Math.floor(time / this.seconds) * this.seconds;
  }

  /** The bar that begins at `time`, of all that are known of it. */
  private together(time: number): ChartBar {
    let to = this.base.length;
    while (to > 0 && this.base[to - 1]!.time >= time + this.seconds) to--;
    let from = to;
    while (from > 0 && this.base[from - 1]!.time >= time) from--;
    const parts = this.base.slice(from, to);
    return {
      time,
      open: parts[0]!.open,
      high: Math.max(...parts.map(({ high }) => high)),
      low: Math.min(...parts.map(({ low }) => low)),
      close: parts.at(-1)!.close,
      volume: parts.reduce((sum, { volume }) => sum + volume, 0),
    };
  }
}

/** Inserts `bar` by its time; says whether one of that time was there. Nearly always that is the end. */
function put(bars: ChartBar[], bar: ChartBar): boolean {
  let at = bars.length;
  while (at > 0 && bars[at - 1]!.time >= bar.time) at--;
  const known = bars[at]?.time === bar.time;
  bars.splice(at, known ? 1 : 0, bar);
  return known;
}
