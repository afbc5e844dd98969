/** Rates that are asked for, fastest first: of one rate the server flushes all sessions together. */
const RATES = [60, 30, 20, 10] as const;
/** Frames that a judgement is made of. */
const FRAMES = 60;
/** A rate is kept as long as frames are not slower than this share beyond its interval. */
const SLACK = 1.35;
/** Judgements in favour of a faster rate that it takes. */
const PATIENCE = 3;

/** How many updates a second this page can draw, going by how long its frames take. */
export class DisplayPace {
  hz: number = RATES[0];
  private frames: number[] = [];
  private favourable = 0;

  /** @param ms from one frame to the one right after it */
  add(ms: number): void {
    this.frames.push(ms);
    if (this.frames.length < FRAMES) return;
    const sorted = this.frames.sort((a, b) => a - b);
    const usual = sorted[Math.floor(0.75 * FRAMES)]!;
    this.frames = [];
    const fits = RATES.find((hz) => usual <= (1_000 / hz) * SLACK) ?? RATES.at(-1)!;
    // Slower at once; faster only when it has lasted, since a faster rate is what makes frames slow.
    if (fits <= this.hz) {
      this.favourable = 0;
      this.hz = fits;
    } else if (++this.favourable >= PATIENCE) {
      this.favourable = 0;
      this.hz = RATES[RATES.indexOf(this.hz as (typeof RATES)[number]) - 1]!;
    }
  }
}
