import type { Feed } from "@tickcast/client";
import type { LinkState } from "../data/link.js";

/** Whether the prices on the page are the present. */
export type Tone = "good" | "warn" | "bad";

export interface Badge {
  tone: Tone;
  label: string;
  /** A sentence that says what it means. */
  detail: string;
}

/** @param now by the clock of the times in `state`, in ms */
export function connectionBadge(state: LinkState, now: number): Badge {
  switch (state.kind) {
    case "connecting":
      return { tone: "warn", label: "Connecting", detail: "Connecting to the server." };
    case "live":
      return { tone: "good", label: "Live", detail: "Updates arrive as the server sends them." };
    case "lagging": {
      const late = `${(state.by_ms / 1000).toFixed(1)} s`;
      return {
        tone: "warn",
        label: `Lagging ${late}`,
        detail: `Connected, but prices are shown ${late} late: this computer, the way to it or the server cannot keep up.`,
      };
    }
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
        detail: `There is no connection: ${state.reason}. Trying again ${wait} (${attempt}).`,
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

/** Whether a server that is only published to has received nothing yet: it waits, and nothing is wrong. */
export function isAwaited(feed: Feed | null, instruments: number): boolean {
  return feed?.kind === "publisher" && feed.state === "stale" && instruments === 0;
}

/**
 * What feeds the server. Never called live unless a publisher is.
 *
 * @param instruments how many the server has
 */
export function feedBadge(feed: Feed | null, instruments: number): Badge {
  if (!feed)
    return {
      tone: "warn",
      label: "FEED UNKNOWN",
      detail: "The server has not said what feeds it.",
    };
  if (isAwaited(feed, instruments))
    return {
      tone: "good",
      label: "Waiting for a publisher",
      detail: "The server is ready, and nothing has been published yet.",
    };
  const name = {
    simulator: "SIMULATED",
    replay: feed.speed === "max" ? "REPLAY MAX" : `REPLAY ×${feed.speed}`,
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
    case "seeking":
      return {
        tone: "warn",
        label: `${name} seeking`,
        detail: `${source}, of which another moment is being brought about.`,
      };
  }
}

/** Whether prices come: over a connection, from a feed that runs. */
export function isFresh(state: LinkState, feed: Feed | null): boolean {
  return isConnected(state) && (feed?.state === "live" || feed?.state === "seeking");
}

export function isConnected({ kind }: LinkState): boolean {
  return kind === "live" || kind === "lagging";
}
