import type { ConnectionState, Feed } from "tickcast-client";

/** How much the prices on the page can be trusted to be the present. */
export type Tone = "good" | "warn" | "bad";

export interface Badge {
  tone: Tone;
  label: string;
  /** A sentence that says what it means. */
  detail: string;
}

/** A page that shows one price in a hundred this late lags behind the market, in ms. */
const LAGGING_MS = 2_000;

/**
 * @param now of the clock that the times in `state` are of, in ms
 * @param p99 how late one price in a hundred is shown, in ms; null where that is not known
 */
export function connectionBadge(
  state: ConnectionState,
  now: number,
  p99: number | null = null,
): Badge {
  switch (state.kind) {
    case "connecting":
      return { tone: "warn", label: "Connecting", detail: "Connecting to the server." };
    case "live":
      return p99 !== null && p99 > LAGGING_MS
        ? {
            tone: "warn",
            label: "Lagging",
            detail: `Connected, but some prices are shown ${(p99 / 1000).toFixed(1)} s late.`,
          }
        : { tone: "good", label: "Live", detail: "Updates arrive as the server sends them." };
    case "stale": {
      const silence = `${Math.floor((now - state.heard_at) / 1000)} s`;
      return {
        tone: "bad",
        label: `Stale ${silence}`,
        detail: `Connected, but nothing was heard for ${silence}.`,
      };
    }
    case "reconnecting": {
      const attempt = `attempt ${state.attempt}`;
      const wait =
        state.retry_at === null
          ? "now"
          : `in ${Math.ceil(Math.max(0, state.retry_at - now) / 1000)} s`;
      return {
        tone: "bad",
        label: `Reconnecting, ${attempt} ${wait}`,
        detail: `The connection is lost. Trying again ${wait} (${attempt}).`,
      };
    }
    case "closed":
      return {
        tone: "bad",
        label: "Offline",
        detail: `The connection is closed: ${state.reason || `code ${state.code}`}. Reload to try again.`,
      };
  }
}

/** What feeds the server. Never called live unless a publisher is. */
export function feedBadge(feed: Feed | null): Badge {
  if (!feed)
    return {
      tone: "warn",
      label: "FEED UNKNOWN",
      detail: "The server has not said what feeds it.",
    };
  const name = {
    simulator: "SIMULATED",
    replay: feed.speed === null ? "REPLAY MAX" : `REPLAY ×${feed.speed}`,
    publisher: feed.state === "live" ? "LIVE publisher" : "Publisher",
  }[feed.kind];
  const source = {
    simulator: "Prices are made by the simulator",
    replay: "Prices are replayed from a recording",
    publisher: "Prices come from a publisher",
  }[feed.kind];
  switch (feed.state) {
    case "live":
      return { tone: "good", label: name, detail: `${source}.` };
    case "stale":
      return { tone: "bad", label: `${name} stale`, detail: `${source}, which has fallen silent.` };
    case "paused":
      return { tone: "warn", label: `${name} paused`, detail: `${source}, which is paused.` };
    case "ended":
      return { tone: "warn", label: `${name} ended`, detail: `${source}, which has ended.` };
  }
}

/** Whether what is shown is the present: only with a live connection and a live feed. */
export function isFresh(state: ConnectionState, feed: Feed | null): boolean {
  return state.kind === "live" && feed?.state === "live";
}
