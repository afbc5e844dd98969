import type { Market, Row } from "../market.js";

/**
 * What is shown of the market: its current state, or, while the display is paused, its state then.
 *
 * Data keep flowing while it is paused, so that resuming is a jump to now without a backlog.
 */
export class Display {
  /** The rows as they were when the display was paused; null while it is not. */
  private frozen: Map<Row, Row> | null = null;
  private pausedAt = 0;

  constructor(private readonly market: Market) {}

  get paused(): boolean {
    return this.frozen !== null;
  }

  /** Updates that came since it was paused. */
  get behind(): number {
    return this.frozen ? this.market.changes - this.pausedAt : 0;
  }

  pause(): void {
    if (this.frozen) return;
    this.pausedAt = this.market.changes;
    this.frozen = new Map(this.market.rows.map((row) => [row, snapshot(row)]));
  }

  resume(): void {
    this.frozen = null;
  }

  /** `row` as it is to be shown. A row that came since the pause is shown without prices. */
  view(row: Row): Row {
    if (!this.frozen) return row;
    return (
      this.frozen.get(row) ?? { ...row, quote: {}, day: {}, tick: 0, lastSeen: null, time: null }
    );
  }
}

/** The images of a row change in place: a copy does not. */
function snapshot(row: Row): Row {
  return { ...row, quote: { ...row.quote }, day: { ...row.day } };
}
