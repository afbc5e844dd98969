import { formatDecimal, formatMicros, formatSeconds, price, size, vwap } from "./number.js";
import {
  isImage,
  isMove,
  isRun,
  kindOf,
  type ImageChange,
  type ImageFields,
  type Move,
  type Run,
} from "./change.js";
import type { Change, Instrument, Micros, Topic, Trade, Units, Update } from "./protocol.js";
import { TOPICS, fieldsOf, type ImageKind, type Unit } from "./schema.js";
import { topicOf } from "./topic.js";

/** The JSON form of an update, as `tickcast.v1.json` sends it. */
export function updateToJson(update: Update): object {
  return {
    type: "update",
    ...(update.whole ? {} : { more: true }),
    position: update.position,
    time: formatMicros(update.time),
    updates: update.changes.filter(says).map(changeToJson),
  };
}

/** A ring that only states its next number is absent in JSON, where every entry carries its own. */
function says(change: Change): boolean {
  return !isRun(change) || entriesOf(change).length > 0;
}

function changeToJson(change: Change): object {
  if (isImage(change)) {
    const kind = kindOf(change);
    const fields = fieldsToJson(kind, change.instrument, change.changed);
    const { image, ring } = TOPICS[kind];
    // Next to the entries of its ring an image has a name.
    return { topic: topic(change), ...(ring === null ? fields : { [image.fields]: fields }) };
  }
  if (isRun(change))
    return { topic: topic(change), [TOPICS[kindOf(change)].ring.list]: entriesOf(change) };
  if (isMove(change)) return { topic: topic(change), [change.kind]: true };
  switch (change.kind) {
    case "reset":
      return { reset: true };
    case "instrument":
      return { instrument: instrumentToJson(change.instrument) };
    case "trading":
      return {
        topic: change.instrument ? topicOf("status", change.instrument.symbol) : "status",
        state: change.status.state,
        ts_event: formatMicros(change.status.ts_event),
      };
    case "feed":
      return { topic: "status", feed: change.feed };
    case "stats":
      return { topic: "stats", stats: change.stats };
    case "messages":
      return messagesToJson(change);
    case "states": {
      const { channel, whole, changed } = change;
      return { topic: topicOf("states", channel), ...(whole ? { whole } : {}), states: changed };
    }
    default:
      return change satisfies never;
  }
}

function messagesToJson({ channel, first, repeated, messages }: Messages): object {
  const all = [...repeated, ...messages].map(({ ts_event, ...message }) => ({
    ...message,
    ts_event: formatMicros(ts_event),
  }));
  const next = all.length === 0 ? { next: first } : {};
  return { topic: topicOf("messages", channel), messages: all, ...next };
}

type Messages = Extract<Change, { kind: "messages" }>;

function topic(change: ImageChange | Run | Move): Topic {
  return topicOf(kindOf(change), change.instrument.symbol);
}

function entriesOf(change: Run): object[] {
  const { instrument } = change;
  switch (change.kind) {
    case "trades":
      return [...change.repeated, ...change.trades].map((trade) => tradeToJson(instrument, trade));
    case "closed_bars":
      return [...change.repeated, ...change.bars].map((bar, i) => ({
        number: change.first - change.repeated.length + i,
        ...fieldsToJson(kindOf(change) as ImageKind, instrument, bar),
      }));
    default:
      return change satisfies never;
  }
}

function fieldsToJson(kind: ImageKind, instrument: Instrument, changed: ImageFields): object {
  const told = changed as Readonly<Record<string, Units | null | undefined>>;
  const json: Record<string, unknown> = {};
  for (const { name, unit } of fieldsOf(kind)) {
    const value = told[name];
    if (value !== undefined)
      json[name] = value === null ? null : valueToJson(unit, instrument, value);
  }
  return json;
}

function valueToJson(unit: Unit, instrument: Instrument, value: Units): unknown {
  switch (unit) {
    case "price":
      return priceText(instrument)(value);
    case "size":
      return sizeText(instrument)(value);
    case "hundredth":
      return formatDecimal(vwap(instrument, value));
    case "second":
      return formatSeconds(Number(value));
    case "moment":
      return formatMicros(Number(value) as Micros);
    case "count":
      return value;
    default:
      return unit satisfies never;
  }
}

function instrumentToJson(instrument: Instrument): object {
  const { symbol, name, sector, currency, price_scale, size_scale } = instrument;
  const text = priceText(instrument);
  return {
    symbol,
    name,
    sector,
    currency,
    price_scale,
    size_scale,
    tick_size: text(instrument.tick_size),
    previous_close: instrument.previous_close === null ? null : text(instrument.previous_close),
  };
}

function tradeToJson(instrument: Instrument, trade: Trade): object {
  return {
    number: trade.number,
    price: priceText(instrument)(trade.price),
    size: sizeText(instrument)(trade.size),
    side: trade.side,
    ...(trade.conditions === "" ? {} : { conditions: trade.conditions }),
    ...(trade.counts ? { counts: trade.counts } : {}),
    ...(trade.breaks === undefined ? {} : { breaks: trade.breaks }),
    ts_event: formatMicros(trade.ts_event),
  };
}

function priceText(instrument: Instrument): (units: Units) => string {
  return (units) => formatDecimal(price(instrument, units));
}

function sizeText(instrument: Instrument): (units: Units) => string {
  return (units) => formatDecimal(size(instrument, units));
}
