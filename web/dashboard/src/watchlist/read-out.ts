import { formatNumber } from "../format.js";
import { dayChange, rowPrice, type Row } from "../market.js";

/** A row as a screen reader reads it out on request: ticks themselves are never announced. */
export function describe(row: Row): string {
  const price = (units: Parameters<typeof rowPrice>[1]) => {
    const value = rowPrice(row, units);
    return value ? formatNumber(value) : "none";
  };
  const moved = dayChange(row);
  const percent = moved && moved.percent;
  const change =
    percent === null
      ? ""
      : `, ${percent < 0 ? "down" : "up"} ${Math.abs(percent).toFixed(2)} percent${moved?.since === "open" ? " since the open" : ""}`;
  const { instrument, quote, day, trading } = row;
  const state = trading && trading !== "open" ? `, ${trading}` : "";
  return `${instrument.symbol}, ${instrument.name}: last ${price(day.close)}${change}, bid ${price(quote.bid)}, ask ${price(quote.ask)}${state}.`;
}
