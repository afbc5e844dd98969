import type { ColumnChoice } from "../watchlist/columns.js";
import type { PageStorage } from "./storage.js";

export const THEMES = ["system", "dark", "light"] as const;
export const PALETTES = ["teal-red", "blue-orange", "red-up", "mono"] as const;
export const DENSITIES = ["comfortable", "compact", "ultra"] as const;
export type Theme = (typeof THEMES)[number];
export type Palette = (typeof PALETTES)[number];
export type Density = (typeof DENSITIES)[number];

/** Height of a row, in CSS pixels. */
export const ROW_HEIGHTS: Record<Density, number> = { comfortable: 26, compact: 20, ultra: 16 };
/** The same for a finger, which needs 44 px to hit one row of many, and 24 at the very least (WCAG 2.5.5 and 2.5.8). */
export const TOUCHED_ROW_HEIGHTS: typeof ROW_HEIGHTS = { comfortable: 52, compact: 44, ultra: 32 };

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
  /** Under which the user says something to the desk; empty for none. */
  name: string;
}

const KEY = "tickcast.settings";

/** The user's settings of the page, kept in the browser. */
export class Settings implements Saved {
  theme = $state<Theme>("system");
  palette = $state<Palette>("teal-red");
  density = $state<Density>("compact");
  flash = $state(true);
  /** In addition to the system's own preference. */
  reducedMotion = $state(false);
  /** Keys of one letter or sign, which speech input and sticky keys press by accident (WCAG 2.1.4). */
  letterKeys = $state(true);
  columns = $state.raw<ColumnChoice[] | null>(null);
  name = $state("");

  private readonly systemIsLight = matchMedia("(prefers-color-scheme: light)");
  private readonly systemIsCalm = matchMedia("(prefers-reduced-motion: reduce)");
  private readonly systemIsStark = matchMedia("(prefers-contrast: more)");
  private readonly systemIsTouched = matchMedia("(pointer: coarse)");
  private systemTheme = $state<"dark" | "light">("dark");
  private calm = $state(false);
  /** Whether the system wants more contrast: the style sheets have other colours then. */
  stark = $state(false);
  /** Whether the page is used by touch. */
  touched = $state(false);

  constructor(private readonly storage: PageStorage) {
    const follow = () => {
      this.systemTheme = this.systemIsLight.matches ? "light" : "dark";
      this.calm = this.systemIsCalm.matches;
      this.stark = this.systemIsStark.matches;
      this.touched = this.systemIsTouched.matches;
    };
    follow();
    for (const query of [
      this.systemIsLight,
      this.systemIsCalm,
      this.systemIsStark,
      this.systemIsTouched,
    ])
      query.addEventListener("change", follow);
    this.read();
  }

  get shownTheme(): "dark" | "light" {
    return this.theme === "system" ? this.systemTheme : this.theme;
  }

  get still(): boolean {
    return this.reducedMotion || this.calm;
  }

  get rowHeight(): number {
    return (this.touched ? TOUCHED_ROW_HEIGHTS : ROW_HEIGHTS)[this.density];
  }

  /** Height of a row that is read and not pressed: of time and sales. */
  get lineHeight(): number {
    return ROW_HEIGHTS[this.density];
  }

  /** A digit is about as wide, in CSS pixels. */
  get digit(): number {
    return { comfortable: 8.2, compact: 7.9, ultra: 7.3 }[this.density];
  }

  /** Height of the head of the watchlist, whose columns are sorted by a press, in CSS pixels. */
  get headHeight(): number {
    return this.touched ? 44 : 26;
  }

  /** Writes what changed, and updates the style sheets. For an effect. */
  apply(root: HTMLElement): void {
    root.dataset["theme"] = this.shownTheme;
    root.dataset["palette"] = this.palette;
    root.dataset["density"] = this.density;
    root.dataset["still"] = String(this.still);
    root.style.setProperty("--row", `${this.rowHeight}px`);
    root.style.setProperty("--line-row", `${this.lineHeight}px`);
    root.style.setProperty("--head", `${this.headHeight}px`);
    const { theme, palette, density, flash, reducedMotion, letterKeys, columns, name } = this;
    const choices = { theme, palette, density, flash, reducedMotion, letterKeys };
    const saved: Saved = { ...choices, columns, name };
    try {
      this.storage.setItem(KEY, JSON.stringify(saved));
    } catch {
      // Storage is full or forbidden: the page works without it.
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
    // The names of columns are checked at layout.
    if (typeof saved.name === "string") this.name = saved.name.slice(0, 32);
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
