/**
 * Finds out by HTTP why a connection failed, if the transport does not say, as WebSockets of browsers do not.
 *
 * Invariant: of an answer no more is read than its first 4 KiB.
 */

import type { Clock } from "./clock.js";

/** Bounds a search in time. */
export const PROBE_TIMEOUT_MS = 3_000;
/** The part of an answer that says why there is no connection. */
export const PROBLEM_BYTES = 4_096;

const BODY_TIMEOUT_MS = 500;

/** One search at a time. */
export class Prober {
  private running: AbortController | null = null;

  constructor(
    private readonly url: string,
    private readonly fetch: typeof globalThis.fetch,
    private readonly clock: Clock,
  ) {}

  /** @param done receives the result, null for nothing, unless {@link stop} comes first */
  start(done: (reason: string | null) => void): void {
    const running = new AbortController();
    this.running = running;
    const cancel = this.clock.after(PROBE_TIMEOUT_MS, () => running.abort());
    void probe(this.url, this.fetch, running.signal).then((reason) => {
      cancel();
      if (this.running !== running) return;
      this.running = null;
      done(reason);
    });
  }

  stop(): void {
    this.running?.abort();
    this.running = null;
  }
}

/**
 * Why a handshake at `url` failed.
 *
 * @returns null if nothing more is known
 */
async function probe(
  url: string,
  fetch: typeof globalThis.fetch,
  signal: AbortSignal,
): Promise<string | null> {
  const http = url.replace(/^ws/, "http");
  const options: RequestInit = { signal, cache: "no-store", redirect: "manual" };
  try {
    const response = await fetch(http, options);
    const body = await start(response);
    if (response.status === 426 || response.ok || response.type === "opaqueredirect")
      return `there is a server, but the WebSocket handshake failed (HTTP ${response.status} without it)`;
    return problem(response.status, response.statusText, body);
  } catch {
    if (signal.aborted) return null;
  }
  try {
    // Only whether anything answers: pages of this origin may not read the answer.
    await fetch(http, { ...options, mode: "no-cors" });
    return "there is a server, but it does not allow pages of this origin";
  } catch {
    return signal.aborted ? null : "nothing answers there";
  }
}

/** Why an answer is a refusal; what of its body does not come soon is not waited for. */
export async function refusal(
  response: globalThis.Response,
  clock: Pick<Clock, "after">,
): Promise<string> {
  const { status, statusText } = response;
  const late = new Promise<Uint8Array>((resolve) =>
    clock.after(BODY_TIMEOUT_MS, () => resolve(new Uint8Array())),
  );
  return problem(status, statusText, await Promise.race([start(response), late]));
}

async function start(response: globalThis.Response): Promise<Uint8Array> {
  let body = new Uint8Array();
  const reader = response.body?.getReader();
  while (reader && body.length < PROBLEM_BYTES) {
    const { done, value } = await reader.read();
    if (done) return body;
    body = joined(body, value);
  }
  await reader?.cancel();
  return body;
}

export function joined(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

/** The status and, of an `application/problem+json` body, what is wrong. */
export function problem(status: number, name: string, body: Uint8Array): string {
  const words = detail(new TextDecoder().decode(body.subarray(0, PROBLEM_BYTES)));
  return `HTTP ${status}${name ? ` ${name}` : ""}${words ? `: ${words}` : ""}`;
}

function detail(body: string): string {
  try {
    const { title, detail } = JSON.parse(body) as { title?: unknown; detail?: unknown };
    return typeof detail === "string" ? detail : typeof title === "string" ? title : "";
  } catch {
    return "";
  }
}
