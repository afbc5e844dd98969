import { expect, test } from "vitest";
import {
  count,
  formatNumber,
  formatPercent,
  formatSigned,
  formatTime,
  formatVolume,
} from "../src/format.js";

test("numbers have the digits of their scale, thousands separators and a true minus", () => {
  const text = (units: number, scale: number) => formatNumber({ units, scale });
  expect(text(18_942, 2)).toBe("189.42");
  expect(text(-123_456_789, 2)).toBe("−1,234,567.89");
  expect(text(5, 4)).toBe("0.0005");
  expect(text(1_000, 0)).toBe("1,000");
  expect(text(999, 0)).toBe("999");
  expect(text(9_007_199_254_740_991, 2)).toBe("90,071,992,547,409.91");
});

test("changes carry their sign", () => {
  expect(formatSigned({ units: 5, scale: 2 })).toBe("+0.05");
  expect(formatSigned({ units: -5, scale: 2 })).toBe("−0.05");
  expect(formatSigned({ units: 0, scale: 2 })).toBe("0.00");
  expect(formatPercent(0.2753)).toBe("+0.28%");
  expect(formatPercent(-0.2753)).toBe("−0.28%");
  expect(formatPercent(null)).toBe("–");
  expect(formatPercent(-1_234.56)).toBe("−1,235%");
  expect(formatPercent(45_678_901)).toBe("+45.68M%");
});

test("volumes get shorter where they would not fit", () => {
  const text = (units: number, scale: number) => formatVolume({ units, scale });
  expect(text(9_999_999, 0)).toBe("9,999,999");
  expect(text(12_345_678, 0)).toBe("12.35M");
  expect(text(2_000_000_000, 0)).toBe("2.00B");
  expect(text(123_456, 3)).toBe("123.46");
});

test("times are of the day in UTC, and counts are English", () => {
  expect(formatTime((Date.UTC(2026, 10, 22, 18, 55, 44, 120) * 1000) as never)).toBe(
    "18:55:44.120",
  );
  expect([count(1, "trade"), count(1_204, "trade")]).toEqual(["1 trade", "1,204 trades"]);
});
