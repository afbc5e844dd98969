/**
 * A cell flashes again only after this long, and not all after the same time: else a busy market would
 * pulse in unison. Well below the three flashes a second of WCAG 2.3.1.
 */
const SHORTEST_INTERVAL_MS = 700;
const LONGEST_INTERVAL_MS = 1_500;
/** It holds its tint, fades in one step, and ends. Steps cost two repaints, a smooth fade one a frame. */
const HOLD_MS = 260;
const FADE_MS = 420;
/** Without motion: a mark that is shown for a moment. */
const STILL_MS = 1_000;

export type FlashMode = "fade" | "still" | "off";

/** All cells that are tinted now, in the order in which they began. */
export class Flashes {
  mode: FlashMode = "fade";
  private readonly running: Flash[] = [];

  /** Whether any cell is still tinted. */
  get pending(): boolean {
    return this.running.length > 0;
  }

  /**
   * Tints `cell` for a change in `direction`, unless it was tinted a moment ago. A tint of the other direction
   * is removed at once: it would contradict the arrow next to the price.
   */
  start(cell: FlashCell, direction: number, now: number): void {
    if (this.mode === "off" || direction === 0) return;
    if (now < cell.readyAt) {
      if (this.running.some((flash) => flash.cell === cell && flash.up !== direction > 0))
        this.stop(cell);
      return;
    }
    const spread = LONGEST_INTERVAL_MS - SHORTEST_INTERVAL_MS;
    cell.readyAt = now + SHORTEST_INTERVAL_MS + Math.random() * spread;
    const way = direction > 0 ? "up" : "down";
    cell.tint(this.mode === "still" ? `still-${way}` : `flash-${way}`);
    this.running.push({ cell, up: direction > 0, began: now, faded: this.mode === "still" });
  }

  /** Fades and removes what is due. */
  paint(now: number): void {
    const lasts = this.mode === "still" ? STILL_MS : FADE_MS;
    while (this.running[0] && now - this.running[0].began >= lasts)
      this.running.shift()!.cell.tint("");
    for (const flash of this.running) {
      if (now - flash.began < HOLD_MS) break;
      if (flash.faded) continue;
      flash.faded = true;
      flash.cell.tint("fading");
    }
  }

  /** Removes the tint of `cell` at once: it shows another value than the one that changed. */
  stop(cell: FlashCell): void {
    const at = this.running.findIndex((flash) => flash.cell === cell);
    if (at < 0) return;
    this.running.splice(at, 1);
    cell.tint("");
  }
}

interface Flash {
  readonly cell: FlashCell;
  readonly up: boolean;
  readonly began: number;
  faded: boolean;
}

/** What can flash. */
export interface FlashCell {
  readyAt: number;
  /** @param tint `flash-up`, `flash-down`, `still-up`, `still-down`, `fading`, or empty for none */
  tint(tint: string): void;
}
