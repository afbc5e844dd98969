import type { ReplayAction, ReplayState } from "./protocol.js";

/**
 * The remote control of what the server plays: a recording, a scenario or a simulation. Each method is answered with how
 * things stand when it is done, and rejects with a {@link RequestError} where the server does not do it, and with another
 * error where there is no session, or it ends before the answer.
 *
 * What others do with it is told by `status` events, and that all was wound to another moment by `replaced`.
 */
export class ReplayControl {
  /** @param ask sends one request, and is answered or refused */
  constructor(private readonly ask: (action: ReplayAction) => Promise<ReplayState>) {}

  /** How it stands, and whether this session may control it. */
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
  speed(times: number | "max"): Promise<ReplayState> {
    return this.ask({ action: "speed", speed: times });
  }

  /**
   * Winds it to a moment between its start and its end. May take seconds: what lies between is played.
   *
   * @param to RFC 3339 where milliseconds are too coarse
   */
  seek(to: Date | string): Promise<ReplayState> {
    return this.ask({ action: "seek", to: typeof to === "string" ? to : to.toISOString() });
  }

  /** Pauses, and plays one quote, trade or state, or an interval such as `250ms`, `1s` or `10m`. */
  step(by = "event"): Promise<ReplayState> {
    return this.ask({ action: "step", by });
  }
}

/** The server did not do what was asked for, and said why. */
export class RequestError extends Error {
  override readonly name = "RequestError";

  constructor(
    /** As `docs/protocol.md` lists them. */
    readonly code: string,
    message: string,
  ) {
    super(message);
  }
}
