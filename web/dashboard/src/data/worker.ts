import { TickcastClient, systemClock } from "@tickcast/client";
import type { ToPage, ToRelay } from "./messages.js";
import { Relay } from "./relay.js";
import type { Tab } from "./tab.js";
import { Timing, feedClock, keepTime } from "./timing.js";

/**
 * The worker that all tabs of the page share, or that one has for itself: it gives each tab's port to the relay, and notices
 * when a tab is gone.
 */

/** A tab without a lock reports that it is alive every 20 s, in the background perhaps once a minute. */
const SILENCE_MS = 150_000;

const url = self.name;
const watched = new TickcastClient(url);
const universe = watched.openSession();
const origin = performance.timeOrigin;
const timing = new Timing(origin);
const relay = new Relay(watched, universe, timing, systemClock, origin);
keepTime(timing, { client: watched, universe }, systemClock, async () => {
  const feed = new URL("feed", url.replace(/^ws/, "http"));
  return feedClock(await (await fetch(feed)).json());
});
relay.connect();

function serve(port: Pick<MessagePort, "postMessage" | "onmessage">): void {
  let tab: Tab | null = null;
  let heardAt = 0;
  let locked = false;
  const forget = () => {
    if (tab) relay.detach(tab);
    tab = null;
    locked = false;
  };
  const listen = () => {
    if (!tab || locked) return;
    if (performance.now() - heardAt > SILENCE_MS) forget();
    else setTimeout(listen, SILENCE_MS);
  };
  port.onmessage = ({ data }: MessageEvent<ToRelay>) => {
    heardAt = performance.now();
    if (data.kind === "goodbye") return forget();
    if (!tab) {
      tab = relay.attach({
        postMessage: (message: ToPage, transfer) => port.postMessage(message, transfer ?? []),
      });
      listen();
    }
    if (data.kind !== "hello") relay.handle(tab, data);
    else if (data.lock !== null) {
      locked = true;
      const gone = tab;
      // Granted when the tab that holds it is gone, for any reason.
      void navigator.locks.request(data.lock, () => relay.detach(gone));
    }
  };
}

// The types of the page and of workers conflict.
const scope = self as unknown as Pick<MessagePort, "postMessage" | "onmessage"> & {
  onconnect?: (event: MessageEvent) => void;
};
if ("onconnect" in scope) scope.onconnect = ({ ports }) => serve(ports[0]!);
else serve(scope);
