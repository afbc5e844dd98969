/**
 * The age of what handlers receive: by what they have, and by the server's `lag`.
 *
 * Pure. Invariant: a lag is reported at most once a second, and once when it ends.
 */

/** What is older than this on delivery is lagging. */
const LAGGING_MS = 1_000;
const TOLD_MS = 1_000;

export class LagMeter {
  /** Age of the oldest that handlers have or that is pending for them. */
  handlers_ms = 0;
  /** Age of what is read, as the server reports it. */
  server_ms = 0;
  private toldAt = -Infinity;

  /**
   * What to report if `wasLagging` was reported last.
   *
   * @returns the lag in ms; 0 when it has ended; null for no report
   */
  judge(now: number, wasLagging: boolean): number | null {
    const by = Math.round(Math.max(this.handlers_ms, this.server_ms));
    if (by <= LAGGING_MS) return wasLagging ? 0 : null;
    if (wasLagging && now - this.toldAt < TOLD_MS) return null;
    this.toldAt = now;
    return by;
  }
}
