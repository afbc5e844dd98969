/** What has room in a line of the movers in addition to the symbol and its change. */
export interface MoversLayout {
  readonly columns: string;
  readonly last: boolean;
  readonly volume: boolean;
}

/** Width to which symbols may be cut, in digits: shorter ones would look alike. */
const SYMBOL = 7;
/** Between two columns, and on either side of a line, as in the style sheet, in pixels. */
const GAP = 8;
const MARGIN = 10;

/** @param longest characters of the longest of each */
export function layOutMovers(
  width: number,
  digit: number,
  longest: { last: number; percent: number; volume: number },
): MoversLayout {
  const room = width - 2 * MARGIN - (SYMBOL + longest.percent) * digit - GAP;
  const [last, volume] = [longest.last, longest.volume].map((chars) => chars * digit + GAP) as [
    number,
    number,
  ];
  const shown = { last: last <= room, volume: last + volume <= room };
  const widths = [
    ...(shown.last ? [longest.last] : []),
    longest.percent,
    ...(shown.volume ? [longest.volume] : []),
  ];
  const columns = widths.map((chars) => `minmax(${chars}ch, ${chars}fr)`).join(" ");
  return { columns: `minmax(0, ${Math.max(SYMBOL, 9)}fr) ${columns}`, ...shown };
}
