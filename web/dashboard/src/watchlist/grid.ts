import type { Row } from "../market.js";
import { ROW_MARGIN, type PlacedColumn } from "./columns.js";
import { Flashes } from "./flash.js";
import { GridRow, type RowContext } from "./grid-row.js";

/** Rows kept ready above and below those in sight, so that scrolling shows no blanks. */
const OVERSCAN = 4;
/** Further rows above and below that are subscribed: they have their quotes when they scroll into sight. */
const WATCHED_MARGIN = 20;

/**
 * The body of the watchlist: only the rows in sight are in the document, and only cells whose text
 * changed are written. The cost of a grid is layout, not script.
 */
export class Grid {
  readonly flashes = new Flashes();
  private rows: readonly Row[] = [];
  private positions = new Map<Row, number>();
  private pool: GridRow[] = [];
  private columns: readonly PlacedColumn[] = [];
  private rowHeight = 20;
  /** Of the head, which stays above the rows. */
  private headHeight = 26;
  private active: Row | null = null;
  private selected: Row | null = null;
  private seenFrom = 0;

  /**
   * @param viewport scrolls, @param canvas is inside it, as high as all rows together,
   * @param context is what rows need to be written
   */
  constructor(
    private readonly viewport: HTMLElement,
    private readonly canvas: HTMLElement,
    private readonly context: Omit<RowContext, "flashes">,
  ) {}

  /** Shows `rows` in this order. */
  arrange(rows: readonly Row[]): void {
    this.rows = rows;
    this.positions = new Map(rows.map((row, position) => [row, position]));
    this.resizeCanvas();
  }

  /** Shows these columns, in rows of this height under a head of that. */
  layOut(columns: readonly PlacedColumn[], rowHeight: number, headHeight: number): void {
    this.headHeight = headHeight;
    const widths = columns.map(({ width }) => `${width}px`).join(" ");
    this.viewport.style.setProperty("--columns", widths);
    const width = columns.reduce((sum, column) => sum + column.width, 0);
    this.viewport.style.setProperty("--row-width", `${width}px`);
    this.viewport.classList.toggle("wide", width + 2 * ROW_MARGIN > this.viewport.clientWidth);
    const same =
      rowHeight === this.rowHeight &&
      columns.length === this.columns.length &&
      columns.every(({ column, tight }, i) => {
        const before = this.columns[i]!;
        return column === before.column && tight === before.tight;
      });
    this.columns = columns;
    if (same) return;
    // The row at the top stays at the top.
    const top = this.viewport.scrollTop / this.rowHeight;
    this.rowHeight = rowHeight;
    this.canvas.replaceChildren();
    this.pool = [];
    this.resizeCanvas();
    this.viewport.scrollTop = top * rowHeight;
  }

  mark(active: Row | null, selected: Row | null): void {
    this.active = active;
    this.selected = selected;
  }

  /** Places the rows that are in sight now, and writes the cells that changed; all of them if `dirty` is null. */
  paint(dirty: ReadonlySet<Row> | null, now: number): void {
    const { scrollTop, clientHeight } = this.viewport;
    let seen = Math.ceil(clientHeight / this.rowHeight) + 1 + 2 * OVERSCAN;
    seen += seen % 2; // so that every other row is always every other index of the pool
    if (this.pool.length < seen) this.growPool(seen);
    const count = this.pool.length;
    const top = Math.max(0, Math.floor(scrollTop / this.rowHeight) - OVERSCAN);
    const first = Math.max(0, Math.min(top, this.rows.length - count));
    this.seenFrom = first;
    for (let position = first; position < first + count; position++) {
      // A row keeps its index in the pool while it stays in sight, whatever scrolls past it.
      const pooled = this.pool[position % count]!;
      const row = this.rows[position];
      const moved = pooled.place(row, position, this.rowHeight);
      if (!row) continue;
      pooled.mark(row === this.active, row === this.selected);
      if (moved || !dirty || dirty.has(row)) pooled.write(row, now);
    }
    this.flashes.paint(now);
  }

  /** Marks the rows in sight that have fallen silent. */
  paintAges(now: number): void {
    for (const pooled of this.pool) pooled.writeAge(now);
  }

  /** The rows that are in the document: those in sight, and a margin. */
  get shown(): readonly Row[] {
    return this.rows.slice(this.seenFrom, this.seenFrom + this.pool.length);
  }

  /** Symbols of the rows in sight, and of as many before and after as a quick scroll covers. */
  watched(): string[] {
    const from = Math.max(0, this.seenFrom - WATCHED_MARGIN);
    const to = this.seenFrom + this.pool.length + WATCHED_MARGIN;
    return this.rows.slice(from, to).map((row) => row.instrument.symbol);
  }

  /** Whether `row` is in sight, at least in part. */
  sees(row: Row): boolean {
    const position = this.positions.get(row);
    if (position === undefined) return false;
    const top = position * this.rowHeight;
    const { scrollTop, clientHeight } = this.viewport;
    return top + this.rowHeight > scrollTop && top < scrollTop + clientHeight - this.headHeight;
  }

  /** Scrolls just enough to show all of `row`. */
  reveal(row: Row): void {
    const position = this.positions.get(row);
    if (position === undefined) return;
    const top = position * this.rowHeight;
    const { scrollTop } = this.viewport;
    const height = this.viewport.clientHeight - this.headHeight;
    if (top < scrollTop) this.viewport.scrollTop = top;
    else if (top + this.rowHeight > scrollTop + height)
      this.viewport.scrollTop = top + this.rowHeight - height;
  }

  /** Rows that fit the view: how far a page key goes. */
  pageLength(): number {
    return Math.max(1, Math.floor(this.viewport.clientHeight / this.rowHeight) - 2);
  }

  position(row: Row | null): number {
    return (row && this.positions.get(row)) ?? -1;
  }

  at(position: number): Row | undefined {
    return this.rows[position];
  }

  get length(): number {
    return this.rows.length;
  }

  /** The row that contains `target` of an event. */
  rowOf(target: EventTarget | null): Row | undefined {
    const element = target instanceof Element ? target.closest('[role="row"]') : null;
    return this.pool.find((pooled) => pooled.element === element)?.row;
  }

  /** Id of the element that shows `row`, for `aria-activedescendant`. */
  idOf(row: Row | null): string | undefined {
    return row ? this.pool.find((pooled) => pooled.row === row)?.element.id : undefined;
  }

  private resizeCanvas(): void {
    this.canvas.style.height = `${this.rows.length * this.rowHeight}px`;
  }

  private growPool(length: number): void {
    const context = { ...this.context, flashes: this.flashes };
    while (this.pool.length < length) {
      const row = new GridRow(this.pool.length, this.columns, context);
      this.pool.push(row);
      this.canvas.append(row.element);
    }
    // The number of pooled rows decides which row shows what: place all of them again.
    for (const pooled of this.pool) pooled.row = undefined;
  }
}
