import { price, size } from "@tickcast/client";
import { count, formatNumber, formatTime, formatVolume } from "../format.js";
import type { TapeLine } from "../selection.js";
import type { TapeLayout } from "./layout.js";

const LETTERS = { buy: "B", sell: "S", none: "" };
const CELLS = 5;

/** The rows of time and sales that are in sight: updated in place, as those of the watchlist. */
export class TapeRows {
  private readonly pool: TapeRow[] = [];

  private height = "";

  constructor(private readonly canvas: HTMLElement) {}

  /** @param scrollTop and `clientHeight` of the scroll container: reading them here would lay the page out a second time a frame */
  paint(
    lines: readonly TapeLine[],
    rowHeight: number,
    { scrollTop, clientHeight }: { scrollTop: number; clientHeight: number },
    layout: TapeLayout,
  ): void {
    const height = `${lines.length * rowHeight}px`;
    if (height !== this.height) this.canvas.style.height = this.height = height;
    const seen = Math.ceil(clientHeight / rowHeight) + 1;
    while (this.pool.length < seen) {
      const row = new TapeRow();
      this.pool.push(row);
      this.canvas.append(row.element);
    }
    const first = Math.max(0, Math.min(Math.floor(scrollTop / rowHeight), lines.length - seen));
    this.pool.forEach((row, i) => row.write(lines[first + i], first + i, rowHeight, layout));
  }
}

class TapeRow {
  readonly element = document.createElement("div");
  private readonly texts = Array.from({ length: CELLS }, () => document.createTextNode(""));
  private line: TapeLine | undefined;
  private layout: TapeLayout | undefined;
  private top = -1;

  constructor() {
    this.element.role = "row";
    this.element.hidden = true;
    for (const text of this.texts) {
      const cell = document.createElement("div");
      cell.role = "cell";
      cell.append(text);
      this.element.append(cell);
    }
  }

  write(line: TapeLine | undefined, index: number, rowHeight: number, layout: TapeLayout): void {
    const top = index * rowHeight;
    if (top !== this.top) {
      this.top = top;
      this.element.style.transform = `translateY(${top}px)`;
      this.element.ariaRowIndex = String(index + 2); // the head is row 1
    }
    if (line === this.line && layout === this.layout) return;
    this.line = line;
    this.layout = layout;
    this.element.hidden = line === undefined;
    if (!line) return;
    if (line.kind === "gap") {
      this.element.className = "row gap";
      delete this.element.dataset["testid"];
      this.fill(["", "", "", "", `${count(line.missed, "trade")} missed`]);
      return;
    }
    const { trade, instrument } = line;
    this.element.className = `row ${trade.side}`;
    this.element.dataset["testid"] = "trade";
    this.fill([
      formatTime(trade.ts_event).slice(0, layout.briefTime ? 8 : undefined),
      formatNumber(price(instrument, trade.price)),
      (layout.briefSize ? formatVolume : formatNumber)(size(instrument, trade.size)),
      LETTERS[trade.side],
      layout.conditions ? trade.conditions : "",
    ]);
  }

  private fill(cells: readonly string[]): void {
    cells.forEach((text, i) => {
      const node = this.texts[i]!;
      if (node.data !== text) node.data = text;
    });
  }
}
