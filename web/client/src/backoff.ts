import type { Goodbye } from "./protocol.js";

const FIRST_MS = 250;
const FIRST_AFTER_RATE_LIMIT_MS = 5_000;
const LONGEST_MS = 30_000;
/** The most that is granted to a server that asks for a wait. */
const LONGEST_ASKED_MS = 3_600_000;

/** Whether coming back can help after `code`, or the client must be fixed first. */
export function mayReconnect(code: number): boolean {
  return ![1002, 1003, 1007, 1008, 1009, 4410].includes(code);
}

/**
 * How long to wait before attempt `attempt` (counted from 1): what the goodbye asks for at first, else
 * exponential with full jitter, so that clients that were cut off together do not come back together.
 *
 * @param random in [0, 1)
 */
export function reconnectDelay(
  attempt: number,
  random: number,
  code: number,
  goodbye: Pick<Goodbye, "retry_after_ms" | "jitter_ms"> | null,
): number {
  if (goodbye && attempt === 1)
    return Math.min(LONGEST_ASKED_MS, goodbye.retry_after_ms + random * goodbye.jitter_ms);
  const first = code === 4429 ? FIRST_AFTER_RATE_LIMIT_MS : FIRST_MS;
  return random * Math.min(LONGEST_MS, first * 2 ** (attempt - 1));
}
