/** Of how long ago latencies are spoken of, and of how many at most. */
const WINDOW_MS = 10_000;
const MOST = 4_096;

/** The latencies of the last seconds. */
export class Latencies {
  private readonly samples: { value: number; at: number }[] = [];

  add(value: number, at: number): void {
    // A clock that is behind the server's would tell of a future.
    this.samples.push({ value: Math.max(0, value), at });
    if (this.samples.length > MOST) this.samples.shift();
  }

  /** The value below which each share of `shares` lies; none where nothing came lately. */
  percentiles(shares: readonly number[], now: number): number[] {
    while (this.samples[0] && now - this.samples[0].at > WINDOW_MS) this.samples.shift();
    const sorted = this.samples.map(({ value }) => value).sort((a, b) => a - b);
    if (sorted.length === 0) return [];
    return shares.map(
      (share) => sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)]!,
    );
  }
}
