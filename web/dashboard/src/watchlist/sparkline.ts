/** Points of one line: an hour by the minute, or two minutes of a young market by the second. */
export const POINTS = 60;
export const YOUNG_POINTS = 120;
/** Of the drawing, as in the style sheet. */
export const WIDTH = 72;
export const HEIGHT = 16;
const MARGIN = 2;

/** The recent course of one price, for its sparkline. The newest point is the current price. */
export class Trend {
  private readonly points: number[] = [];
  private newestBegan = 0;
  private pointMs = 60_000;
  /** Changes when there is something new to draw. */
  version = 0;
  /** When history last came, on the clock of {@link note}. */
  seededAt = -Infinity;

  get values(): readonly number[] {
    return this.points;
  }

  /** Notes the price at `now`, in ms of any clock. */
  note(value: number, now: number): void {
    const last = this.points.length - 1;
    if (last < 0 || now - this.newestBegan >= this.pointMs) {
      this.points.push(value);
      this.newestBegan = now;
      if (this.points.length > this.most) this.points.shift();
    } else {
      if (this.points[last] === value) return;
      this.points[last] = value;
    }
    this.version++;
  }

  /** Puts `closes`, oldest first, before what was noted. The last one is the current time's. From then on there is a point for each `every`. */
  seed(closes: readonly number[], now: number, every: "minute" | "second"): void {
    const newest = this.points.at(-1);
    this.pointMs = every === "minute" ? 60_000 : 1_000;
    this.points.length = 0;
    this.points.push(...closes.slice(-this.most));
    if (newest !== undefined && this.points.length > 0)
      this.points[this.points.length - 1] = newest;
    this.newestBegan = now;
    this.seededAt = now;
    this.version++;
  }

  private get most(): number {
    return this.pointMs === 1_000 ? YOUNG_POINTS : POINTS;
  }
}

/** The line through `values` from left to right, and a thin one at `base`, as paths; empty if there is none. */
export function trendPaths(
  values: readonly number[],
  base: number | null,
): { line: string; base: string } {
  if (values.length < 2) return { line: "", base: "" };
  const low = Math.min(...values);
  const high = Math.max(...values);
  const span = high - low || 1;
  const y = (value: number) => HEIGHT - MARGIN - ((value - low) / span) * (HEIGHT - 2 * MARGIN);
  const step = (WIDTH - MARGIN) / (values.length - 1);
  const points = values.map((value, i) => `${(i * step).toFixed(1)} ${y(value).toFixed(1)}`);
  const between = base !== null && base >= low && base <= high;
  return {
    line: `M${points.join("L")}`,
    base: between ? `M0 ${Math.round(y(base)) + 0.5}H${WIDTH}` : "",
  };
}
