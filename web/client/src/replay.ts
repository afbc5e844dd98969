import type { ReplayAction, ReplayState, Speed } from "./protocol.js";

export { RequestError } from "./request-error.js";

/**
 * The remote control of what the server plays: a recording, a scenario or a simulation. Each method resolves to the state when it
 * is done. It rejects with a `RequestError` if the server refuses, and with another
 * error if there is no session, or it ends before the answer.
 *
 * What others do with it comes as `status` events, a seek as `replaced`.
 */
export class ReplayControl {
  /** @param ask sends one request, and resolves or rejects */
  constructor(private readonly ask: (action: ReplayAction) => Promise<ReplayState>) {}

  /** Its state, and whether this session may control it. */
  state(): Promise<ReplayState> {
    return this.ask({});
  }

  /** Goes on; what has ended begins again. */
  play(): Promise<ReplayState> {
    return this.ask({ action: "play" });
  }

  pause(): Promise<ReplayState> {
    return this.ask({ action: "pause" });
  }

  /** @param times real time, 0.1 to 1,000, or as fast as it can */
  speed(times: Speed): Promise<ReplayState> {
    return this.ask({ action: "speed", speed: times });
  }

  /**
   * Seeks to a moment between its start and its end. May take seconds: what lies between is played.
   *
   * @param to RFC 3339 if milliseconds are too coarse
   */
  seek(to: Date | string): Promise<ReplayState> {
    return this.ask({ action: "seek", to: typeof to === "string" ? to : to.toISOString() });
  }

  /** Pauses, and plays one quote, trade or state, or an interval such as `250ms`, `1s` or `10m`. */
  step(by = "event"): Promise<ReplayState> {
    return this.ask({ action: "step", by });
  }
}
