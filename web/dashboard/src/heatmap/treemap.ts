export interface Rectangle {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/**
 * Divides `area` among `weights`, in their order, each by its share, into rectangles as square as they can be:
 * the squarified treemap of Bruls, Huizing and van Wijk. Weights must be above 0, the largest first.
 */
export function treemap(weights: readonly number[], area: Rectangle): Rectangle[] {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const scale = total > 0 ? (area.width * area.height) / total : 0;
  const placed: Rectangle[] = [];
  let rest = area;
  for (let from = 0; from < weights.length;) {
    const side = Math.min(rest.width, rest.height);
    let to = from + 1;
    let sum = weights[from]! * scale;
    let worst = worstRatio(sum, sum, sum, side);
    // A strip takes more while its least square rectangle gets squarer.
    for (; to < weights.length; to++) {
      const size = weights[to]! * scale;
      const ratio = worstRatio(sum + size, weights[from]! * scale, size, side);
      if (ratio > worst) break;
      worst = ratio;
      sum += size;
    }
    const thickness = side > 0 ? sum / side : 0;
    const upright = rest.width >= rest.height;
    let at = upright ? rest.y : rest.x;
    for (; from < to; from++) {
      const length = thickness > 0 ? (weights[from]! * scale) / thickness : 0;
      placed.push(
        upright
          ? { x: rest.x, y: at, width: thickness, height: length }
          : { x: at, y: rest.y, width: length, height: thickness },
      );
      at += length;
    }
    rest = upright
      ? { ...rest, x: rest.x + thickness, width: Math.max(0, rest.width - thickness) }
      : { ...rest, y: rest.y + thickness, height: Math.max(0, rest.height - thickness) };
  }
  return placed;
}

/** How far from square the rectangles of a strip are, given the areas of all, the largest and the smallest. */
function worstRatio(sum: number, largest: number, smallest: number, side: number): number {
  const [sum2, side2] = [sum * sum, side * side];
  return Math.max((side2 * largest) / sum2, sum2 / (side2 * smallest));
}
