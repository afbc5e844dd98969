import { symbolOf } from "@tickcast/client";
import type { Link } from "../data/link.js";

/** How long a row shows that trades of it were missed. */
const SHOWN_MS = 30_000;

/** Which instruments' trades or bars were lost to this page lately, and how many. */
export class Gaps {
  private readonly gaps = new Map<string, { missed: number; until: number }>();

  constructor(link: Pick<Link, "on">) {
    link.on("gap", ({ topic, missed }) => this.note(topic, missed, performance.now()));
  }

  note(topic: string, missed: number, now: number): void {
    const symbol = symbolOf(topic) ?? "";
    const known = this.of(symbol, now);
    this.gaps.set(symbol, { missed: known + missed, until: now + SHOWN_MS });
  }

  /** Entries of `symbol` that were missed within the last half minute. */
  of(symbol: string, now = performance.now()): number {
    const gap = this.gaps.get(symbol);
    if (!gap) return 0;
    if (now < gap.until) return gap.missed;
    this.gaps.delete(symbol);
    return 0;
  }
}
