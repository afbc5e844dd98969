/**
 * A server's HTTP routes, beside the address of its WebSocket.
 *
 * Invariant: nothing is asked or heard after `close`.
 */

import type { Clock } from "../clock.js";

/** How long an answer may take that does not wait for the market. */
const ANSWER_MS = 10_000;

export class Endpoint {
  private readonly base: URL;
  private readonly parameters: URLSearchParams;
  private readonly closing = new AbortController();

  /** @param url of the WebSocket, as in `wss://example.com/v1/ws?room=study` */
  constructor(
    url: string,
    private readonly fetch: typeof globalThis.fetch,
    private readonly clock: Pick<Clock, "after">,
  ) {
    const page = (globalThis as { location?: { href: string } }).location?.href;
    const socket = new URL(url, page);
    this.base = new URL(".", socket.href.replace(/^ws/, "http"));
    this.parameters = socket.searchParams;
  }

  /** With the parameters of the room that the client is in, of those that `names` lists, and others. */
  url(
    path: string,
    names: readonly string[],
    others: Readonly<Record<string, string>> = {},
  ): string {
    const url = new URL(path, this.base);
    for (const name of names) {
      const value = this.parameters.get(name);
      if (value !== null) url.searchParams.set(name, value);
    }
    for (const [name, value] of Object.entries(others)) url.searchParams.set(name, value);
    // Topics are readable: commas, colons and asterisks need no escape in a query.
    url.search = url.search.replace(/%(2C|3A|2A|40)/gi, decodeURIComponent);
    return url.href;
  }

  /**
   * Begins a request, which `signal` ends, or `close`.
   *
   * @throws {unknown} if nothing answers
   */
  async get(
    url: string,
    signal: AbortSignal,
    headers: Record<string, string> = {},
  ): Promise<Response> {
    const { fetch } = this;
    return fetch(url, { signal: this.ending(signal), headers, cache: "no-store" });
  }

  /** The answer of a small route; status 0 if there is none. @param body posted as JSON; null for a GET */
  async json(
    path: string,
    body: object | null = null,
  ): Promise<{ status: number; body: Readonly<Record<string, unknown>> }> {
    const late = new AbortController();
    const cancel = this.clock.after(ANSWER_MS, () => late.abort());
    try {
      const url = this.url(path, path === "replay" && body ? ["room", "key"] : ["room"]);
      // As plain text, for which a browser asks no leave first.
      const post = body && { method: "POST", body: JSON.stringify(body) };
      const { fetch } = this;
      const answer = await fetch(url, { signal: this.ending(late.signal), ...post });
      return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
    } catch {
      return { status: 0, body: {} };
    } finally {
      cancel();
    }
  }

  close(): void {
    this.closing.abort();
  }

  /** Of either signal. */
  private ending(signal: AbortSignal): AbortSignal {
    return AbortSignal.any([signal, this.closing.signal]);
  }
}
