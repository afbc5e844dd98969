/** The layout of the columns of time and sales: with parts left out if there is little room. */
export interface TapeLayout {
  /** Of a grid, in digits. */
  readonly columns: string;
  /** Milliseconds are left out. */
  readonly briefTime: boolean;
  /** Sizes are as short as volumes. */
  readonly briefSize: boolean;
  readonly conditions: boolean;
  /** Below this nothing more can be left out, in pixels. */
  readonly narrowest: number;
}

/** Characters of the longest price, size, short size, and conditions. */
export interface Longest {
  readonly price: number;
  readonly size: number;
  readonly briefSize: number;
  readonly conditions: number;
}

/** Between two columns, and on either side of a row, as in the style sheet, in pixels. */
const GAP = 8;
const MARGIN = 10;

/** The fullest layout that fits in `width` pixels, with digits of `digit` pixels; the shortest if none does. */
export function layOutTape(width: number, digit: number, longest: Longest): TapeLayout {
  const forms = [
    [false, false, true],
    [false, false, false],
    [true, false, false],
    [true, true, false],
  ] as const;
  const layouts = forms.map(([briefTime, briefSize, conditions]) => {
    const widths = [
      briefTime ? 8 : 12,
      longest.price,
      briefSize ? longest.briefSize : longest.size,
      4,
      ...(conditions ? [Math.max(5, longest.conditions)] : []),
    ];
    const digits = widths.reduce((sum, chars) => sum + chars, 0);
    return {
      columns: widths.map((chars) => `minmax(${chars}ch, ${chars}fr)`).join(" "),
      briefTime,
      briefSize,
      conditions,
      room: Math.ceil(digits * digit) + (widths.length - 1) * GAP + 2 * MARGIN,
    };
  });
  const { room: narrowest, ...least } = layouts.at(-1)!;
  const { columns, briefTime, briefSize, conditions } =
    layouts.find(({ room }) => room <= width) ?? least;
  return { columns, briefTime, briefSize, conditions, narrowest };
}
