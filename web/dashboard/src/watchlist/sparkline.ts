/** Points of one line: an hour by the minute. */
export const POINTS = 60;
const POINT_MS = 60_000;
/** Of the drawing, as in the style sheet. */
export const WIDTH = 72;
export const HEIGHT = 16;
const MARGIN = 2;

/** The last hour of one price as it is drawn small. The newest point is the price now. */
export class Trend {
  private readonly points: number[] = [];
  private newestBegan = 0;
  /** Changes when there is something new to draw. */
  version = 0;

  get values(): readonly number[] {
    return this.points;
  }

  /** Notes the price at `now`, in ms of any clock. */
  note(value: number, now: number): void {
    const last = this.points.length - 1;
    if (last < 0 || now - this.newestBegan >= POINT_MS) {
      this.points.push(value);
      this.newestBegan = now;
      if (this.points.length > POINTS) this.points.shift();
    } else {
      if (this.points[last] === value) return;
      this.points[last] = value;
    }
    this.version++;
  }

  /** Puts `closes`, oldest first, in front of what was noted. The last one is of the time now. */
  seed(closes: readonly number[], now: number): void {
    const newest = this.points.at(-1);
    this.points.length = 0;
    this.points.push(...closes.slice(-POINTS));
    if (newest !== undefined && this.points.length > 0)
      this.points[this.points.length - 1] = newest;
    this.newestBegan = now;
    this.version++;
  }
}

/** The line through `values` from left to right, and a thin one where `base` is, as paths; empty where there is none. */
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
