import { price, size, toNumber } from "@tickcast/client";
import { dayChange, type Row } from "../market.js";

export type Ranking = "gainers" | "losers" | "active";

/** The first `most` rows by `ranking`: by change in percent, or by what was turned over, as price times volume. */
export function movers(rows: readonly Row[], ranking: Ranking, most: number): Row[] {
  const best: { row: Row; value: number }[] = [];
  for (const row of rows) {
    const value = worth(row, ranking);
    if (value === null) continue;
    // Kept sorted while it is filled: of ten thousand rows nearly all end at this comparison.
    if (best.length === most && value <= best[most - 1]!.value) continue;
    let at = best.length;
    while (at > 0 && best[at - 1]!.value < value) at--;
    best.splice(at, 0, { row, value });
    if (best.length > most) best.pop();
  }
  return best.map(({ row }) => row);
}

function worth(row: Row, ranking: Ranking): number | null {
  if (ranking === "active") return turnover(row);
  const percent = dayChange(row)?.percent ?? 0;
  const value = ranking === "gainers" ? percent : -percent;
  return value > 0 ? value : null;
}

/** What changed hands today, in the instrument's currency; null before the first trade. */
export function turnover({ instrument, day }: Row): number | null {
  if (day.volume === undefined || day.close == null) return null;
  const volume = toNumber(size(instrument, day.volume));
  return volume > 0 ? volume * toNumber(price(instrument, day.close)) : null;
}
