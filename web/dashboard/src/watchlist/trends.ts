import type { Row } from "../market.js";
import { Trend, POINTS, YOUNG_POINTS } from "./sparkline.js";

/** Requests for history at a time: a list that is scrolled must not flood the server. */
const AT_ONCE = 4;
/** This many may be sent at once, as for a screenful of rows, and then one in each interval. */
const BURST = 60;
const INTERVAL_MS = 2_000;
/** Fewer minutes than this make no line: then the seconds of a young market are shown. */
const FEWEST_MINUTES = 8;
/** After this, and then after twice as long each time, the minutes of a young market are requested again. Until then its seconds are noted here. */
const AGAIN_MS = FEWEST_MINUTES * 60_000;
/** What was out of sight for this long was not noted, and has a hole. */
const ABSENT_MS = 120_000;

interface BarsAnswer {
  bars: { close?: string | null }[];
}

/** When to request a row's history again, on the page's clock, and the wait before that; both in ms. */
interface Due {
  at: number;
  wait: number;
}

/** The sparklines of the watchlist: the history of the rows in sight, then the prices noted here. */
export class Trends {
  private readonly trends = new WeakMap<Row, Trend>();
  private readonly due = new WeakMap<Row, Due>();
  private readonly seenAt = new WeakMap<Row, number>();
  private wanted: Row[] = [];
  private running = 0;
  private allowance = BURST;
  private allowedAt = -Infinity;
  /** Whether the market has fewer minutes than make a line; null before the first answer. */
  private young: boolean | null = null;

  /**
   * @param live says whether the server can be reached now
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

  /** These rows are in sight, and stay for a moment: their history is requested, once they have one. To be called each second. */
  want(rows: readonly Row[], now: number): void {
    for (const row of rows) {
      if (now - (this.seenAt.get(row) ?? now) > ABSENT_MS) this.due.delete(row);
      this.seenAt.set(row, now);
    }
    this.wanted = rows.filter(
      (row) => row.lastSeen !== null && (this.due.get(row)?.at ?? -Infinity) <= now,
    );
    this.earn(now);
    this.askMore();
  }

  private earn(now: number): void {
    const earned = Math.min(BURST, Math.floor((now - this.allowedAt) / INTERVAL_MS));
    if (earned <= 0) return;
    this.allowance = Math.min(BURST, this.allowance + earned);
    this.allowedAt = this.allowance === BURST ? now : this.allowedAt + earned * INTERVAL_MS;
  }

  private askMore(): void {
    // The first answer shows what to request for the others.
    const atOnce = this.young === null ? 1 : AT_ONCE;
    while (this.running < atOnce && this.allowance > 0 && this.live()) {
      const row = this.take();
      if (!row) return;
      const wait = this.due.get(row)?.wait ?? AGAIN_MS;
      const again = this.due.has(row);
      this.due.set(row, { at: Infinity, wait });
      this.running++;
      void this.ask(row, again)
        .catch(() => false) // the line grows from what is noted; only its past is lost
        .then((whole) => {
          if (!whole) this.due.set(row, { at: performance.now() + wait, wait: 2 * wait });
          this.running--;
          this.askMore();
        });
    }
  }

  /** The next one; at first the one that has traded most, since it is as old as the market. */
  private take(): Row | undefined {
    if (this.young !== null) return this.wanted.shift();
    const trades = ({ day }: Row) => day.trades ?? 0;
    const oldest = this.wanted.reduce<Row | undefined>(
      (most, row) => (most && trades(most) >= trades(row) ? most : row),
      undefined,
    );
    this.wanted = this.wanted.filter((row) => row !== oldest);
    return oldest;
  }

  /** Seeds the line of `row`; false if there are too few minutes of it. */
  private async ask(row: Row, again: boolean): Promise<boolean> {
    const symbol = encodeURIComponent(row.instrument.symbol);
    if (this.young !== true || again) {
      const closes = await this.closesOf(`v1/bars/${symbol}?interval=1m&limit=${POINTS}`);
      const whole = closes.length >= FEWEST_MINUTES;
      if (whole || this.young === null) this.young = !whole;
      if (whole) {
        this.seed(row, closes, "minute");
        return true;
      }
      // Its seconds have been noted since the request.
      if (again) return false;
    }
    this.seed(
      row,
      await this.closesOf(`v1/bars/${symbol}?interval=1s&limit=${YOUNG_POINTS}`),
      "second",
    );
    return false;
  }

  private seed(row: Row, closes: readonly number[], every: "minute" | "second"): void {
    if (closes.length === 0) return;
    this.of(row).seed(closes, performance.now(), every);
    this.loaded(row);
  }

  private async closesOf(url: string): Promise<number[]> {
    this.allowance--;
    const answer = await fetch(url);
    if (!answer.ok) return []; // a symbol that has no bars
    const { bars } = (await answer.json()) as BarsAnswer;
    return bars.flatMap(({ close }) => (close == null ? [] : [Number(close)]));
  }
}
