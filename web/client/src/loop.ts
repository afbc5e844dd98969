/**
 * Updates for `for await`: a consumer that asks for each update, and an iterator that ends where the client does.
 *
 * Invariant: however a loop is left, it waits for nothing and receives nothing more.
 */

import type { ConnectionState } from "./api.js";
import type { Loop } from "./delivery.js";
import type { Update } from "./protocol.js";

/**
 * @param listen calls for each state from now on, until the returned function is called
 * @param signal ends it
 */
export function updatesOf(
  loop: Loop,
  listen: (listener: (state: ConnectionState) => void) => () => void,
  signal: AbortSignal | undefined,
): AsyncIterableIterator<Update> {
  let closed: Extract<ConnectionState, { kind: "closed" }> | null = null;
  const abort = () => loop.wake();
  signal?.addEventListener("abort", abort);
  const stopListening = listen((state) => {
    closed = state.kind === "closed" ? state : null;
    if (closed) loop.wake();
  });
  const stop = () => {
    loop.stop();
    stopListening();
    signal?.removeEventListener("abort", abort);
  };
  return iterate(stop, async () => {
    for (;;) {
      if (signal?.aborted) return null;
      const update = closed ? loop.take() : await loop.next();
      if (update) return update;
      const end = closed as Extract<ConnectionState, { kind: "closed" }> | null;
      if (end?.code === 1000) return null;
      if (end) throw new Error(`closed with ${end.code}: ${end.reason}`);
    }
  });
}

/** @param next null ends it */
function iterate<T>(stop: () => void, next: () => Promise<T | null>): AsyncIterableIterator<T> {
  let done = false;
  const end = (): IteratorResult<T> => {
    done = true;
    stop();
    return { done: true, value: undefined };
  };
  return {
    async next() {
      if (done) return end();
      try {
        const value = await next();
        return value === null ? end() : { done: false, value };
      } catch (error) {
        end();
        throw error;
      }
    },
    return: () => Promise.resolve(end()),
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}
