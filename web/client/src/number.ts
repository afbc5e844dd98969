import type { Decimal, Instrument, Micros, Units } from "./protocol.js";

/** The exact price behind `units` of `instrument`. */
export function price(instrument: Instrument, units: Units): Decimal {
  return { units, scale: instrument.price_scale };
}

/** The exact size behind `units` of `instrument`. */
export function size(instrument: Instrument, units: Units): Decimal {
  return { units, scale: instrument.size_scale };
}

/** The exact volume-weighted average price: a hundredth of a price unit finer than prices. */
export function vwap(instrument: Instrument, hundredths: Units): Decimal {
  return { units: hundredths, scale: instrument.price_scale + 2 };
}

/** As plain text with all digits of the scale: `{ units: -5, scale: 2 }` is `-0.05`. */
export function formatDecimal({ units, scale }: Decimal): string {
  const sign = units < 0 ? "-" : "";
  const digits = String(units)
    .replace("-", "")
    .padStart(scale + 1, "0");
  const point = digits.length - scale;
  return scale === 0 ? sign + digits : `${sign}${digits.slice(0, point)}.${digits.slice(point)}`;
}

/** The nearest float, for charts and percentages; never for what is shown as a price. */
export function toNumber({ units, scale }: Decimal): number {
  return Number(units) / 10 ** scale;
}

/** RFC 3339 in UTC with microseconds. */
export function formatMicros(micros: Micros): string {
  const milliseconds = Math.floor(micros / 1000);
  const rest = String(micros - milliseconds * 1000).padStart(3, "0");
  return new Date(milliseconds).toISOString().replace("Z", `${rest}Z`);
}

/** RFC 3339 in UTC with whole seconds. */
export function formatSeconds(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
}
