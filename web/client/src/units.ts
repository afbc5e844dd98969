/**
 * An integer without a bound: a number up to 2^53 − 1 either side of 0, where that is exact, and a bigint beyond. So each value
 * has one form, and `===` compares two.
 */
export type Integer = number | bigint;

export function plus(a: Integer, b: Integer): Integer {
  if (typeof a === "number" && typeof b === "number") {
    const sum = a + b;
    // A sum that was rounded lies beyond 2^53, too.
    if (Number.isSafeInteger(sum)) return sum;
  }
  return shortest(BigInt(a) + BigInt(b));
}

export function minus(a: Integer, b: Integer): Integer {
  return plus(a, -b);
}

/** `a × 10^digits`, for no negative `digits`. */
export function shifted(a: Integer, digits: number): Integer {
  if (digits === 0) return a;
  if (typeof a === "number" && digits <= 15) {
    const product = a * 10 ** digits;
    if (Number.isSafeInteger(product)) return product;
  }
  return shortest(BigInt(a) * 10n ** BigInt(digits));
}

/** As the wire writes it: an integer, or its digits as text if JavaScript would not read them exactly. Null if it is neither. */
export function integerFrom(value: unknown): Integer | null {
  if (Number.isSafeInteger(value)) return value as number;
  if (typeof value !== "string" || !/^-?[1-9]\d{15,39}$/.test(value)) return null;
  const exact = shortest(BigInt(value));
  return typeof exact === "bigint" ? exact : null;
}

function shortest(value: bigint): Integer {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
