/** How a replay stands, as `GET /v1/replay` tells it (`docs/http.md`). */
export interface ReplayState {
  readonly kind: "replay" | "simulator" | "publisher";
  readonly state: "playing" | "paused" | "ended" | "stale";
  readonly speed: number | "max";
  /** RFC 3339, as are the other moments: where it stands, in the time of the recording. */
  readonly now: string;
  readonly start: string | null;
  readonly end: string | null;
  readonly loop: boolean;
  readonly controllable: boolean;
}

export type ReplayAction =
  | { readonly action: "play" | "pause" }
  | { readonly action: "speed"; readonly speed: number | "max" }
  | { readonly action: "seek"; readonly to: string }
  | { readonly action: "step"; readonly by: "event" | "1s" };

/** The server's side of the remote control. */
export interface ReplayApi {
  /** Null where the server knows of no replays. */
  look(): Promise<ReplayState | null>;
  /** Rejects with what the server says where it does not do it. */
  send(action: ReplayAction): Promise<ReplayState>;
}

/** Asks `url`, as in `/v1/replay`. */
export function replayApi(url: string, ask: typeof fetch): ReplayApi {
  return {
    async look() {
      const answer = await ask(url);
      return answer.status === 404 ? null : told(answer);
    },
    async send(action) {
      const headers = { "content-type": "application/json" };
      return told(await ask(url, { method: "POST", headers, body: JSON.stringify(action) }));
    },
  };
}

async function told(answer: Response): Promise<ReplayState> {
  const body = (await answer.json().catch(() => ({}))) as Record<string, unknown>;
  if (!answer.ok) throw new Error(String(body["detail"] ?? `the server answers ${answer.status}`));
  return body as unknown as ReplayState;
}
