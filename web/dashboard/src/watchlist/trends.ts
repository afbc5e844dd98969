import type { Row } from "../market.js";
import { Trend, POINTS } from "./sparkline.js";

/** Requests for history at a time: a list that is scrolled must not flood the server. */
const AT_ONCE = 4;
/** Fewer minutes than this are no line: then the seconds of a young market are shown. */
const FEWEST_MINUTES = 8;

interface BarsAnswer {
  bars: { close?: string | null }[];
}

/** The small lines of the watchlist: what was seen, behind the history of those that are in sight. */
export class Trends {
  private readonly trends = new WeakMap<Row, Trend>();
  private readonly asked = new WeakSet<Row>();
  private wanted: Row[] = [];
  private running = 0;

  /** @param loaded is called when the history of a row has come */
  constructor(private readonly loaded: (row: Row) => void) {}

  of(row: Row): Trend {
    let trend = this.trends.get(row);
    if (!trend) this.trends.set(row, (trend = new Trend()));
    return trend;
  }

  /** These rows are in sight, and stay for a moment: their history is worth asking for. */
  want(rows: readonly Row[]): void {
    this.wanted = rows.filter((row) => !this.asked.has(row));
    this.askMore();
  }

  private askMore(): void {
    while (this.running < AT_ONCE) {
      const row = this.wanted.shift();
      if (!row) return;
      this.asked.add(row);
      this.running++;
      void this.ask(row).finally(() => {
        this.running--;
        this.askMore();
      });
    }
  }

  private async ask(row: Row): Promise<void> {
    const symbol = encodeURIComponent(row.instrument.symbol);
    try {
      let closes = await closesOf(`/v1/bars/${symbol}?interval=1m&limit=${POINTS}`);
      if (closes.length < FEWEST_MINUTES)
        closes = await closesOf(`/v1/bars/${symbol}?interval=1s&limit=120`);
      if (closes.length === 0) return;
      this.of(row).seed(closes, performance.now());
      this.loaded(row);
    } catch {
      // The line grows from what is seen; nothing is lost but its past.
      this.asked.delete(row);
    }
  }
}

async function closesOf(url: string): Promise<number[]> {
  const answer = await fetch(url);
  if (!answer.ok) return []; // a symbol that has no bars
  const { bars } = (await answer.json()) as BarsAnswer;
  return bars.flatMap(({ close }) => (close == null ? [] : [Number(close)]));
}
