/** Shown if there is no value. */
export const NONE = "–";

/** A number as short as it stays distinct: `7`, `0.4`, `812`, `12.3k`, `4.56M`, `1.2G`. */
export function short(value: number): string {
  for (const [unit, name] of [
    [1e9, "G"],
    [1e6, "M"],
    [1e3, "k"],
  ] as const)
    // Below ten thousand every digit fits.
    if (value >= (unit === 1e3 ? 1e4 : unit)) return `${digits(value / unit)}${name}`;
  if (value >= 100 || Number.isInteger(value)) return whole(value);
  return value.toFixed(1);
}

/** Three digits, or all before the point. */
function digits(value: number): string {
  return value.toFixed(value >= 100 ? 0 : value >= 10 ? 1 : 2);
}

/** All digits, thousands separated. */
export function whole(value: number): string {
  return String(Math.round(value)).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** `812 B`, `12.4 KiB`, `3.1 MiB`, `1.2 GiB`. */
export function bytes(value: number): string {
  const names = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = 0;
  while (value >= 1024 && size < names.length - 1) {
    value /= 1024;
    size++;
  }
  return `${size === 0 ? Math.round(value) : value.toFixed(value >= 100 ? 0 : 1)} ${names[size]}`;
}

/** A short time: `66 µs`, `1.5 ms`, `2.3 s`. */
export function micros(value: number): string {
  if (value < 1_000) return `${Math.round(value)} µs`;
  if (value < 1e6) return `${trimmed(value / 1_000)} ms`;
  return `${trimmed(value / 1e6)} s`;
}

function trimmed(value: number): string {
  return value >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(2)));
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)}%`;
}

/** A long time: `42 s`, `3 m 20 s`, `5 h 12 m`, `12 d 4 h`. */
export function span(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1000);
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3_600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "m"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  return parts
    .slice(first < 0 ? 3 : first, first < 0 ? 4 : first + 2)
    .map(([value, name]) => `${value} ${name}`)
    .join(" ");
}

/** Date and time in UTC to the second, of µs since 1970. */
export function moment(micros: number): string {
  return new Date(micros / 1000).toISOString().slice(0, 19).replace("T", " ");
}

/** `Nothing else` if there is no value. */
export function or<T>(value: T | null | undefined, text: (value: T) => string): string {
  return value === null || value === undefined ? NONE : text(value);
}

/** What the codes of Close frames mean (docs/protocol.md). */
export const CLOSE_CODES: Readonly<Record<string, string>> = {
  1000: "closed by the client",
  1001: "going away",
  1002: "broke the protocol",
  1003: "unsupported data",
  1006: "gone without a word",
  1007: "not UTF-8",
  1008: "broke a rule",
  1009: "message too long",
  1011: "the server failed",
  1012: "the server restarts",
  1013: "overloaded",
  4408: "did not read or answer",
  4429: "too many requests",
  other: "a code of the client's own",
};
