/**
 * A cell flashes again only after this long, and not all after the same time: a busy market would
 * pulse as one. Well below the three flashes a second of WCAG 2.3.1.
 */
const SHORTEST_INTERVAL_MS = 700;
const LONGEST_INTERVAL_MS = 1_500;
const FLASH_MS = 400;

/** Tints one cell when its value moves, and says whether it did. */
export class Flash {
  private readyAt = -Infinity;

  constructor(private readonly cell: HTMLElement) {}

  /** @param direction of the change: positive is up */
  move(direction: number, now: number): boolean {
    if (direction === 0 || now < this.readyAt) return false;
    const spread = LONGEST_INTERVAL_MS - SHORTEST_INTERVAL_MS;
    this.readyAt = now + SHORTEST_INTERVAL_MS + Math.random() * spread;
    const tint = direction > 0 ? "var(--flash-up)" : "var(--flash-down)";
    const frames = reducedMotion.matches
      ? // No fade: a mark that stands for a moment and goes.
        { boxShadow: [`inset 2px 0 ${tint}`, `inset 2px 0 ${tint}`], easing: "steps(1)" }
      : { backgroundColor: [tint, "transparent"], easing: "ease-out" };
    this.cell.animate(frames, FLASH_MS);
    return true;
  }
}

const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
