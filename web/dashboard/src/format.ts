import { formatDecimal, type Decimal, type Micros } from "@tickcast/client";

/** What stands where there is no value. */
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

/** `part` of `whole` in percent, with two digits and a sign. */
export function formatPercent(part: number, whole: number): string {
  const hundredths = Math.round((part / whole) * 10_000);
  return `${formatSigned({ units: hundredths, scale: 2 })}%`;
}

/** An amount as short as it can be told apart: whole below ten million, then millions and billions. */
export function formatVolume({ units, scale }: Decimal): string {
  const value = units / 10 ** scale;
  if (value >= 1e9) return `${formatNumber({ units: Math.round(value / 1e7), scale: 2 })}B`;
  if (value >= 1e7) return `${formatNumber({ units: Math.round(value / 1e4), scale: 2 })}M`;
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

/** A whole number with thousands apart. */
export function formatWhole(n: number): string {
  return formatNumber({ units: Math.round(n), scale: 0 });
}
