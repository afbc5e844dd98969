import { formatDecimal, formatMicros, formatSeconds, price, size, vwap } from "./number.js";
import type { Bar, Change, Instrument, Trade, Units, Update } from "./protocol.js";

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

/** A ring that only states its next number is nothing in JSON, where every entry carries its own. */
function says(change: Change): boolean {
  if (change.kind === "trades") return change.trades.length + change.repeated.length > 0;
  if (change.kind === "closed_bars") return change.bars.length + change.repeated.length > 0;
  return true;
}

function changeToJson(change: Change): object {
  switch (change.kind) {
    case "reset":
      return { reset: true };
    case "instrument":
      return { instrument: instrumentToJson(change.instrument) };
    case "quote": {
      const { instrument, changed } = change;
      return {
        topic: `quote:${instrument.symbol}`,
        ...present("bid", changed.bid, priceText(instrument)),
        ...present("bid_size", changed.bid_size, sizeText(instrument)),
        ...present("ask", changed.ask, priceText(instrument)),
        ...present("ask_size", changed.ask_size, sizeText(instrument)),
        ...present("ts_event", changed.ts_event, formatMicros),
      };
    }
    case "trades":
      return {
        topic: `trades:${change.instrument.symbol}`,
        trades: [...change.repeated, ...change.trades].map((trade) =>
          tradeToJson(change.instrument, trade),
        ),
      };
    case "closed_bars":
      return {
        topic: `bars.${change.interval}:${change.instrument.symbol}`,
        closed: [...change.repeated, ...change.bars].map((bar, i) => ({
          number: change.first - change.repeated.length + i,
          ...barToJson(change.instrument, bar),
        })),
      };
    case "bar":
      return {
        topic: `bars.${change.interval}:${change.instrument.symbol}`,
        bar: barToJson(change.instrument, change.changed),
      };
    case "day":
      return {
        topic: `day:${change.instrument.symbol}`,
        ...barToJson(change.instrument, change.changed),
      };
    case "trading":
      return {
        topic: change.instrument ? `status:${change.instrument.symbol}` : "status",
        state: change.status.state,
        ts_event: formatMicros(change.status.ts_event),
      };
    case "feed":
      return { topic: "status", feed: change.feed };
    case "stats":
      return { topic: "stats", stats: change.stats };
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
    ts_event: formatMicros(trade.ts_event),
  };
}

function barToJson(instrument: Instrument, bar: Readonly<Bar>): object {
  const text = priceText(instrument);
  return {
    ...present("start", bar.start, formatSeconds),
    ...present("open", bar.open, text),
    ...present("high", bar.high, text),
    ...present("low", bar.low, text),
    ...present("close", bar.close, text),
    ...present("volume", bar.volume, sizeText(instrument)),
    ...present("trades", bar.trades, (count) => count),
    ...present("vwap", bar.vwap, (units) => formatDecimal(vwap(instrument, units))),
    ...present("previous_close", bar.previous_close, text),
  };
}

function priceText(instrument: Instrument): (units: Units) => string {
  return (units) => formatDecimal(price(instrument, units));
}

function sizeText(instrument: Instrument): (units: Units) => string {
  return (units) => formatDecimal(size(instrument, units));
}

/** The one-field object, or nothing where the field was not sent; null stays null. */
function present<T>(
  name: string,
  value: T | null | undefined,
  text: (value: T) => unknown,
): object {
  if (value === undefined) return {};
  return { [name]: value === null ? null : text(value) };
}
