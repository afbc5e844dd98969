/**
 * Whether and when to come back after a lost connection; and what close codes mean in words.
 *
 * Pure: randomness is passed in. Invariant: it waits as long as the Rust client; `tests/backoff.json` checks both.
 */

import type { Goodbye } from "./protocol.js";
import { BACKOFF, CLOSE_CODES } from "./schema.js";

/**
 * Whether coming back can help after `code`, or the client must be fixed first.
 *
 * @param code null if the connection ended without a Close frame
 */
export function mayReconnect(code: number | null): boolean {
  return code === null || CLOSE_CODES[code]?.then !== "stay away";
}

/** Whether the server asked for the wait after `code`: then only the user may cut it short. */
export function isAskedFor(code: number | null): boolean {
  return code !== null && CLOSE_CODES[code]?.then === "return slower";
}

/**
 * How long to wait before attempt `attempt` (counted from 1): at first what the goodbye asks for, else
 * exponential with full jitter, so that clients that were cut off together do not come back together.
 *
 * @param random in [0, 1)
 */
export function reconnectDelay(
  attempt: number,
  random: number,
  code: number | null,
  goodbye: Pick<Goodbye, "retry_after_ms" | "jitter_ms"> | null,
): number {
  if (goodbye && attempt === 1) {
    const granted = (ms: number) => Math.min(BACKOFF.longest_asked_ms, ms);
    return granted(goodbye.retry_after_ms) + random * granted(goodbye.jitter_ms);
  }
  const first = isAskedFor(code) ? BACKOFF.first_when_busy_ms : BACKOFF.first_ms;
  return random * Math.min(BACKOFF.longest_ms, first * 2 ** (attempt - 1));
}

/** The reason of a close code if the Close frame gave none. */
export function reasonOf(code: number, reason: string): string {
  return (
    reason || CLOSE_CODES[code]?.reason || OF_NO_FRAME[code] || "the server closed the connection"
  );
}

/** What a browser reports without a Close frame. */
const OF_NO_FRAME: Readonly<Record<number, string>> = {
  1005: "the connection was closed without a reason",
  1006: "the connection was lost",
};
