import type { ReplayAction, ReplayApi, ReplayState } from "./api.js";

/**
 * The remote control of a replay. What it shows is what the server said last, carried on by the clock; an action that
 * is under way is shown as if it were done, and marked as such, until the server has answered.
 *
 * No I/O and no clock of its own.
 */
export class Remote {
  /** What the server said last; null before it has, and where there is nothing to control. */
  private told: ReplayState | null = null;
  /** When it said so. */
  private toldAt = 0;
  private readonly waiting: ReplayAction[] = [];
  private underWay: ReplayAction | null = null;
  /** Answers to a look that was begun before an action are of the past. */
  private actions = 0;
  /** Why the last action was not done; empty where it was. */
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

  /** How it stands, with what is under way taken for done. */
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

  /** Of a simulation, which has no end, there is no place to go to; and of what is published nothing is played. */
  get isShown(): boolean {
    return this.told?.controllable === true && this.told.kind === "replay";
  }

  /** Where it stands now, in ms since 1970. */
  get position(): number {
    return this.state ? Date.parse(this.state.now) : 0;
  }

  /** Asks how it stands: to be called now and then, and when the feed is said to have changed. */
  async look(): Promise<void> {
    const { actions } = this;
    let state: ReplayState | null;
    try {
      state = await this.api.look();
    } catch {
      return; // the badge of the connection tells what is wrong
    }
    if (actions === this.actions && !this.isBusy) this.take(state);
  }

  /** Does one thing after the other. Of several places or speeds that wait only the last one is wanted. */
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
        this.take(await this.api.send(action));
      } catch (error) {
        this.error = error instanceof Error ? error.message : String(error);
        this.waiting.length = 0;
      }
    }
    this.underWay = null;
    this.changed();
    // What was not done, or was done by somebody else meanwhile, is not to be guessed.
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

/** How it will stand once `action` is done, as far as that can be known. */
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

/** The usual speeds, and the one it has where that is another. */
export function speeds(current: number | "max"): readonly (number | "max")[] {
  if (SPEEDS.includes(current)) return SPEEDS;
  return [...SPEEDS, current].sort(
    (a, b) => (a === "max" ? Infinity : a) - (b === "max" ? Infinity : b),
  );
}

/** How far one press of an arrow key goes, in ms: a round time, some two hundred to the whole. */
export function arrowStep(lengthMs: number): number {
  const seconds = [0.1, 0.5, 1, 5, 10, 30, 60, 300, 600, 1_800];
  return 1000 * (seconds.find((step) => step * 1000 * 200 >= lengthMs) ?? 3_600);
}

/** `2024-08-08 23:54:20.1` in UTC; the day only where the recording has several. */
export function timeText(ms: number, withDay: boolean): string {
  const iso = isoOf(ms);
  return `${withDay ? `${iso.slice(0, 10)} ` : ""}${iso.slice(11, 21)}`;
}

/** What is shown of the state in words. */
export function stateText({ kind, state, speed }: ReplayState): string {
  const what =
    kind === "simulator" ? "Simulated" : speed === "max" ? "Replay max" : `Replay ×${speed}`;
  return state === "playing" ? what : `${what}, ${state}`;
}

export function isoOf(ms: number): string {
  return new Date(ms).toISOString();
}
