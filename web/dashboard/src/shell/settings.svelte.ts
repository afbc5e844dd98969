import type { ColumnChoice } from "../watchlist/columns.js";
import type { PageStorage } from "./storage.js";

export const THEMES = ["system", "dark", "light"] as const;
export const PALETTES = ["teal-red", "blue-orange", "red-up", "mono"] as const;
export const DENSITIES = ["comfortable", "compact", "ultra"] as const;
export type Theme = (typeof THEMES)[number];
export type Palette = (typeof PALETTES)[number];
export type Density = (typeof DENSITIES)[number];

/** Height of a row of the watchlist and of time and sales, in CSS pixels. */
export const ROW_HEIGHTS: Record<Density, number> = { comfortable: 26, compact: 20, ultra: 16 };

/** What is kept in the browser. Every field is checked when it is read: another version may have written it. */
interface Saved {
  theme: Theme;
  palette: Palette;
  density: Density;
  flash: boolean;
  reducedMotion: boolean;
  letterKeys: boolean;
  /** Null: as many of the usual ones as there is room for. */
  columns: ColumnChoice[] | null;
}

const KEY = "tickcast.settings";

/** How this user likes the page, kept in the browser. */
export class Settings implements Saved {
  theme = $state<Theme>("system");
  palette = $state<Palette>("teal-red");
  density = $state<Density>("compact");
  flash = $state(true);
  /** Besides the system's own preference. */
  reducedMotion = $state(false);
  /** Keys of one letter or sign, which speech input and sticky keys press by accident (WCAG 2.1.4). */
  letterKeys = $state(true);
  columns = $state.raw<ColumnChoice[] | null>(null);

  private readonly systemIsLight = matchMedia("(prefers-color-scheme: light)");
  private readonly systemIsCalm = matchMedia("(prefers-reduced-motion: reduce)");
  private systemTheme = $state<"dark" | "light">("dark");
  private calm = $state(false);

  constructor(private readonly storage: PageStorage) {
    const follow = () => {
      this.systemTheme = this.systemIsLight.matches ? "light" : "dark";
      this.calm = this.systemIsCalm.matches;
    };
    follow();
    this.systemIsLight.addEventListener("change", follow);
    this.systemIsCalm.addEventListener("change", follow);
    this.read();
  }

  get shownTheme(): "dark" | "light" {
    return this.theme === "system" ? this.systemTheme : this.theme;
  }

  get still(): boolean {
    return this.reducedMotion || this.calm;
  }

  get rowHeight(): number {
    return ROW_HEIGHTS[this.density];
  }

  /** Writes what changed, and tells the style sheets. For an effect. */
  apply(root: HTMLElement): void {
    root.dataset["theme"] = this.shownTheme;
    root.dataset["palette"] = this.palette;
    root.dataset["density"] = this.density;
    root.dataset["still"] = String(this.still);
    const { theme, palette, density, flash, reducedMotion, letterKeys, columns } = this;
    const saved: Saved = { theme, palette, density, flash, reducedMotion, letterKeys, columns };
    try {
      this.storage.setItem(KEY, JSON.stringify(saved));
    } catch {
      // Storage is full or forbidden: the page works, and forgets.
    }
  }

  private read(): void {
    let saved: Partial<Record<keyof Saved, unknown>>;
    try {
      saved = JSON.parse(this.storage.getItem(KEY) ?? "{}") as typeof saved;
    } catch {
      return;
    }
    this.theme = oneOf(THEMES, saved.theme) ?? this.theme;
    this.palette = oneOf(PALETTES, saved.palette) ?? this.palette;
    this.density = oneOf(DENSITIES, saved.density) ?? this.density;
    this.flash = flag(saved.flash) ?? this.flash;
    this.reducedMotion = flag(saved.reducedMotion) ?? this.reducedMotion;
    this.letterKeys = flag(saved.letterKeys) ?? this.letterKeys;
    // Of columns the names are checked where they are laid out.
    if (Array.isArray(saved.columns)) this.columns = saved.columns as ColumnChoice[];
  }
}

export function next<T>(choices: readonly T[], current: T): T {
  return choices[(choices.indexOf(current) + 1) % choices.length]!;
}

function oneOf<T extends string>(choices: readonly T[], value: unknown): T | undefined {
  return choices.find((choice) => choice === value);
}

function flag(value: unknown): boolean | undefined {
  return typeof value === "boolean" ? value : undefined;
}
