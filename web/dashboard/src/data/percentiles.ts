/** The samples of the last while, and their percentiles. */
export class Percentiles {
  private readonly samples: { readonly value: number; readonly at: number }[] = [];

  /** @param most samples at most that are kept, and none older than `window_ms` */
  constructor(
    private readonly window_ms = 10_000,
    private readonly most = 4_096,
  ) {}

  add(value: number, at: number): void {
    this.samples.push({ value, at });
    if (this.samples.length > this.most) this.samples.shift();
  }

  /** In the order of `shares`, each from 0 to 1; null if nothing came lately. */
  of(shares: readonly number[], now: number): number[] | null {
    while (this.samples[0] && now - this.samples[0].at > this.window_ms) this.samples.shift();
    const sorted = this.samples.map(({ value }) => value).sort((a, b) => a - b);
    if (sorted.length === 0) return null;
    const last = sorted.length - 1;
    return shares.map(
      (share) => sorted[Math.min(last, Math.max(0, Math.ceil(share * sorted.length) - 1))]!,
    );
  }
}
