import { Link, type Frames } from "./link.js";
import type { ToPage, ToRelay } from "./messages.js";

/**
 * Connects the page with the server by a worker: one for all tabs where the browser has shared workers, else one of its own.
 *
 * @param url of the WebSocket endpoint; tabs share a worker only where it is the same
 */
export function connectLink(url: URL, frames: Frames): Link {
  const port = openPort(url.href);
  const say = (message: ToRelay) => port.postMessage(message);
  const greet = () => say({ kind: "hello", lock: holdLock() });
  greet();
  const link = new Link(port, frames);
  port.onmessage = ({ data }: MessageEvent<ToPage>) => link.receive(data);
  addEventListener("online", () => link.reconnectNow());
  addEventListener("pagehide", () => say({ kind: "goodbye" }));
  // Back out of the browser's cache of pages, as it was.
  addEventListener("pageshow", ({ persisted }) => {
    if (!persisted) return;
    greet();
    link.ask();
  });
  return link;
}

type RelayPort = MessagePort | Worker;

// The worker's name tells it where the server is. Both calls are written out: the bundler looks for them as they stand.
function openPort(name: string): RelayPort {
  if (typeof SharedWorker === "undefined")
    return new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name });
  const worker = new SharedWorker(new URL("./worker.ts", import.meta.url), {
    type: "module",
    name,
  });
  return worker.port;
}

/** Takes a lock that lasts as long as the page, by which the worker learns when it is gone. */
function holdLock(): string | null {
  // Only secure contexts have locks.
  if (!("locks" in navigator)) return null;
  const name = `tickcast page ${crypto.randomUUID()}`;
  void navigator.locks.request(name, () => new Promise(() => {}));
  return name;
}
