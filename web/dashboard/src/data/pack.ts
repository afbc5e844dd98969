import type {
  Bar,
  Change,
  ClosedBar,
  Instrument,
  Interval,
  Micros,
  Quote,
  Side,
  Trade,
  Units,
} from "@tickcast/client";

/**
 * The frequent changes as one array of numbers, which a worker hands over without copying: a structured clone of thousands of
 * objects would cost each side more than everything else it does in a frame.
 *
 * Per change: its kind, the instrument's number, and then
 * - quote, day, bars: a mask of the fields that follow, and these;
 * - trades: missed, count, and per trade number, price, size, side, ts_event and the index of its conditions in `texts`;
 * - closed bars: missed, number of the first, count, and per bar its fields.
 *
 * Integers of the protocol stay below 2^53, which a double holds exactly. NaN is null.
 */
export interface Packed {
  packed: Float64Array<ArrayBuffer>;
  texts: string[];
  /** What is not packed, in order. */
  others: Change[];
}

const KIND = { quote: 0, day: 1, "1s": 2, "1m": 3, trades: 4, closed1s: 5, closed1m: 6 } as const;
const INTERVALS: readonly Interval[] = ["1s", "1m"];
const SIDES: readonly Side[] = ["none", "buy", "sell"];
const QUOTE_FIELDS = ["bid", "bid_size", "ask", "ask_size", "ts_event"] as const;
const BAR_FIELDS = [
  "start",
  "open",
  "high",
  "low",
  "close",
  "volume",
  "trades",
  "vwap",
  "previous_close",
] as const;
/** A closed bar has all of them. */
const CLOSED_FIELDS = BAR_FIELDS.filter((field) => field !== "previous_close");

export function pack(changes: readonly Change[]): Packed {
  const writer = new Writer();
  const texts: string[] = [""];
  const others: Change[] = [];
  for (const change of changes)
    switch (change.kind) {
      case "quote":
        writer.fields(KIND.quote, change.instrument, QUOTE_FIELDS, change.changed);
        break;
      case "day":
        writer.fields(KIND.day, change.instrument, BAR_FIELDS, change.changed);
        break;
      case "bar":
        // Whole: a page keeps no image of it.
        writer.fields(KIND[change.interval], change.instrument, BAR_FIELDS, change.bar);
        break;
      case "trades":
        writer.put(KIND.trades, change.instrument.number, change.missed, change.trades.length);
        for (const { number, price, size, side, ts_event, conditions } of change.trades) {
          const text = conditions === "" ? 0 : texts.push(conditions) - 1;
          writer.put(number, price, size, SIDES.indexOf(side), ts_event, text);
        }
        break;
      case "closed_bars": {
        const kind = change.interval === "1s" ? KIND.closed1s : KIND.closed1m;
        writer.put(kind, change.instrument.number, change.missed, change.first, change.bars.length);
        for (const bar of change.bars)
          for (const field of CLOSED_FIELDS) writer.value((bar as Bar)[field] ?? null);
        break;
      }
      default:
        others.push(change);
    }
  return { packed: writer.finish(), texts, others };
}

/** What a page knows of an instrument; `changed` is applied to these by {@link unpack}. */
export interface Images {
  readonly instrument: Instrument;
  readonly quote: Quote;
  day: Bar;
}

/**
 * The changes again, applied to the images of their instruments.
 *
 * @param imagesOf of an instrument's number; changes of one that is not known are left out
 */
export function unpack(
  { packed, texts }: { packed: Float64Array; texts: readonly string[] },
  imagesOf: (number: number) => Images | undefined,
): Change[] {
  const reader = new Reader(packed);
  const changes: Change[] = [];
  while (!reader.done()) {
    const kind = reader.next();
    const images = imagesOf(reader.next());
    const change = unpackOne(kind, images, reader, texts);
    if (change) changes.push(change);
  }
  return changes;
}

function unpackOne(
  kind: number,
  images: Images | undefined,
  reader: Reader,
  texts: readonly string[],
): Change | null {
  switch (kind) {
    case KIND.quote: {
      const changed = reader.fields(QUOTE_FIELDS) as Quote;
      if (!images) return null;
      const { instrument, quote } = images;
      Object.assign(quote, changed);
      return { kind: "quote", instrument, changed, quote };
    }
    case KIND.day: {
      const changed = reader.fields(BAR_FIELDS) as Bar;
      if (!images) return null;
      const { instrument, day: before } = images;
      // A new start begins a new day; the previous close changes on its own.
      if (changed.start !== undefined && changed.start !== before.start) {
        const { previous_close } = before;
        images.day = previous_close === undefined ? {} : { previous_close };
      }
      const { day } = images;
      Object.assign(day, changed);
      return { kind: "day", instrument, changed, day };
    }
    case KIND["1s"]:
    case KIND["1m"]: {
      const changed = reader.fields(BAR_FIELDS) as Bar;
      const interval = INTERVALS[kind - KIND["1s"]]!;
      return images
        ? { kind: "bar", instrument: images.instrument, interval, changed, bar: changed }
        : null;
    }
    case KIND.trades: {
      const missed = reader.next();
      const trades = reader.list((): Trade => ({
        number: reader.next(),
        price: reader.next() as Units,
        size: reader.next() as Units,
        side: SIDES[reader.next()]!,
        ts_event: reader.next() as Micros,
        conditions: texts[reader.next()]!,
      }));
      return images
        ? { kind: "trades", instrument: images.instrument, missed, repeated: [], trades }
        : null;
    }
    default: {
      const interval = INTERVALS[kind - KIND.closed1s]!;
      const [missed, first] = [reader.next(), reader.next()];
      const bars = reader.list(() => reader.all(CLOSED_FIELDS) as unknown as ClosedBar);
      if (!images) return null;
      const { instrument } = images;
      return { kind: "closed_bars", instrument, interval, missed, repeated: [], bars, first };
    }
  }
}

type Values = Readonly<Record<string, number | null | undefined>>;

class Writer {
  private values = new Float64Array(256);
  private length = 0;

  put(...values: number[]): void {
    for (const value of values) this.value(value);
  }

  value(value: number | null): void {
    if (this.length === this.values.length) {
      const larger = new Float64Array(2 * this.length);
      larger.set(this.values);
      this.values = larger;
    }
    this.values[this.length++] = value ?? NaN;
  }

  fields(kind: number, { number }: Instrument, names: readonly string[], changed: object): void {
    const values = changed as Values;
    let mask = 0;
    names.forEach((name, i) => (mask |= values[name] === undefined ? 0 : 1 << i));
    this.put(kind, number, mask);
    for (const name of names) if (values[name] !== undefined) this.value(values[name] ?? null);
  }

  finish(): Float64Array<ArrayBuffer> {
    return this.values.slice(0, this.length);
  }
}

class Reader {
  private at = 0;

  constructor(private readonly values: Float64Array) {}

  done(): boolean {
    return this.at >= this.values.length;
  }

  next(): number {
    return this.values[this.at++]!;
  }

  list<T>(item: () => T): T[] {
    return Array.from({ length: this.next() }, item);
  }

  fields(names: readonly string[]): Record<string, number | null> {
    const mask = this.next();
    return this.all(names.filter((_, i) => mask & (1 << i)));
  }

  all(names: readonly string[]): Record<string, number | null> {
    const record: Record<string, number | null> = {};
    for (const name of names) {
      const value = this.next();
      record[name] = Number.isNaN(value) ? null : value;
    }
    return record;
  }
}
