// Owns a set of whole numbers as sorted ranges: dense numbers (rows of a boot, panes of a boot, hours) take a few words.
// S1 Ranges are ascending, apart and inclusive. S2 Bounded: beyond RANGES_MAX the two lowest are joined, so that a number
//    below may be taken for seen, never the other way round.

/** Ranges `[from, to]`; plain JSON. */
export type Intervals = [number, number][];

const RANGES_MAX = 4_096;

export function hasNumber(ranges: Intervals, n: number): boolean {
  const range = ranges[placeOf(ranges, n)];
  return range !== undefined && range[0] <= n;
}

/** Adds `n`; false when it was there. */
export function addNumber(ranges: Intervals, n: number): boolean {
  const at = placeOf(ranges, n);
  const above = ranges[at];
  if (above !== undefined && above[0] <= n) return false;
  const below = ranges[at - 1];
  const joinsBelow = below !== undefined && below[1] === n - 1;
  const joinsAbove = above !== undefined && above[0] === n + 1;
  if (joinsBelow && joinsAbove) {
    below[1] = above[1];
    ranges.splice(at, 1);
  } else if (joinsBelow) below[1] = n;
  else if (joinsAbove) above[0] = n;
  else ranges.splice(at, 0, [n, n]);
  if (ranges.length > RANGES_MAX) joinLowest(ranges);
  return true;
}

/** Index of the first range that ends at or after `n`. */
function placeOf(ranges: Intervals, n: number): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ranges[middle]?.[1] ?? 0) < n) low = middle + 1;
    else high = middle;
  }
  return low;
}

function joinLowest(ranges: Intervals): void {
  const [first, second] = ranges;
  if (first === undefined || second === undefined) return;
  ranges.splice(0, 2, [first[0], second[1]]);
}
