import {
  SIDES,
  TOPICS,
  TOPIC_KINDS,
  fieldsOf,
  imageChange,
  imageOf,
  isImage,
  isRun,
  kindOf,
  type Bar,
  type Change,
  type ClosedBar,
  type Field,
  type ImageKind,
  type Instrument,
  type Integer,
  type Micros,
  type Quote,
  type RingKind,
  type Trade,
  type Units,
} from "@tickcast/client";

/**
 * The frequent changes as one array of numbers, which a worker transfers without copying: a structured clone of thousands of
 * objects would cost each side more than everything else it does in a frame.
 *
 * Per change: the number of its kind of topic, and {@link ENTRIES} more if it is of its ring; the instrument's number; and then
 * - images: a mask of the fields that follow, and these;
 * - trades: missed, count, and per trade number, price, size, side, ts_event and the index of its conditions in `texts`;
 * - closed bars: missed, number of the first, count, and per bar its fields.
 *
 * A double holds an integer below 2^53 exactly, and NaN is null. A larger one is an infinity, as its sign is, and three parts of
 * {@link PART_BITS}, the lowest first.
 */
export interface Packed {
  packed: Float64Array<ArrayBuffer>;
  texts: string[];
  /** What is not packed, in order. */
  others: Change[];
}

const PART_BITS = 48n;

const ENTRIES = 64;

export function pack(changes: readonly Change[]): Packed {
  const writer = new Writer();
  const texts: string[] = [""];
  const others: Change[] = [];
  for (const change of changes)
    if (isImage(change)) {
      const kind = kindOf(change);
      // Of bars a page keeps no image, so they come in full.
      const told = change.kind === "bar" ? imageOf(change) : change.changed;
      writer.fields(TOPICS[kind].number, change.instrument, fieldsOf(kind), told);
    } else if (isRun(change)) {
      writer.put(ENTRIES + TOPICS[kindOf(change)].number, change.instrument.number, change.missed);
      if (change.kind === "trades") {
        writer.put(change.trades.length);
        for (const { number, price, size, side, ts_event, conditions, counts } of change.trades) {
          // One that takes another back is marked as such.
          const says = counts?.includes("break") ? "break" : conditions;
          const text = says === "" ? 0 : texts.push(says) - 1;
          writer.put(number, price, size, SIDES.indexOf(side), ts_event, text);
        }
      } else {
        writer.put(change.first, change.bars.length);
        for (const bar of change.bars)
          for (const { name } of entryFields(kindOf(change)))
            writer.value((bar as Values)[name] ?? null);
      }
    } else {
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
  if (kind >= ENTRIES)
    return unpackRun(TOPIC_KINDS[kind - ENTRIES] as RingKind, images, reader, texts);
  const topic = TOPIC_KINDS[kind] as ImageKind;
  const changed = reader.fields(fieldsOf(topic));
  if (!images) return null;
  const { instrument } = images;
  switch (topic) {
    case "quote":
      return imageChange(topic, instrument, changed, Object.assign(images.quote, changed));
    case "day": {
      const before = images.day;
      // A new start begins a new day; the previous close changes on its own.
      if (changed.start !== undefined && changed.start !== before.start) {
        const { previous_close } = before;
        images.day = previous_close === undefined ? {} : { previous_close };
      }
      return imageChange(topic, instrument, changed, Object.assign(images.day, changed));
    }
    default:
      return imageChange(topic, instrument, changed, changed);
  }
}

function unpackRun(
  kind: RingKind,
  images: Images | undefined,
  reader: Reader,
  texts: readonly string[],
): Change | null {
  const missed = reader.next();
  if (kind === "trades") {
    const trades = reader.list((): Trade => ({
      number: reader.next(),
      price: reader.value() as Units,
      size: reader.value() as Units,
      side: SIDES[reader.next()]!,
      ts_event: reader.next() as Micros,
      conditions: texts[reader.next()]!,
    }));
    return images
      ? { kind: "trades", instrument: images.instrument, missed, repeated: [], trades }
      : null;
  }
  const first = reader.next();
  const bars = reader.list(() => reader.all(entryFields(kind)) as ClosedBar);
  if (!images) return null;
  const interval = kind === "bars.1s" ? "1s" : "1m";
  const { instrument } = images;
  return { kind: "closed_bars", instrument, interval, missed, repeated: [], bars, first };
}

/** The fields of a closed bar, which has all of them. */
function entryFields(kind: RingKind): readonly Field[] {
  if (kind === "trades") return [];
  const { all } = TOPICS[kind].image;
  return fieldsOf(kind).filter(({ bit }) => bit & all);
}

type Values = Readonly<Record<string, Integer | null | undefined>>;

class Writer {
  private values = new Float64Array(256);
  private length = 0;

  put(...values: Integer[]): void {
    for (const value of values) this.value(value);
  }

  value(value: Integer | null): void {
    if (typeof value === "bigint") {
      const size = value < 0n ? -value : value;
      this.put(value < 0n ? -Infinity : Infinity);
      for (let part = 0n; part < 3n; part++)
        this.value(Number(BigInt.asUintN(Number(PART_BITS), size >> (part * PART_BITS))));
      return;
    }
    if (this.length === this.values.length) {
      const larger = new Float64Array(2 * this.length);
      larger.set(this.values);
      this.values = larger;
    }
    this.values[this.length++] = value ?? NaN;
  }

  fields(kind: number, { number }: Instrument, fields: readonly Field[], changed: object): void {
    const values = changed as Values;
    let mask = 0;
    for (const { name, bit } of fields) if (values[name] !== undefined) mask |= bit;
    this.put(kind, number, mask);
    for (const { name } of fields) if (values[name] !== undefined) this.value(values[name] ?? null);
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

  /** An integer, or null. */
  value(): Integer | null {
    const value = this.next();
    if (Number.isNaN(value)) return null;
    if (Number.isFinite(value)) return value;
    const parts = [this.next(), this.next(), this.next()];
    const size = parts.reduceRight((size, part) => (size << PART_BITS) | BigInt(part), 0n);
    return value < 0 ? -size : size;
  }

  list<T>(item: () => T): T[] {
    return Array.from({ length: this.next() }, item);
  }

  fields(fields: readonly Field[]): Quote & Bar {
    const mask = this.next();
    return this.all(fields.filter(({ bit }) => mask & bit));
  }

  all(fields: readonly Field[]): Quote & Bar {
    const record: Record<string, Integer | null> = {};
    for (const { name } of fields) record[name] = this.value();
    return record as Quote & Bar;
  }
}
