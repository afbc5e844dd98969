export type PageStorage = Pick<Storage, "getItem" | "setItem">;

/** What the browser keeps for this page; if the user forbids that, what the page remembers until it is closed. */
export function openStorage(): PageStorage {
  try {
    return localStorage;
  } catch {
    const kept = new Map<string, string>();
    return {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => void kept.set(key, value),
    };
  }
}
