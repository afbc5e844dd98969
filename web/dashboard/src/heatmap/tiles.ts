import type { Row } from "../market.js";
import { turnover } from "../movers/movers.js";
import { changePercent } from "../watchlist/columns.js";
import { treemap, type Rectangle } from "./treemap.js";

export interface Tile {
  readonly row: Row;
  readonly area: Rectangle;
}

export interface SectorTile {
  readonly sector: string;
  readonly area: Rectangle;
  readonly tiles: readonly Tile[];
  /** How many instruments it has, shown or not. */
  readonly size: number;
}

/** Height of a sector's head, which can be pressed. */
export const HEAD = 24;
/** The least share of the largest that a sector is drawn with: its head must be readable. */
const LEAST_SECTOR = 0.07;
/** Below this a tile cannot be hit or read, so fewer of a sector are shown. */
const SMALLEST_TILE = 1_100;
const MOST_TILES = 160;

/** The sectors of `rows` and the instruments in them that turned over most, laid out in `width` by `height`. */
export function layOutSectors(
  rows: readonly Row[],
  sector: string,
  width: number,
  height: number,
): SectorTile[] {
  const groups = new Map<string, { row: Row; weight: number }[]>();
  for (const row of rows) {
    if (sector !== "" && row.instrument.sector !== sector) continue;
    const weight = damped(turnover(row) ?? 0);
    if (weight === 0) continue;
    const name = row.instrument.sector || "other";
    const group = groups.get(name);
    if (group) group.push({ row, weight });
    else groups.set(name, [{ row, weight }]);
  }
  const sectors = [...groups]
    .map(([name, members]) => {
      members.sort((a, b) => b.weight - a.weight);
      return { name, members, weight: members.reduce((sum, { weight }) => sum + weight, 0) };
    })
    .sort((a, b) => b.weight - a.weight);
  const least = LEAST_SECTOR * damped(sectors[0]?.weight ?? 0);
  const areas = treemap(
    sectors.map(({ weight }) => Math.max(least, damped(weight))),
    { x: 0, y: 0, width, height },
  );
  const room = Math.floor((width * height) / SMALLEST_TILE);
  return sectors.map(({ name, members }, i) => {
    const area = areas[i]!;
    const share = (area.width * area.height) / (width * height);
    const most = Math.max(1, Math.floor(share * Math.min(room, MOST_TILES)));
    const shown = members.slice(0, most);
    const inside = {
      x: area.x,
      y: area.y + HEAD,
      width: area.width,
      height: Math.max(0, area.height - HEAD),
    };
    const tiles = treemap(
      shown.map(({ weight }) => weight),
      inside,
    );
    return {
      sector: name,
      area,
      size: members.length,
      tiles: shown.map(({ row }, j) => ({ row, area: tiles[j]! })),
    };
  });
}

/** Turnovers differ a thousandfold: by their roots the small ones are visible, too. */
function damped(value: number): number {
  return Math.sqrt(value);
}

/** Changes in percent at which the colour becomes stronger. */
const STEPS = [0.05, 0.5, 1, 2, 3] as const;

/** The colour of a change of `percent`: 0 none, else 1 to 5 with the sign of the change. */
export function heat(percent: number | null): number {
  if (percent === null) return 0;
  const size = Math.abs(percent);
  const step = STEPS.filter((limit) => size >= limit).length;
  return percent < 0 ? -step : step;
}

/** The change of a sector: of its shown members, each by how large it is drawn. */
export function sectorPercent({ tiles }: SectorTile): number | null {
  let [sum, weights] = [0, 0];
  for (const { row, area } of tiles) {
    const percent = changePercent(row);
    if (percent === null) continue;
    sum += percent * area.width * area.height;
    weights += area.width * area.height;
  }
  return weights > 0 ? sum / weights : null;
}
