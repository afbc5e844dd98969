import { dayChange, type Row } from "../market.js";

export type Ranking = "gainers" | "losers" | "active";

/** The first `most` rows by `ranking`: by change in percent, or by what was turned over, as price times volume. */
export function movers(rows: readonly Row[], ranking: Ranking, most: number): Row[] {
  const best: { row: Row; value: number }[] = [];
  for (const row of rows) {
    const value = worth(row, ranking);
    if (value === null) continue;
    // Kept in order while it is filled: of ten thousand rows nearly all end at this comparison.
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
  const moved = dayChange(row);
  if (!moved || moved.previous === 0 || moved.change === 0) return null;
  const share = moved.change / moved.previous;
  const value = ranking === "gainers" ? share : -share;
  return value > 0 ? value : null;
}

/** What changed hands today, in the instrument's currency; null before the first trade. */
export function turnover({ instrument, day }: Row): number | null {
  if (day.volume === undefined || day.close == null) return null;
  const volume = day.volume / 10 ** instrument.size_scale;
  return volume > 0 ? volume * (day.close / 10 ** instrument.price_scale) : null;
}
