import type { Feed } from "@tickcast/client";
import type { LinkState } from "../data/link.js";
import type { Row } from "../market.js";
import { isFresh } from "./badge.js";

/** Nothing counts as silent before this, however fast it usually is. */
const SHORTEST_MS = 5_000;
/** A row with only one or two changes has no usual pace yet. */
const UNKNOWN_PACE_MS = 30_000;
/** A row is silent after this many of its usual intervals. */
const INTERVALS = 3;

/**
 * For how long nothing came for `row`, if that is longer than usual; else null, and also when nothing is
 * expected: the market is closed, the feed paused, or the connection itself is lost and says so.
 */
export function silence(
  row: Row,
  now: number,
  connection: LinkState,
  feed: Feed | null,
): number | null {
  if (row.heardAt === null || !isFresh(connection, feed)) return null;
  if (row.trading === "closed" || row.trading === "halted" || row.trading === "pre-open")
    return null;
  const quiet = now - row.heardAt;
  const usual = row.pace === null ? UNKNOWN_PACE_MS : Math.max(SHORTEST_MS, INTERVALS * row.pace);
  return quiet > usual ? quiet : null;
}

/** The usual interval of a row, once another change came `interval` ms after the one before. */
export function pace(usual: number | null, interval: number): number {
  return usual === null ? interval : usual + (interval - usual) / 8;
}
