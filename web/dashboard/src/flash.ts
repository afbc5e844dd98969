/** At most two flashes a second in one cell: calm, and below the three of WCAG 2.3.1. */
export const FLASH_INTERVAL_MS = 500;
const FLASH_MS = 450;

/** Tints one cell when its value moves, and says whether it did. */
export class Flash {
  private lastAt = -Infinity;

  constructor(private readonly cell: HTMLElement) {}

  /** @param direction of the change: positive is up */
  move(direction: number, now: number): boolean {
    if (direction === 0 || now - this.lastAt < FLASH_INTERVAL_MS) return false;
    this.lastAt = now;
    const tint = direction > 0 ? "var(--flash-up)" : "var(--flash-down)";
    const frames = reducedMotion.matches
      ? // No fade: a mark that stands for a moment and goes.
        { boxShadow: [`inset 2px 0 ${tint}`, `inset 2px 0 ${tint}`], easing: "steps(1)" }
      : { backgroundColor: [tint, tint, "transparent"], offset: [0, 0.3, 1] };
    this.cell.animate(frames, FLASH_MS);
    return true;
  }
}

const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
