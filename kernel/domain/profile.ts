// The profile of a version and the bins everything is counted in.
// F1 A count array of a feature has one cell per bin and a last cell for missing (NaN, null, empty).
// F2 Numeric: value v falls in bin #{edges <= v}. Category: its place in `categories`, or bin `categories.length` for any other value.
// F3 Counts and micro sums are integers: panes add up in any order to the same bytes.

export type FeatureBins =
  | { name: string; kind: "number"; edges: readonly number[] }
  | { name: string; kind: "category"; categories: readonly string[] };

/** Score bins: `probability` has equal-width edges in (0,1); `value` has reference quantiles. */
export type ScoreBins = { kind: "probability" | "value"; edges: readonly number[] };

/**
 * Labelled rows by score bin: n rows, sum of y and of y^2 in millionths. Binary: y is 0 or 1.
 * Regression: y is (label - labelShift) / labelScale, clipped to [-8, 8]; the score likewise.
 */
export type OutcomeCounts = { n: number[]; yMicro: number[]; yyMicro: number[]; lossMicro: number };

/** One event-time block (a day) of the training data, scored by the version itself. */
export type ProfileBlock = {
  /** Unix ms of the block's start (UTC midnight). */
  startMs: number;
  rows: number;
  features: number[][];
  score: number[];
  outcome: OutcomeCounts;
  /** True where the version did not train on these rows (scores are honest). */
  heldOut: boolean;
};

export type Profile = {
  format: 1;
  /** `warmup`: no training data was seen; bins are generic and the reference is the first traffic. */
  kind: "trained" | "warmup";
  features: readonly FeatureBins[];
  score: ScoreBins;
  labelShift: number;
  labelScale: number;
  blocks: readonly ProfileBlock[];
};

const SCORE_BINS = 64;
export const NUMERIC_BINS = 64;
export const CATEGORIES_MAX = 255;
export const DAY_MS = 86_400_000;
export const HOUR_MS = 3_600_000;

/** Number of cells of a feature's count array, the missing cell included (F1). */
export function cellsOf(bins: FeatureBins): number {
  return (bins.kind === "number" ? bins.edges.length + 1 : bins.categories.length + 1) + 1;
}

/** Bin of a number (F2); the missing cell for NaN. Binary search over at most 63 edges. */
export function numericBin(edges: readonly number[], value: number): number {
  if (Number.isNaN(value)) return edges.length + 1;
  let low = 0;
  let high = edges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((edges[middle] as number) <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A function from a category to its bin (F2); the missing cell for the empty text. */
export function categoryBinner(categories: readonly string[]): (value: string) => number {
  const index = new Map(categories.map((c, i) => [c, i]));
  const other = categories.length;
  return (value) => (value === "" ? other + 1 : (index.get(value) ?? other));
}

/** Equal-width edges of a probability score. */
export function probabilityEdges(): number[] {
  return Array.from({ length: SCORE_BINS - 1 }, (_, i) => (i + 1) / SCORE_BINS);
}

/** Distinct reference quantiles as edges, at most 63. `sorted` is ascending and without NaN. */
export function quantileEdges(sorted: ArrayLike<number>): number[] {
  const edges: number[] = [];
  for (let i = 1; i < NUMERIC_BINS; i++) {
    const value = sorted[Math.min(sorted.length - 1, Math.floor((i * sorted.length) / NUMERIC_BINS))];
    if (value !== undefined && value !== edges.at(-1)) edges.push(value);
  }
  return edges;
}

/** Generic signed octave edges for a profile that has seen no data: ±2^k for k = -10..20, and 0: 63 edges. */
export function octaveEdges(): number[] {
  const octaves = Array.from({ length: 31 }, (_, i) => 2 ** (i - 10));
  return [...octaves.map((o) => -o).reverse(), 0, ...octaves];
}

/** An outcome table of zeros. */
export function emptyOutcome(): OutcomeCounts {
  const zeros = (): number[] => new Array<number>(SCORE_BINS).fill(0);
  return { n: zeros(), yMicro: zeros(), yyMicro: zeros(), lossMicro: 0 };
}
