import type {
  Bar,
  Change,
  ClosedBar,
  Instrument,
  InstrumentNumber,
  Interval,
  Quote,
  Trade,
  Units,
  Update,
} from "./protocol.js";

/** Entries of a ring that are kept for a consumer who does not take them; as many as the server keeps of trades. */
export const ENTRIES_KEPT = 1_024;

type Of<Kind extends Change["kind"]> = Extract<Change, { kind: Kind }>;
type Run = Of<"trades"> | Of<"closed_bars">;
type ImageChange = Of<"quote"> | Of<"day"> | Of<"bar">;

/**
 * Merges updates that a consumer has not taken yet, as the server does for a slow client: of an image the newest value of
 * each changed field, of a ring every entry in order, so that memory stays bounded however slow the consumer is.
 *
 * Where a ring has more than `entries` entries waiting, the oldest go, and count as missed in the place where they were.
 * What a resumed session repeats is left out.
 */
export class Conflation {
  private readonly instruments = new Map<InstrumentNumber, Instrument>();
  private readonly images = new Map<string, ImageChange>();
  private readonly rings = new Map<string, Ring>();
  private readonly statuses = new Map<string, Of<"trading" | "feed" | "stats">>();
  private newest: Omit<Update, "changes"> | null = null;
  private wasReset = false;

  constructor(private readonly entries = ENTRIES_KEPT) {}

  /** Whether there is nothing to take. */
  get empty(): boolean {
    const kept = [this.instruments, this.images, this.rings, this.statuses];
    return !this.wasReset && kept.every(({ size }) => size === 0);
  }

  add(update: Update): void {
    this.newest = update;
    for (const change of update.changes) this.merge(change);
  }

  /**
   * What has come together since the last call, or null where nothing has. A reset comes first, then definitions.
   *
   * @param most definitions and images at most: a consumer that may not be kept busy for long takes the rest later
   */
  take(most = Infinity): Update | null {
    if (this.empty || !this.newest) return null;
    const changes: Change[] = this.wasReset ? [{ kind: "reset" }] : [];
    this.wasReset = false;
    for (const instrument of this.instruments.values()) {
      if (changes.length >= most) break;
      changes.push({ kind: "instrument", instrument });
      this.instruments.delete(instrument.number);
    }
    const known = (change: Change) =>
      !("instrument" in change) ||
      change.instrument === null ||
      !this.instruments.has(change.instrument.number);
    for (const [key, ring] of this.rings) {
      if (!known(ring.runs[0]!)) continue;
      changes.push(...ring.runs);
      this.rings.delete(key);
    }
    for (const [key, change] of this.images) {
      if (changes.length >= most) break;
      if (!known(change)) continue;
      changes.push(change);
      this.images.delete(key);
    }
    for (const [key, change] of this.statuses) {
      if (!known(change)) continue;
      changes.push(change);
      this.statuses.delete(key);
    }
    return { ...this.newest, changes };
  }

  /** The entries of rings that wait, which go on waiting. */
  waiting(): Run[] {
    return [...this.rings.values()].flatMap(({ runs }) => runs.map(copyOfRun));
  }

  /** Drops everything, as when the server's tape is another one. */
  clear(): void {
    this.wasReset = false;
    for (const kept of [this.instruments, this.images, this.rings, this.statuses]) kept.clear();
  }

  private merge(change: Change): void {
    switch (change.kind) {
      case "reset":
        this.clear();
        this.wasReset = true;
        break;
      case "instrument":
        this.define(change.instrument);
        break;
      case "quote":
      case "day":
      case "bar": {
        const key = imageKey(change);
        const before = this.images.get(key);
        this.images.set(key, before ? newer(before, change) : change);
        break;
      }
      case "trades":
      case "closed_bars":
        this.append(change);
        break;
      case "trading":
        this.statuses.set(`trading:${change.instrument?.number ?? ""}`, change);
        break;
      case "feed":
      case "stats":
        this.statuses.set(change.kind, change);
        break;
    }
  }

  private append(change: Run): void {
    if (entriesOf(change).length === 0 && change.missed === 0) return;
    const key = ringKey(change);
    let ring = this.rings.get(key);
    if (!ring) this.rings.set(key, (ring = new Ring()));
    ring.append(change, this.entries);
  }

  /** Values that wait are in units of the scales before; the images behind them are in the new ones already. */
  private define(instrument: Instrument): void {
    this.instruments.set(instrument.number, instrument);
    for (const kind of ["quote", "day", "1s", "1m"]) {
      const key = `${kind}:${instrument.number}`;
      const change = this.images.get(key);
      if (!change) continue;
      const image = imageOf(change) as Record<string, unknown>;
      const changed = Object.keys(change.changed).map((field) => [field, image[field]]);
      const merged = { ...change, instrument, changed: Object.fromEntries(changed) as object };
      this.images.set(key, merged as ImageChange);
    }
    for (const kind of ["trades", "1s", "1m"])
      this.rings.get(`${kind}:${instrument.number}`)?.rescale(instrument);
  }
}

/** Entries of one ring: runs without a hole. */
class Ring {
  runs: Run[] = [];
  private length = 0;

  append(change: Run, most: number): void {
    const last = this.runs.at(-1);
    const added = entriesOf(change);
    if (last && change.missed === 0) entriesOf(last).push(...(added as never[]));
    else this.runs.push(copyOfRun(change));
    this.length += added.length;
    // Only now and then: each time it costs what is kept.
    if (this.length > 2 * most || this.runs.length > 2 * most) this.trim(most);
  }

  rescale(instrument: Instrument): void {
    this.runs = this.runs.map((run) => rescaled(run, instrument));
  }

  private trim(most: number): void {
    let excess = Math.max(0, this.length - most);
    let missed = 0;
    this.length -= excess;
    for (;;) {
      const run = this.runs[0]!;
      const dropped = Math.min(excess, entriesOf(run).length);
      missed += run.missed + dropped;
      excess -= dropped;
      if (dropped < entriesOf(run).length || this.runs.length === 1) {
        this.runs[0] = withoutFirst(run, dropped, missed);
        return;
      }
      this.runs.shift();
    }
  }
}

function withoutFirst(run: Run, dropped: number, missed: number): Run {
  return run.kind === "trades"
    ? { ...run, missed, trades: run.trades.slice(dropped) }
    : { ...run, missed, first: run.first + dropped, bars: run.bars.slice(dropped) };
}

function entriesOf(run: Run): (Trade | ClosedBar)[] {
  return (run.kind === "trades" ? run.trades : run.bars) as (Trade | ClosedBar)[];
}

/** With a list of its own, without what is repeated. */
function copyOfRun(run: Run): Run {
  return run.kind === "trades"
    ? { ...run, repeated: [], trades: [...run.trades] }
    : { ...run, repeated: [], bars: [...run.bars] };
}

function rescaled(run: Run, instrument: Instrument): Run {
  const prices = 10 ** (instrument.price_scale - run.instrument.price_scale);
  const sizes = 10 ** (instrument.size_scale - run.instrument.size_scale);
  const by = (units: Units | null, factor: number) =>
    units === null ? null : ((units * factor) as Units);
  if (run.kind === "trades") {
    const trades = run.trades.map((trade) => ({
      ...trade,
      price: by(trade.price, prices)!,
      size: by(trade.size, sizes)!,
    }));
    return { ...run, instrument, trades };
  }
  const bars = run.bars.map((bar) => ({
    ...bar,
    open: by(bar.open, prices),
    high: by(bar.high, prices),
    low: by(bar.low, prices),
    close: by(bar.close, prices),
    vwap: by(bar.vwap, prices),
    volume: by(bar.volume, sizes)!,
  }));
  return { ...run, instrument, bars };
}

function newer(before: ImageChange, after: ImageChange): ImageChange {
  if (after.kind === "quote")
    return { ...after, changed: { ...before.changed, ...after.changed } as Quote };
  // A new start begins a new bar, of which the fields before say nothing; the previous close is the day's own.
  const bar = before.changed as Bar;
  const kept =
    after.changed.start === undefined
      ? bar
      : bar.previous_close === undefined
        ? {}
        : { previous_close: bar.previous_close };
  return { ...after, changed: { ...kept, ...after.changed } };
}

function imageOf(change: ImageChange): object {
  return change.kind === "quote" ? change.quote : change.kind === "day" ? change.day : change.bar;
}

function imageKey(change: ImageChange): string {
  return change.kind === "bar"
    ? barKey(change.interval, change.instrument)
    : `${change.kind}:${change.instrument.number}`;
}

function ringKey(change: Run): string {
  return change.kind === "trades"
    ? `trades:${change.instrument.number}`
    : barKey(change.interval, change.instrument);
}

function barKey(interval: Interval, { number }: Instrument): string {
  return `${interval}:${number}`;
}
