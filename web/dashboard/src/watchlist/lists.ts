import { escapeSymbol, unescapeSymbol } from "@tickcast/client";

/** A list of symbols that the user made, in the user's order. */
export interface SymbolList {
  readonly name: string;
  readonly symbols: readonly string[];
}

/** As the server has it: 1 to 64 characters of printable ASCII, without commas and stars. */
/** As the server has them: printable, without a blank at an end. */
const SYMBOL = /^(?! )[^\p{C}\p{Zl}\p{Zp}]+(?<! )$/u;
export const LONGEST_NAME = 40;
/** More would be too long for an address. */
export const MOST_SYMBOLS = 500;

const KEY = "tickcast.lists";

/** Lists by name. Immutable: every change gives a new object, so that observers notice it. */
export class Lists {
  constructor(readonly all: readonly SymbolList[] = []) {}

  static read(storage: Pick<Storage, "getItem">): Lists {
    try {
      const saved: unknown = JSON.parse(storage.getItem(KEY) ?? "[]");
      return new Lists(Array.isArray(saved) ? saved.filter(isSymbolList) : []);
    } catch {
      return new Lists(); // not ours, or malformed
    }
  }

  write(storage: Pick<Storage, "setItem">): void {
    try {
      storage.setItem(KEY, JSON.stringify(this.all));
    } catch {
      // Full or forbidden: the address still holds the list that is open.
    }
  }

  find(name: string): SymbolList | undefined {
    return this.all.find((list) => list.name === name);
  }

  /** Adds `list`, in place of the one of its name. */
  with(list: SymbolList): Lists {
    const others = this.all.filter(({ name }) => name !== list.name);
    return new Lists([...others, list].sort((a, b) => a.name.localeCompare(b.name)));
  }

  without(name: string): Lists {
    return new Lists(this.all.filter((list) => list.name !== name));
  }
}

/** `list` with `symbol` at its end, or without it if it has it. */
export function toggled(list: SymbolList, symbol: string): SymbolList {
  const symbols = list.symbols.includes(symbol)
    ? list.symbols.filter((known) => known !== symbol)
    : [...list.symbols, symbol].slice(0, MOST_SYMBOLS);
  return { ...list, symbols };
}

/** Symbols in pasted text: one a line, or with commas, semicolons or tabs between them. */
export function parseSymbols(text: string): string[] {
  const symbols = text
    .split(/[\n,;\t]/)
    .map((symbol) => unescapeSymbol(symbol.trim()))
    .filter(isSymbol);
  return [...new Set(symbols)].slice(0, MOST_SYMBOLS);
}

/** Symbols as a text that {@link parseSymbols} reads: one a line. */
export function formatSymbols(symbols: readonly string[]): string {
  return symbols.map((symbol) => escapeSymbol(symbol).replaceAll(";", "%3B")).join("\n");
}

export function isSymbolList(value: unknown): value is SymbolList {
  if (typeof value !== "object" || value === null) return false;
  const { name, symbols } = value as Partial<Record<keyof SymbolList, unknown>>;
  if (typeof name !== "string" || name.trim() === "" || name.length > LONGEST_NAME) return false;
  return Array.isArray(symbols) && symbols.length <= MOST_SYMBOLS && symbols.every(isSymbol);
}

function isSymbol(value: unknown): value is string {
  return (
    typeof value === "string" && SYMBOL.test(value) && new TextEncoder().encode(value).length <= 128
  );
}
