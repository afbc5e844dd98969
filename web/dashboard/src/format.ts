import { formatDecimal, toNumber, type Decimal, type Micros } from "@tickcast/client";

/** Shown if there is no value. */
export const NONE = "–";

/** `{ units: -123456, scale: 2 }` is `−1,234.56`, with the minus sign that is as wide as a plus. */
export function formatNumber(value: Decimal): string {
  const [whole = "", fraction] = formatDecimal(value).replace("-", "").split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return `${value.units < 0 ? "−" : ""}${grouped}${fraction === undefined ? "" : `.${fraction}`}`;
}

/** As {@link formatNumber}, with a sign before positive numbers as well. */
export function formatSigned(value: Decimal): string {
  return (value.units > 0 ? "+" : "") + formatNumber(value);
}

/** Percent with two digits and a sign, `+1.20%`; from a thousand on as short as {@link formatVolume}: `+1,234%`, `+12.30M%`. */
export function formatPercent(percent: number | null): string {
  if (percent === null) return NONE;
  if (Math.abs(percent) >= 1_000) {
    const size = formatVolume({ units: Math.round(Math.abs(percent)), scale: 0 });
    return `${percent < 0 ? "−" : "+"}${size}%`;
  }
  return `${formatSigned({ units: Math.round(percent * 100), scale: 2 })}%`;
}

/** As {@link formatNumber}, of a float: those of a chart. */
export function formatFloat(value: number, digits: number): string {
  const [whole = "", fraction] = value.toFixed(digits).replace("-", "").split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  const text = grouped + (fraction === undefined ? "" : `.${fraction}`);
  return value < 0 && /[1-9]/.test(text) ? `−${text}` : text;
}

const SHORT = [
  [1e15, "Q"],
  [1e12, "T"],
  [1e9, "B"],
  [1e7, "M"],
] as const;

/** An amount as short as it stays distinct: whole below ten million, then millions, billions (10^9), trillions and quadrillions. */
export function formatVolume(volume: Decimal): string {
  const { scale } = volume;
  const value = toNumber(volume);
  for (const [from, letter] of SHORT)
    if (value >= from) {
      const unit = letter === "M" ? 1e6 : from;
      return `${formatNumber({ units: Math.round((value / unit) * 100), scale: 2 })}${letter}`;
    }
  // Shares of a hundred thousand coins are noise.
  const digits = value >= 1e5 ? 0 : Math.min(scale, 2);
  return formatNumber({ units: Math.round(value * 10 ** digits), scale: digits });
}

/** Time of day in UTC: `18:55:44.120`. */
export function formatTime(micros: Micros): string {
  return new Date(micros / 1000).toISOString().slice(11, 23);
}

/** `n` things, in English. */
export function count(n: number, singular: string): string {
  return `${formatNumber({ units: n, scale: 0 })} ${singular}${n === 1 ? "" : "s"}`;
}

/** How long ago, as short as can be: `8 s`, `5 m`, `2 h`. */
export function formatAge(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000);
  if (seconds < 60) return `${seconds} s`;
  return seconds < 3_600 ? `${Math.floor(seconds / 60)} m` : `${Math.floor(seconds / 3_600)} h`;
}

/** Bytes as people say them: `812 B`, `12.4 KiB`, `3.1 MiB`. */
export function formatBytes(bytes: number): string {
  const [units, name] =
    bytes < 1024
      ? [bytes, "B"]
      : bytes < 1024 ** 2
        ? [bytes / 1024, "KiB"]
        : [bytes / 1024 ** 2, "MiB"];
  return name === "B" ? `${Math.round(units)} B` : `${units.toFixed(1)} ${name}`;
}

/** An integer with thousands separated. */
export function formatWhole(n: number): string {
  return formatNumber({ units: Math.round(n), scale: 0 });
}
