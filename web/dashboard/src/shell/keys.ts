/** What a key can do. */
export type Command =
  | "search"
  | "help"
  | "pause"
  | "theme"
  | "density"
  | "columns"
  | "watchlist"
  | "heatmap"
  | "list"
  | "details"
  | "talk"
  | `timeframe ${1 | 2 | 3 | 4 | 5 | 6}`;

export interface Binding {
  keys: readonly string[];
  says: string;
  command?: Command;
}

/** The keys of the page, in the order the help shows them. Those without a command belong to what has the focus. */
export const BINDINGS: readonly { group: string; bindings: readonly Binding[] }[] = [
  {
    group: "Anywhere",
    bindings: [
      { keys: ["/", "Ctrl+K"], says: "Search a symbol or name", command: "search" },
      { keys: ["Space"], says: "Pause the display, or resume at now", command: "pause" },
      { keys: ["W"], says: "Watchlist", command: "watchlist" },
      { keys: ["H"], says: "Heatmap", command: "heatmap" },
      { keys: ["L"], says: "Put the open symbol on the list, or take it off", command: "list" },
      { keys: ["I"], says: "Details of the connection", command: "details" },
      { keys: ["M"], says: "Messages of the desk, and who watches", command: "talk" },
      { keys: ["T"], says: "Theme: system, dark, light", command: "theme" },
      { keys: ["D"], says: "Density of rows", command: "density" },
      { keys: ["C"], says: "Columns of the watchlist", command: "columns" },
      { keys: ["?"], says: "This help", command: "help" },
      { keys: ["Esc"], says: "Close what is open" },
    ],
  },
  {
    group: "Chart",
    bindings: [
      { keys: ["1"], says: "Bars of 1 second", command: "timeframe 1" },
      { keys: ["2"], says: "Bars of 5 seconds", command: "timeframe 2" },
      { keys: ["3"], says: "Bars of 1 minute", command: "timeframe 3" },
      { keys: ["4"], says: "Bars of 5 minutes", command: "timeframe 4" },
      { keys: ["5"], says: "Bars of 15 minutes", command: "timeframe 5" },
      { keys: ["6"], says: "Bars of 1 hour", command: "timeframe 6" },
    ],
  },
  {
    group: "Watchlist, heatmap and movers",
    bindings: [
      { keys: ["↑", "↓", "J", "K"], says: "Previous or next row" },
      { keys: ["Page Up", "Page Down", "Home", "End"], says: "Further" },
      { keys: ["Enter"], says: "Open the symbol everywhere" },
      { keys: ["Delete"], says: "Take the row off the list" },
      { keys: ["R"], says: "Read the row out" },
      { keys: ["Shift+←", "Shift+→"], says: "On the head of a column: its width" },
      { keys: ["Alt+Shift+←", "Alt+Shift+→"], says: "On the head of a column: its place" },
    ],
  },
];

/** The part of a keyboard event that is used. */
export type Key = Pick<KeyboardEvent, "key" | "ctrlKey" | "metaKey" | "altKey">;

/**
 * The command of `event`.
 *
 * @param letters whether single-character keys have an effect; those with Ctrl and Space always do
 */
export function commandOf(event: Key, letters: boolean): Command | undefined {
  const control = event.ctrlKey || event.metaKey;
  if (event.altKey) return undefined;
  const pressed = event.key === " " ? "Space" : event.key.toUpperCase();
  const name = control ? `Ctrl+${pressed}` : pressed;
  if (!letters && name.length === 1) return undefined;
  for (const { bindings } of BINDINGS)
    for (const { keys, command } of bindings) if (command && keys.includes(name)) return command;
  return undefined;
}

/** Whether an element uses `key` itself, so that the page must not. */
export function isTaken(target: EventTarget | null, key: string): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.closest("dialog")) return true;
  if (target instanceof HTMLInputElement && target.type !== "checkbox") return true;
  if (target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement) return true;
  const presses = key === " " || key === "Enter";
  return presses && target.closest("button, a, summary, input, [role=option]") !== null;
}
