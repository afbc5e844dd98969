/** The script of a simulated market, as `GET /v1/feed` has it: its name, and the market's phase. */
export interface Scenario {
  readonly name: string;
  readonly phase: string;
}

/** The state of a replay, as `GET /v1/replay` has it (`docs/http.md`). */
export interface ReplayState {
  readonly kind: "replay" | "simulator" | "publisher";
  readonly state: "playing" | "paused" | "ended" | "stale" | "seeking";
  readonly speed: number | "max";
  /** The current moment in the time of the recording; RFC 3339, as are the other moments. */
  readonly now: string;
  readonly start: string | null;
  readonly end: string | null;
  readonly loop: boolean;
  readonly controllable: boolean;
  /** Null, or absent, if none is played. */
  readonly scenario?: Scenario | null;
}

export type ReplayAction =
  | { readonly action: "play" | "pause" }
  | { readonly action: "speed"; readonly speed: number | "max" }
  | { readonly action: "seek"; readonly to: string }
  | { readonly action: "step"; readonly by: "event" | "1s" };

/** The server's side of the remote control. */
export interface ReplayApi {
  /** Null if the server knows no replays. */
  look(): Promise<ReplayState | null>;
  /** Rejects with the server's reason if it refuses. */
  send(action: ReplayAction): Promise<ReplayState>;
}

/** Requests `replay`, as in `v1/replay`, and, for simulations, `feed`, as in `v1/feed`. */
export function replayApi(replay: string, feed: string, ask: typeof fetch): ReplayApi {
  return {
    async look() {
      const answer = await ask(replay);
      if (answer.status === 404) return null;
      const state = await told<ReplayState>(answer);
      if (state.kind !== "simulator") return state;
      const { scenario } = await told<{ scenario: Scenario | null }>(await ask(feed));
      return { ...state, scenario };
    },
    async send(action) {
      const headers = { "content-type": "application/json" };
      return told(await ask(replay, { method: "POST", headers, body: JSON.stringify(action) }));
    },
  };
}

async function told<T>(answer: Response): Promise<T> {
  const body = (await answer.json().catch(() => ({}))) as Record<string, unknown>;
  if (!answer.ok) throw new Error(String(body["detail"] ?? `the server answers ${answer.status}`));
  return body as T;
}
