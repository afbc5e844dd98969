/**
 * What is pending for one consumer of updates, merged: the newest values of images, the entries of rings in order.
 *
 * Pure. Invariant: memory is bounded by the instruments and the entries kept of rings, however much is added; each entry
 * of a ring is taken once, or reported as lost once.
 */

import { isRun } from "./change.js";
import { Conflation, entriesOf, ringTopic } from "./conflation.js";
import type { Topic, Update } from "./protocol.js";

export class Pending {
  /** When the oldest pending item arrived; null if nothing is pending. */
  since: number | null = null;
  private readonly merged: Conflation;
  /** The only pending update: it is delivered as it came. */
  private lone: Update | null = null;
  private newest: Update | null = null;

  /**
   * @param entries of a ring that wait at most
   * @param lost receives the entries that the consumer does not
   */
  constructor(
    entries: number | undefined,
    private readonly lost: (topic: Topic, entries: number) => void,
  ) {
    this.merged = new Conflation(entries, lost);
  }

  add(update: Update, arrivedAt: number): void {
    this.since ??= arrivedAt;
    if (this.newest === null) {
      this.lone = update;
    } else {
      if (this.lone) this.merged.add(this.lone);
      this.lone = null;
      this.merged.add(update);
    }
    this.newest = update;
  }

  /** All that is pending, as one update. */
  take(): Update | null {
    const { newest, lone } = this;
    this.lone = this.newest = this.since = null;
    if (!newest) return null;
    return lone ?? this.merged.take() ?? { ...newest, changes: [] };
  }

  /** What is pending is void: its entries of rings are reported as lost. */
  drop(): void {
    for (const change of this.take()?.changes ?? [])
      if (isRun(change)) this.lost(ringTopic(change), entriesOf(change).length);
  }
}
