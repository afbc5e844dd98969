import { COLUMNS, type Column } from "./columns.js";
import { Flash } from "./flash.js";
import type { Row } from "./market.js";

/** Height of every row, as in the style sheet. */
export const ROW_HEIGHT = 22;
/** Height of the head, which stays above the rows. */
const HEAD_HEIGHT = 24;
/** Rows kept ready above and below what is seen, so that scrolling shows no blanks. */
const OVERSCAN = 6;

/**
 * The body of the watchlist: only the rows that are seen are in the document, and only cells whose text
 * changed are written. Layout is what costs in a grid, not script.
 */
export class Grid {
  private rows: readonly Row[] = [];
  private positions = new Map<Row, number>();
  private readonly pool: GridRow[] = [];
  private active: Row | null = null;
  private selected: Row | null = null;

  /** @param viewport scrolls, @param canvas is inside it, as high as all rows together */
  constructor(
    private readonly viewport: HTMLElement,
    private readonly canvas: HTMLElement,
  ) {}

  /** Shows `rows` in this order. */
  arrange(rows: readonly Row[]): void {
    this.rows = rows;
    this.positions = new Map(rows.map((row, position) => [row, position]));
    this.canvas.style.height = `${rows.length * ROW_HEIGHT}px`;
  }

  /** Makes price columns wide enough for this many characters. */
  fit(priceDigits: number): void {
    this.viewport.style.setProperty(
      "--price-digits",
      String(Math.max(7, Math.min(priceDigits, 14))),
    );
  }

  mark(active: Row | null, selected: Row | null): void {
    this.active = active;
    this.selected = selected;
  }

  /** Places the rows that are seen now, and writes the cells that changed. */
  paint(dirty: ReadonlySet<Row> | null, now: number): void {
    const { scrollTop, clientHeight } = this.viewport;
    const seen = Math.ceil(clientHeight / ROW_HEIGHT) + 1 + 2 * OVERSCAN;
    while (this.pool.length < seen) this.addToPool();
    const count = this.pool.length;
    const top = Math.max(0, Math.floor(scrollTop / ROW_HEIGHT) - OVERSCAN);
    const first = Math.max(0, Math.min(top, this.rows.length - count));
    for (let position = first; position < first + count; position++) {
      // A row keeps its place in the pool while it stays in sight, whatever scrolls past it.
      const pooled = this.pool[position % count]!;
      const row = this.rows[position];
      const moved = pooled.place(row, position);
      if (!row) continue;
      pooled.mark(row === this.active, row === this.selected);
      if (moved || !dirty || dirty.has(row)) pooled.write(row, now);
    }
  }

  /** Whether `row` is in sight, at least in part. */
  sees(row: Row): boolean {
    const position = this.positions.get(row);
    if (position === undefined) return false;
    const top = position * ROW_HEIGHT;
    const { scrollTop, clientHeight } = this.viewport;
    return top + ROW_HEIGHT > scrollTop && top < scrollTop + clientHeight - HEAD_HEIGHT;
  }

  /** Scrolls as little as shows `row` whole. */
  reveal(row: Row): void {
    const position = this.positions.get(row);
    if (position === undefined) return;
    const top = position * ROW_HEIGHT;
    const { scrollTop } = this.viewport;
    const height = this.viewport.clientHeight - HEAD_HEIGHT;
    if (top < scrollTop) this.viewport.scrollTop = top;
    else if (top + ROW_HEIGHT > scrollTop + height)
      this.viewport.scrollTop = top + ROW_HEIGHT - height;
  }

  /** Rows that fit the view: how far a page key goes. */
  pageLength(): number {
    return Math.max(1, Math.floor(this.viewport.clientHeight / ROW_HEIGHT) - 2);
  }

  position(row: Row | null): number {
    return (row && this.positions.get(row)) ?? -1;
  }

  at(position: number): Row | undefined {
    return this.rows[position];
  }

  /** The row that `target` of an event lies in. */
  rowOf(target: EventTarget | null): Row | undefined {
    const element = target instanceof Element ? target.closest('[role="row"]') : null;
    return this.pool.find((pooled) => pooled.element === element)?.row;
  }

  /** Id of the element that shows `row`, for `aria-activedescendant`. */
  idOf(row: Row | null): string | undefined {
    return row ? this.pool.find((pooled) => pooled.row === row)?.element.id : undefined;
  }

  private addToPool(): void {
    const row = new GridRow(`row-${this.pool.length}`);
    this.pool.push(row);
    this.canvas.append(row.element);
    // The number of pooled rows decides who shows what: place them all anew.
    for (const pooled of this.pool) pooled.row = undefined;
  }
}

class GridRow {
  readonly element = document.createElement("div");
  row: Row | undefined;
  private position = -1;
  private readonly cells = COLUMNS.map((column) => new Cell(column));

  constructor(id: string) {
    this.element.id = id;
    this.element.role = "row";
    this.element.className = "row";
    this.element.hidden = true;
    this.element.append(...this.cells.map((cell) => cell.element));
  }

  /** Says whether it shows another row now, or is in another place. */
  place(row: Row | undefined, position: number): boolean {
    if (row === this.row && position === this.position) return false;
    if (row !== this.row) for (const cell of this.cells) cell.forget();
    this.row = row;
    this.position = position;
    this.element.hidden = row === undefined;
    this.element.style.transform = `translateY(${position * ROW_HEIGHT}px)`;
    this.element.ariaRowIndex = String(position + 2); // the head is row 1
    this.element.classList.toggle("odd", position % 2 === 1);
    return true;
  }

  mark(active: boolean, selected: boolean): void {
    this.element.classList.toggle("active", active);
    const text = String(selected);
    if (this.element.ariaSelected !== text) this.element.ariaSelected = text;
  }

  write(row: Row, now: number): void {
    this.element.classList.toggle("halted", row.trading === "halted");
    for (const cell of this.cells) cell.write(row, now);
  }
}

class Cell {
  readonly element = document.createElement("div");
  private readonly text = document.createTextNode("");
  private readonly flash = new Flash(this.element);
  private shown = "";
  private sign = 0;
  private value: number | null = null;
  private fresh = true;

  constructor(private readonly column: Column) {
    this.element.role = "gridcell";
    this.element.className = column.key;
    this.element.append(this.text);
  }

  /** The next value is of another instrument: nothing to compare it with. */
  forget(): void {
    this.fresh = true;
  }

  write(row: Row, now: number): void {
    const text = this.column.text(row);
    if (text !== this.shown) this.text.data = this.shown = text;
    const sign = this.column.sign?.(row) ?? 0;
    if (sign !== this.sign) {
      this.sign = sign;
      this.element.classList.toggle("up", sign > 0);
      this.element.classList.toggle("down", sign < 0);
    }
    if (!this.column.moves) return;
    const value = this.column.moves(row);
    if (!this.fresh && value !== null && this.value !== null)
      this.flash.move(value - this.value, now);
    this.value = value;
    this.fresh = false;
  }
}
