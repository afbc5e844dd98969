/**
 * Why connections fail, as far as other means show it.
 *
 * Pure. Invariant: at most one search runs, and none begins within ten seconds of the one before.
 */

export interface Why {
  readonly code: number;
  readonly reason: string;
}

/** The least time between two searches. */
const EXPLAIN_MS = 10_000;

export class Explanation {
  /** What was found; null before. */
  found: string | null = null;
  private startedAt = -Infinity;
  private searching: Why | null = null;

  get isSearched(): boolean {
    return this.searching !== null;
  }

  /** Returns whether a search is to begin. */
  search(now: number, why: Why): boolean {
    if (now - this.startedAt < EXPLAIN_MS) return false;
    this.startedAt = now;
    this.searching = why;
    return true;
  }

  /** A search has ended. Returns why there is no connection; null if that is no longer of interest. */
  end(found: string | null): Why | null {
    const { searching } = this;
    if (!searching) return null;
    const reason = found ?? searching.reason;
    this.searching = null;
    this.found = reason;
    return { ...searching, reason };
  }

  /** Gives up a search. Returns whether one ran. */
  forget(): boolean {
    const ran = this.isSearched;
    this.searching = this.found = null;
    this.startedAt = -Infinity;
    return ran;
  }
}
