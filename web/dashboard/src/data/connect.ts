import { Link, type Frames } from "./link.js";
import type { ToPage, ToRelay } from "./messages.js";

/**
 * Connects the page with the server by a worker: one for all tabs if the browser has shared workers, else one of its own.
 *
 * @param url of the WebSocket endpoint; tabs share a worker only if it is the same
 */
export function connectLink(url: URL, frames: Frames): Link {
  const port = openPort(url.href);
  const say = (message: ToRelay) => port.postMessage(message);
  greet(say);
  const link = new Link(port, frames);
  port.onmessage = ({ data }: MessageEvent<ToPage>) => link.receive(data);
  addEventListener("online", () => link.reconnectNow());
  addEventListener("pagehide", () => say({ kind: "goodbye" }));
  // Restored from the browser's cache of pages.
  addEventListener("pageshow", ({ persisted }) => {
    if (persisted) greet(say);
  });
  return link;
}

type RelayPort = MessagePort | Worker;

// The worker's name carries the server's URL. Both calls are written out: the bundler looks for this exact form.
function openPort(name: string): RelayPort {
  try {
    return new SharedWorker(new URL("./worker.ts", import.meta.url), { type: "module", name }).port;
  } catch {
    // A browser without shared workers, or one that denies them to a page without storage.
    return new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name });
  }
}

/**
 * Registers with a lock that lasts as long as the page, so that the worker notices when the page is gone. The lock is named only once
 * it is held: the worker requests it, too, and must not be first.
 */
function greet(say: (message: ToRelay) => void): void {
  say({ kind: "hello", lock: null });
  // Only secure contexts have locks.
  if (!("locks" in navigator)) return;
  const lock = `tickcast page ${crypto.randomUUID()}`;
  void navigator.locks.request(lock, () => {
    say({ kind: "hello", lock });
    return new Promise(() => {});
  });
}
