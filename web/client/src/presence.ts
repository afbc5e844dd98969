/** The part of a window or a worker's scope that is used. */
export interface PageLike {
  addEventListener(
    type: string,
    listener: (event: { persisted?: boolean }) => void,
    capture?: boolean,
  ): void;
  removeEventListener(
    type: string,
    listener: (event: { persisted?: boolean }) => void,
    capture?: boolean,
  ): void;
}

export interface PresenceEvents {
  /** The page is suspended, and may come back as it was: nothing runs, and no connection lasts, until {@link wake}. */
  sleep(): void;
  wake(): void;
  /** The network is back, or the page is visible again: a wait is pointless, and a connection may be dead. */
  stir(): void;
}

/**
 * Follows whether a page runs: the browser's cache of pages (the back button), freezing, and the network.
 *
 * @returns stops following
 */
export function followPresence(page: PageLike, events: PresenceEvents): () => void {
  const listeners: Record<string, (event: { persisted?: boolean }) => void> = {
    pagehide: ({ persisted }) => persisted && events.sleep(),
    freeze: () => events.sleep(),
    pageshow: ({ persisted }) => persisted && events.wake(),
    resume: () => events.wake(),
    online: () => events.stir(),
    offline: () => events.stir(),
    visibilitychange: () => globalThis.document?.visibilityState !== "hidden" && events.stir(),
  };
  // Events of the document reach the window only in the capture phase.
  for (const [type, listener] of Object.entries(listeners))
    page.addEventListener(type, listener, true);
  return () => {
    for (const [type, listener] of Object.entries(listeners))
      page.removeEventListener(type, listener, true);
  };
}

/** The global scope of a page or of its worker. */
export function thisPage(): PageLike | null {
  const scope = globalThis as Partial<PageLike>;
  const isBrowser = "document" in globalThis || "WorkerGlobalScope" in globalThis;
  return isBrowser && scope.addEventListener ? (globalThis as unknown as PageLike) : null;
}
