import { toNumber } from "@tickcast/client";
import { dayChange, type Row } from "../market.js";
import { formatAge } from "../format.js";
import type { Column, PlacedColumn } from "./columns.js";
import type { FlashCell, Flashes } from "./flash.js";
import { HEIGHT, trendPaths, WIDTH } from "./sparkline.js";
import type { Trends } from "./trends.js";

/** What a row needs to be written. */
export interface RowContext {
  readonly flashes: Flashes;
  readonly trends: Trends;
  /** What is shown of a row: itself, or what it was when the display was paused. */
  view(row: Row): Row;
  /** For how long nothing came for a row that should have changed; null while that is usual. */
  silence(row: Row, now: number): number | null;
  /** Trades of it that were missed lately; 0 almost always. */
  missed(row: Row): number;
  /** Whether the list is being scrolled: then no sparkline is drawn, and nothing flashes. */
  scrolls(): boolean;
}

/** One row of the pool: shows one instrument after the other. */
export class GridRow {
  readonly element = document.createElement("div");
  row: Row | undefined;
  private position = -1;
  private active = false;
  private selected = false;
  private halted = false;
  private fromOpen = false;
  private readonly cells: Cell[];
  private readonly age = document.createElement("span");
  private readonly ageText = document.createTextNode("");

  constructor(
    place: number,
    columns: readonly PlacedColumn[],
    private readonly context: RowContext,
  ) {
    this.element.id = `row-${place}`;
    this.element.role = "row";
    this.element.ariaSelected = "false";
    this.element.className = place % 2 === 1 ? "row odd" : "row";
    this.element.hidden = true;
    this.cells = columns.map(({ column }) =>
      column.text ? new TextCell(column, column.text, context) : new TrendCell(column, context),
    );
    this.cells.forEach(({ element }, i) => {
      element.ariaColIndex = String(i + 1);
      element.classList.toggle("tight", columns[i]!.tight);
    });
    this.element.append(...this.cells.map(({ element }) => element));
    this.age.className = "age";
    this.age.append(this.ageText);
    this.cells[0]?.element.append(this.age);
  }

  /** Returns whether it shows another row now, or has moved. */
  place(row: Row | undefined, position: number, height: number): boolean {
    if (row === this.row && position === this.position) return false;
    if (row !== this.row) for (const cell of this.cells) cell.forget();
    this.row = row;
    this.position = position;
    this.element.hidden = row === undefined;
    this.element.style.transform = `translateY(${position * height}px)`;
    this.element.ariaRowIndex = String(position + 2); // the head is row 1
    return true;
  }

  mark(active: boolean, selected: boolean): void {
    // Reading it from the document costs more than keeping it.
    if (active !== this.active) this.element.classList.toggle("active", active);
    if (selected !== this.selected) this.element.ariaSelected = String(selected);
    this.active = active;
    this.selected = selected;
  }

  write(row: Row, now: number): void {
    const shown = this.context.view(row);
    const halted = shown.trading === "halted";
    if (halted !== this.halted) this.element.classList.toggle("halted", halted);
    this.halted = halted;
    const fromOpen = dayChange(shown)?.since === "open";
    if (fromOpen !== this.fromOpen) this.element.classList.toggle("from-open", fromOpen);
    this.fromOpen = fromOpen;
    for (const cell of this.cells) cell.write(row, shown, now);
    this.writeAge(now);
  }

  /** Dims a row that has fallen silent, and marks one of which trades were missed. */
  writeAge(now: number): void {
    if (!this.row) return;
    const silence = this.context.silence(this.row, now);
    const missed = this.context.missed(this.row);
    const text = missed > 0 ? `gap ${missed}` : silence === null ? "" : formatAge(silence);
    if (text === this.ageText.data) return;
    this.ageText.data = text;
    this.element.classList.toggle("stale", silence !== null);
    this.element.classList.toggle("gap", missed > 0);
  }
}

interface Cell {
  readonly element: HTMLElement;
  /** The next value is of another instrument: nothing to compare it with. */
  forget(): void;
  write(row: Row, shown: Row, now: number): void;
}

class TextCell implements Cell, FlashCell {
  readonly element = document.createElement("div");
  readyAt = -Infinity;
  private readonly text = document.createTextNode("");
  private shown = "";
  private sign = 0;
  private value: number | null = null;
  private fresh = true;
  private tinted = "";

  constructor(
    private readonly column: Column,
    private readonly textOf: (row: Row) => string,
    private readonly context: RowContext,
  ) {
    this.element.role = "gridcell";
    this.element.className = column.key;
    this.element.append(this.text);
  }

  forget(): void {
    this.fresh = true;
    this.readyAt = -Infinity;
    if (this.tinted !== "") this.context.flashes.stop(this);
  }

  tint(tint: string): void {
    if (this.tinted !== "") this.element.classList.remove(this.tinted);
    if (tint !== "") this.element.classList.add(tint);
    this.tinted = tint;
  }

  write(_: Row, row: Row, now: number): void {
    const text = this.textOf(row);
    if (text !== this.shown) this.text.data = this.shown = text;
    const sign = this.column.sign?.(row) ?? 0;
    if (sign !== this.sign) {
      this.sign = sign;
      this.element.classList.toggle("up", sign > 0);
      this.element.classList.toggle("down", sign < 0);
    }
    if (!this.column.moves) return;
    const value = this.column.moves(row);
    if (!this.fresh && value !== null && this.value !== null && !this.context.scrolls())
      this.context.flashes.start(this, value - this.value, now);
    this.value = value;
    this.fresh = false;
  }
}

/**
 * A sparkline. Prices are drawn at most once a second: more is not visible. History that has come is drawn at once,
 * since nothing else may ever touch the row of a quiet symbol. It is a path, not a canvas: each canvas is a
 * separate layer, and compositing some fifty of them cost more of a frame than all the rest of it.
 */
class TrendCell implements Cell {
  readonly element = document.createElement("div");
  private readonly line = svg("path");
  private readonly base = svg("path");
  private drawnAt = -Infinity;
  private drawn = "";

  constructor(
    column: Column,
    private readonly context: RowContext,
  ) {
    this.element.role = "gridcell";
    this.element.className = column.key;
    const drawing = svg("svg");
    drawing.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    drawing.ariaHidden = "true";
    this.base.setAttribute("class", "base");
    drawing.append(this.base, this.line);
    this.element.append(drawing);
  }

  forget(): void {
    this.drawnAt = -Infinity;
    if (this.drawn === "") return;
    this.drawn = "";
    for (const path of [this.line, this.base]) path.removeAttribute("d");
  }

  write(row: Row, shown: Row, now: number): void {
    const trend = this.context.trends.of(row);
    if (shown === row && row.lastSeen !== null) trend.note(row.lastSeen, now);
    const isDrawn = now - this.drawnAt < 1_000 && trend.seededAt <= this.drawnAt;
    if (isDrawn || this.context.scrolls()) return;
    const moved = dayChange(shown);
    const base = moved && toNumber({ units: moved.from, scale: shown.instrument.price_scale });
    const drawn = `${trend.version} ${base}`;
    if (drawn === this.drawn) return;
    this.drawn = drawn;
    this.drawnAt = now;
    const { values } = trend;
    const paths = trendPaths(values, base);
    this.line.setAttribute("d", paths.line);
    this.line.setAttribute("class", values.at(-1)! >= values[0]! ? "up" : "down");
    this.base.setAttribute("d", paths.base);
  }
}

function svg<Name extends keyof SVGElementTagNameMap>(name: Name): SVGElementTagNameMap[Name] {
  return document.createElementNS("http://www.w3.org/2000/svg", name);
}
