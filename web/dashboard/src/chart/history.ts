import type { Interval } from "@tickcast/client";
import type { ChartBar } from "../selection.js";

/** As many as the server keeps, and the open one. */
const MOST = 601;

interface BarsAnswer {
  bars: {
    start: string;
    open?: string | null;
    high?: string | null;
    low?: string | null;
    close?: string | null;
    volume?: string;
  }[];
}

/** The bars that the server keeps of `symbol`, oldest first; none if it does not know it. */
export async function history(
  symbol: string,
  interval: Interval,
  signal: AbortSignal,
): Promise<ChartBar[]> {
  const path = `v1/bars/${encodeURIComponent(symbol)}?interval=${interval}&limit=${MOST}`;
  const answer = await fetch(path, { signal });
  if (!answer.ok) return [];
  const { bars } = (await answer.json()) as BarsAnswer;
  return bars.flatMap(({ start, open, high, low, close, volume }) =>
    open == null || high == null || low == null || close == null
      ? [] // an open bar of which nothing has traded yet
      : [
          {
            time: Date.parse(start) / 1000,
            open: Number(open),
            high: Number(high),
            low: Number(low),
            close: Number(close),
            volume: Number(volume ?? 0),
          },
        ],
  );
}
