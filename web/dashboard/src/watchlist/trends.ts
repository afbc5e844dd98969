import type { Row } from "../market.js";
import { Trend, POINTS } from "./sparkline.js";

/** Requests for history at a time: a list that is scrolled must not flood the server. */
const AT_ONCE = 4;
/** Fewer minutes than this are no line: then the seconds of a young market are shown. */
const FEWEST_MINUTES = 8;
/** After this, and then after twice as long each time, the history of a young market is asked for again. */
const AGAIN_MS = 1_000;

interface BarsAnswer {
  bars: { close?: string | null }[];
}

/** When a row's history is to be asked for again, on the page's clock, and how long was waited until then; both in ms. */
interface Due {
  at: number;
  wait: number;
}

/** The small lines of the watchlist: what was seen, behind the history of those that are in sight. */
export class Trends {
  private readonly trends = new WeakMap<Row, Trend>();
  private readonly due = new WeakMap<Row, Due>();
  private wanted: Row[] = [];
  private running = 0;

  /**
   * @param live says whether the server can be asked now
   * @param loaded is called when the history of a row has come
   */
  constructor(
    private readonly live: () => boolean,
    private readonly loaded: (row: Row) => void,
  ) {}

  of(row: Row): Trend {
    let trend = this.trends.get(row);
    if (!trend) this.trends.set(row, (trend = new Trend()));
    return trend;
  }

  /** These rows are in sight, and stay for a moment: their history is worth asking for, once they have one. */
  want(rows: readonly Row[], now: number): void {
    this.wanted = rows.filter(
      (row) => row.lastSeen !== null && (this.due.get(row)?.at ?? -Infinity) <= now,
    );
    this.askMore();
  }

  private askMore(): void {
    while (this.running < AT_ONCE && this.live()) {
      const row = this.wanted.shift();
      if (!row) return;
      const wait = this.due.get(row)?.wait ?? AGAIN_MS;
      this.due.set(row, { at: Infinity, wait });
      this.running++;
      void this.ask(row)
        .catch(() => false) // the line grows from what is seen; nothing is lost but its past
        .then((whole) => {
          if (!whole) this.due.set(row, { at: performance.now() + wait, wait: 2 * wait });
          this.running--;
          this.askMore();
        });
    }
  }

  /** Seeds the line of `row`; false where the market is too young for it to have minutes. */
  private async ask(row: Row): Promise<boolean> {
    const symbol = encodeURIComponent(row.instrument.symbol);
    let closes = await closesOf(`/v1/bars/${symbol}?interval=1m&limit=${POINTS}`);
    const whole = closes.length >= FEWEST_MINUTES;
    if (!whole) closes = await closesOf(`/v1/bars/${symbol}?interval=1s&limit=120`);
    if (closes.length > 0) {
      this.of(row).seed(closes, performance.now());
      this.loaded(row);
    }
    return whole;
  }
}

async function closesOf(url: string): Promise<number[]> {
  const answer = await fetch(url);
  if (!answer.ok) return []; // a symbol that has no bars
  const { bars } = (await answer.json()) as BarsAnswer;
  return bars.flatMap(({ close }) => (close == null ? [] : [Number(close)]));
}
