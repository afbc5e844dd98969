/**
 * One timer for a deadline that moves.
 *
 * Invariant: it rings no later than the deadline last given. It may ring early: if the deadline moves away, as with
 * each frame, one needless ring is cheaper than a new timer.
 */

import type { Clock } from "./clock.js";

export class Alarm {
  private set: { readonly at: number; cancel(): void } | null = null;

  /** @param ring receives the time: at least that for which it was set, though timers may fire a little early */
  constructor(
    private readonly clock: Clock,
    private readonly ring: (now: number) => void,
  ) {}

  /** @param at Infinity for never: then no timer keeps the program running */
  arm(at: number): void {
    if (this.set && this.set.at <= at && at !== Infinity) return;
    this.set?.cancel();
    this.set = null;
    if (at === Infinity) return;
    const cancel = this.clock.after(Math.max(0, at - this.clock.now()), () => {
      this.set = null;
      this.ring(Math.max(at, this.clock.now()));
    });
    this.set = { at, cancel };
  }
}
