/** What can take the focus in the market, in order of preference: the list, a tile, the open symbol. */
const MARKET =
  '#watchlist-grid, .heatmap .tile[tabindex="0"], .heatmap .table, section.detail[tabindex]';

/** Focuses the part of the market that is in sight, where the arrows start at the open symbol. */
export function focusMarket(): void {
  const parts = [...document.querySelectorAll<HTMLElement>(MARKET)];
  const shown = parts.find((part) => part.checkVisibility({ visibilityProperty: true }));
  if (shown) shown.focus({ preventScroll: true });
  else (document.activeElement as HTMLElement | null)?.blur();
}

/** After something that may have had the focus has disappeared: the focus must not be lost. */
export function keepFocus(): void {
  const { activeElement } = document;
  // The open symbol takes no keys itself: it has the focus if there was nothing else.
  if (!activeElement || activeElement.matches("body, section.detail")) focusMarket();
}

/** After something that takes keys has appeared: the open symbol had the focus only as a substitute. */
export function handFocusOn(): void {
  if (document.activeElement?.matches("section.detail")) focusMarket();
}
