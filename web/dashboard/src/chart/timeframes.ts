import type { Interval } from "@tickcast/client";

/** How long the bars of the chart are, and from which of the server's bars they are combined. */
export const TIMEFRAMES = [
  { name: "1s", label: "1 second", seconds: 1, interval: "1s" },
  { name: "5s", label: "5 seconds", seconds: 5, interval: "1s" },
  { name: "1m", label: "1 minute", seconds: 60, interval: "1m" },
  { name: "5m", label: "5 minutes", seconds: 300, interval: "1m" },
  { name: "15m", label: "15 minutes", seconds: 900, interval: "1m" },
  { name: "1h", label: "1 hour", seconds: 3_600, interval: "1m" },
] as const satisfies readonly {
  name: string;
  label: string;
  seconds: number;
  interval: Interval;
}[];

export type Timeframe = (typeof TIMEFRAMES)[number]["name"];

export function isTimeframe(name: string | null): name is Timeframe {
  return TIMEFRAMES.some((timeframe) => timeframe.name === name);
}

export function timeframe(name: Timeframe): (typeof TIMEFRAMES)[number] {
  return TIMEFRAMES.find((timeframe) => timeframe.name === name)!;
}
