/** Rates to request, fastest first: the server flushes all sessions of one rate together. */
const RATES = [60, 30, 20, 10] as const;
/** Frames per judgement. */
const FRAMES = 60;
/** A rate is kept while frames exceed its interval by no more than this share. */
const SLACK = 1.35;
/** Judgements in favour of a faster rate before it is taken. */
const PATIENCE = 3;

/** How many updates a second this page can draw, from the duration of its frames. */
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
    // Slower at once; faster only after a while, since a faster rate is what makes frames slow.
    if (fits <= this.hz) {
      this.favourable = 0;
      this.hz = fits;
    } else if (++this.favourable >= PATIENCE) {
      this.favourable = 0;
      this.hz = RATES[RATES.indexOf(this.hz as (typeof RATES)[number]) - 1]!;
    }
  }
}
