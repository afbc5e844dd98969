import type { Integer } from "@tickcast/client";

/**
 * The step of an axis of prices: the instrument's tick, if the drawing library can count in it, else the last digit
 * of written prices. Finer than that two labels would read the same.
 */
export function minMove({ tick_size, price_scale }: { tick_size: Integer; price_scale: number }) {
  const digit = 1 / 10 ** price_scale;
  if (tick_size <= 0) return digit;
  // It takes only unit fractions whose denominator is a product of twos and fives.
  let parts = 10 ** price_scale / Number(tick_size);
  if (!Number.isSafeInteger(parts)) return digit;
  const tick = 1 / parts;
  for (const factor of [2, 5]) while (parts % factor === 0) parts /= factor;
  return parts === 1 ? tick : digit;
}
