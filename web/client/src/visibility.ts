import type { TickcastClient } from "./client.js";

/** The part of a document that is used. */
export interface VisiblePage {
  readonly visibilityState: string;
  addEventListener(type: "visibilitychange", listener: () => void): void;
  removeEventListener(type: "visibilitychange", listener: () => void): void;
}

export interface VisibilityOptions {
  /** Updates a second while the page is hidden. Default: 1. */
  hiddenHz?: number;
  /** Default: `document`. */
  page?: VisiblePage;
}

/**
 * Slows a session to a trickle while the page is hidden. Shown again, it gets the changes since in one merged
 * update, and its old cap.
 *
 * @returns stops following, and restores the cap of a shown page
 */
export function followVisibility(
  client: Pick<TickcastClient, "maxHz" | "setMaxHz">,
  { hiddenHz = 1, page = document }: VisibilityOptions = {},
): () => void {
  let shownHz: number | null | undefined;
  const show = () => {
    if (shownHz !== undefined) client.setMaxHz(shownHz);
    shownHz = undefined;
  };
  const follow = () => {
    if (page.visibilityState !== "hidden") return show();
    if (shownHz !== undefined) return;
    shownHz = client.maxHz;
    client.setMaxHz(Math.min(hiddenHz, shownHz ?? hiddenHz));
  };
  follow();
  page.addEventListener("visibilitychange", follow);
  return () => {
    page.removeEventListener("visibilitychange", follow);
    show();
  };
}
