import type { ReplayAction, ReplayApi, ReplayState } from "./api.js";

/**
 * The remote control of a replay. It shows the server's last state, extrapolated by the clock. An action
 * under way is shown as if it were done, and marked as such, until the server has answered.
 *
 * No I/O and no clock of its own.
 */
export class Remote {
  /** The server's last state; null before the first, and if there is nothing to control. */
  private told: ReplayState | null = null;
  /** When it came. */
  private toldAt = 0;
  private readonly waiting: ReplayAction[] = [];
  private underWay: ReplayAction | null = null;
  /** Answers to a query that was sent before an action are outdated. */
  private actions = 0;
  /** Why the last action was not done; empty if it was. */
  error = "";

  /**
   * @param now in ms, of any clock
   * @param changed is called when there is something else to show
   */
  constructor(
    private readonly api: ReplayApi,
    private readonly now: () => number,
    private readonly changed: () => void,
  ) {}

  /** Its state, with what is under way taken for done. */
  get state(): ReplayState | null {
    const { told } = this;
    if (!told) return null;
    const planned = this.underWay ? [this.underWay, ...this.waiting] : [];
    const here = { ...told, now: isoOf(this.carriedOn(told)) };
    return planned.reduce<ReplayState>(expected, here);
  }

  /** Whether the server has yet to answer. */
  get isBusy(): boolean {
    return this.underWay !== null;
  }

  /**
   * A plain simulation has no end and so no range to seek in; and what is published is not played. The phase of
   * a scenario is also shown to those who may not control it.
   */
  get isShown(): boolean {
    if (!this.told) return false;
    return this.isScenario || (this.told.controllable && this.told.kind === "replay");
  }

  get isScenario(): boolean {
    return this.told?.scenario != null;
  }

  /** The current moment, in ms since 1970. */
  get position(): number {
    return this.state ? Date.parse(this.state.now) : 0;
  }

  /** Requests the state: to be called now and then, and when the feed has changed. */
  async look(): Promise<void> {
    const { actions } = this;
    let state: ReplayState | null;
    try {
      state = await this.api.look();
    } catch {
      return; // the badge of the connection shows what is wrong
    }
    if (actions === this.actions && !this.isBusy) this.take(state);
  }

  /** Does one thing after the other. Of several queued seeks or speeds only the last one is done. */
  act(action: ReplayAction): void {
    const last = this.waiting.at(-1);
    if (last?.action === action.action && (action.action === "seek" || action.action === "speed"))
      this.waiting.pop();
    this.waiting.push(action);
    this.actions++;
    this.error = "";
    if (!this.underWay) void this.work();
    this.changed();
  }

  private async work(): Promise<void> {
    for (let action; (action = this.waiting.shift());) {
      this.underWay = action;
      try {
        // The answer to an action does not contain the scenario: it is the same.
        const scenario = this.told?.scenario ?? null;
        this.take({ ...(await this.api.send(action)), scenario });
      } catch (error) {
        this.error = error instanceof Error ? error.message : String(error);
        this.waiting.length = 0;
      }
    }
    this.underWay = null;
    this.changed();
    // What was not done, or was done by another client meanwhile, is not to be guessed.
    if (this.error !== "") await this.look();
  }

  private take(state: ReplayState | null): void {
    this.told = state;
    this.toldAt = this.now();
    this.changed();
  }

  private carriedOn({ state, speed, now, start, end, loop }: ReplayState): number {
    const at = Date.parse(now);
    if (state !== "playing" || speed === "max") return at;
    const carried = at + (this.now() - this.toldAt) * speed;
    const last = end === null ? Infinity : Date.parse(end);
    if (carried <= last) return carried;
    const first = start === null ? last : Date.parse(start);
    return loop && first < last ? first + ((carried - first) % (last - first)) : last;
  }
}

/** The expected state once `action` is done, as far as that can be known. */
export function expected(state: ReplayState, action: ReplayAction): ReplayState {
  switch (action.action) {
    case "play":
      return state.state === "ended" && state.start !== null
        ? { ...state, state: "playing", now: state.start }
        : { ...state, state: "playing" };
    case "pause":
      return { ...state, state: "paused" };
    case "speed":
      return { ...state, speed: action.speed };
    case "seek":
      // What has ended is played on from there; paused stays paused.
      return { ...state, now: action.to, state: state.state === "ended" ? "playing" : state.state };
    case "step":
      return { ...state, state: "paused" };
  }
}

/** Speeds to choose from. */
export const SPEEDS: readonly (number | "max")[] = [
  0.1,
  0.25,
  0.5,
  1,
  2,
  4,
  10,
  25,
  60,
  100,
  1000,
  "max",
];

/** The usual speeds, and the current one if that is another. */
export function speeds(current: number | "max"): readonly (number | "max")[] {
  if (SPEEDS.includes(current)) return SPEEDS;
  return [...SPEEDS, current].sort(
    (a, b) => (a === "max" ? Infinity : a) - (b === "max" ? Infinity : b),
  );
}

/** How far one press of an arrow key goes, in ms: a round time, some two hundred for the entire recording. */
export function arrowStep(lengthMs: number): number {
  const seconds = [0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1_800];
  return 1000 * (seconds.find((step) => step * 1000 * 200 >= lengthMs) ?? 3_600);
}

/** `2024-08-08 23:54:20.1` in UTC; the day only if the recording has several. */
export function timeText(ms: number, withDay: boolean): string {
  const iso = isoOf(ms);
  return `${withDay ? `${iso.slice(0, 10)} ` : ""}${iso.slice(11, 21)}`;
}

/** The state in words. */
export function stateText({ kind, state, speed }: ReplayState): string {
  const pace = speed === "max" ? " max" : ` ×${speed}`;
  const what = kind === "replay" ? `Replay${pace}` : `Simulated${speed === 1 ? "" : pace}`;
  return state === "playing" ? what : `${what}, ${state}`;
}

export function isoOf(ms: number): string {
  return new Date(ms).toISOString();
}
