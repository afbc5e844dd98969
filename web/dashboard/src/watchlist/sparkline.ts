/** Points of one line: an hour by the minute. */
export const POINTS = 60;
const POINT_MS = 60_000;

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

/** Draws `values` into the whole of `canvas`, from left to right, with a thin line where `base` is. */
export function drawTrend(
  canvas: HTMLCanvasElement,
  values: readonly number[],
  base: number | null,
  colours: { up: string; down: string; base: string },
): void {
  const context = canvas.getContext("2d");
  if (!context) return;
  const { width, height } = canvas;
  context.clearRect(0, 0, width, height);
  if (values.length < 2) return;
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const ratio = devicePixelRatio || 1;
  const margin = 2 * ratio;
  const span = high - low || 1;
  const y = (value: number) => height - margin - ((value - low) / span) * (height - 2 * margin);
  const step = (width - margin) / (values.length - 1);
  if (base !== null && base >= low && base <= high) {
    context.fillStyle = colours.base;
    context.fillRect(0, Math.round(y(base)), width, ratio);
  }
  context.beginPath();
  values.forEach((value, i) => context.lineTo(i * step, y(value)));
  context.strokeStyle = values.at(-1)! >= values[0]! ? colours.up : colours.down;
  context.lineWidth = 1.25 * ratio;
  context.lineJoin = "round";
  context.stroke();
}
