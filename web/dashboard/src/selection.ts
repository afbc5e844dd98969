import {
  toNumber,
  price,
  size,
  type Bar,
  type Change,
  type Instrument,
  type Interval,
  type Trade,
} from "@tickcast/client";
import type { MarketSource } from "./market.js";

/** A line of time and sales: a trade, or how many are missing at this point. */
export type TapeLine =
  | { kind: "trade"; trade: Trade; instrument: Instrument }
  | { kind: "gap"; missed: number; before: number };

/** A bar as the chart takes it: floats, so that a finer scale later changes nothing. */
export interface ChartBar {
  time: number;
  open: number;
  high: number;
  low: number;
  close: number;
  volume: number;
}

/** Lines of time and sales, gaps included: up to 1,024 trades, as many as the server keeps, follow a gap and must not push it out. */
export const TAPE_LINES = 2_000;
const CHART_BARS = 3_600;

/** The source of the trades and bars of one symbol: the page's link. */
export interface SelectionSource extends MarketSource {
  /** Subscribes to those of `symbol` in place of the one before; what the server keeps of them comes first. */
  open(symbol: string, interval: Interval): void;
}

/** The chosen symbol: its trades and bars. */
export class Selection {
  symbol = "";
  interval: Interval = "1s";
  /** Newest first. */
  tape: readonly TapeLine[] = [];
  /** Number of the newest trade in `tape`. */
  private newest = -1;
  /** Oldest first; the last one may still be open. */
  readonly bars: ChartBar[] = [];
  /** Bars that were lost while away, since the symbol or interval was chosen. */
  missedBars = 0;
  /** Changes when `bars` is another series, not only a longer one. */
  series = 0;
  /** How many of the last `bars` the chart has not drawn. */
  private unseenBars = 0;

  constructor(
    private readonly source: SelectionSource,
    private readonly changed: () => void,
  ) {
    source.on("update", ({ changes }) => {
      for (const change of changes) this.apply(change);
    });
    source.on("replaced", () => {
      this.clearTape();
      this.clearBars();
    });
  }

  choose(symbol: string, interval: Interval = this.interval): void {
    if (symbol === this.symbol && interval === this.interval) return;
    if (symbol !== this.symbol) this.clearTape();
    this.symbol = symbol;
    this.interval = interval;
    this.clearBars();
    this.source.open(symbol, interval);
    this.changed();
  }

  /** The bars that came or changed since the last call. */
  takeUnseenBars(): ChartBar[] {
    const unseen = this.unseenBars === 0 ? [] : this.bars.slice(-this.unseenBars);
    this.unseenBars = 0;
    return unseen;
  }

  private clearTape(): void {
    this.tape = [];
    this.newest = -1;
  }

  private clearBars(): void {
    this.bars.length = 0;
    this.unseenBars = 0;
    this.missedBars = 0;
    this.series++;
  }

  private apply(change: Change): void {
    if (change.kind !== "trades" && change.kind !== "closed_bars" && change.kind !== "bar") return;
    const { instrument } = change;
    if (instrument.symbol !== this.symbol) return;
    if (change.kind === "trades") {
      const lines = change.trades
        .slice(-TAPE_LINES)
        .reverse()
        .map((trade): TapeLine => ({ kind: "trade", trade, instrument }));
      const { missed } = change;
      // Numbers that start over are a snapshot, with all that is shown and more.
      if (change.trades[0] && change.trades[0].number <= this.newest) this.tape = [];
      this.newest = change.trades.at(-1)?.number ?? this.newest;
      if (missed > 0) lines.push({ kind: "gap", missed, before: change.trades[0]?.number ?? 0 });
      this.tape = [...lines, ...this.tape].slice(0, TAPE_LINES);
    } else if (change.interval === this.interval) {
      if (change.kind === "closed_bars") {
        this.missedBars += change.missed;
        for (const bar of change.bars) this.addBar(instrument, bar);
      } else {
        this.addBar(instrument, change.bar);
      }
    }
  }

  private addBar(instrument: Instrument, bar: Readonly<Bar>): void {
    const point = chartBar(instrument, bar);
    if (!point) return;
    // Nearly always the last one or a new one; a bar may also be closed after the next one began.
    let index = this.bars.length;
    while (index > 0 && this.bars[index - 1]!.time >= point.time) index--;
    const known = this.bars[index]?.time === point.time;
    if (!known && index < this.bars.length) this.series++;
    this.bars.splice(index, known ? 1 : 0, point);
    if (!known) this.unseenBars++;
    if (this.bars.length > CHART_BARS) this.bars.shift();
    this.unseenBars = Math.min(
      Math.max(this.unseenBars, this.bars.length - index),
      this.bars.length,
    );
  }
}

function chartBar(instrument: Instrument, bar: Readonly<Bar>): ChartBar | null {
  const { start, open, high, low, close, volume } = bar;
  if (start === undefined || volume === undefined) return null;
  if (open == null || high == null || low == null || close == null) return null;
  return {
    time: start,
    open: toNumber(price(instrument, open)),
    high: toNumber(price(instrument, high)),
    low: toNumber(price(instrument, low)),
    close: toNumber(price(instrument, close)),
    volume: toNumber(size(instrument, volume)),
  };
}
