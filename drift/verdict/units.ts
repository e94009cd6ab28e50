// Owns recognising a change of unit by its ratio: the block looks like the reference times a known factor.
// U1 Asked only about a block that is far from the reference; a match must be close, and much closer than no factor.
// U2 Within a bin the reference is taken as even, so nothing but counts is needed.
import { numericBin, type FeatureBins } from "#kernel/domain/profile.ts";

const FACTORS = [10, 100, 1000, 60, 3600, 24, 1.609344, 2.54, 3.28084, 2.2046226, 1.8] as const;
const SHIFTED: readonly [number, number][] = [
  [1.8, 32],
  [1 / 1.8, -32 / 1.8],
];
const POINTS = 8;
/** A match lies this near, and this many times nearer than the reference as it is. */
const NEAR = 0.25;
const NEARER = 5;

/** The factor by which the block's values seem to be multiplied, or 0. `totals` are the reference's counts by bin. */
export function unitFactor(bins: FeatureBins, totals: readonly number[], counts: readonly number[]): number {
  if (bins.kind !== "number" || bins.edges.length < 8) return 0;
  const present = counts.slice(0, -1);
  const asItIs = distance(totals.slice(0, -1), present);
  let best = { factor: 0, distance: Math.min(NEAR, asItIs / NEARER) };
  const candidates: [number, number][] = [
    ...FACTORS.flatMap((f): [number, number][] => [
      [f, 0],
      [1 / f, 0],
    ]),
    ...SHIFTED,
  ];
  for (const [factor, shift] of candidates) {
    const scaled = distance(scaledCounts(bins.edges, totals, factor, shift), present);
    if (scaled < best.distance) best = { factor, distance: scaled };
  }
  return best.factor;
}

function scaledCounts(edges: readonly number[], totals: readonly number[], factor: number, shift: number): number[] {
  const counts = new Array<number>(edges.length + 1).fill(0);
  totals.slice(0, -1).forEach((n, bin) => {
    if (n === 0) return;
    const low = edges[bin - 1] ?? edges[0] ?? 0;
    const high = edges[bin] ?? edges.at(-1) ?? 0;
    for (let point = 0; point < POINTS; point++) {
      const value = low + ((point + 0.5) / POINTS) * (high - low);
      const into = numericBin(edges, value * factor + shift);
      counts[into] = (counts[into] ?? 0) + n / POINTS;
    }
  });
  return counts;
}

/** Symmetric chi-square distance of the shares, neighbours taken four by four. */
function distance(a: readonly number[], b: readonly number[]): number {
  const [p, q] = [shares(a), shares(b)];
  return p.reduce((sum, share, i) => {
    const other = q[i] ?? 0;
    return share + other === 0 ? sum : sum + (2 * (share - other) ** 2) / (share + other);
  }, 0);
}

function shares(counts: readonly number[]): number[] {
  const rows = Math.max(
    1,
    counts.reduce((sum, n) => sum + n, 0),
  );
  const fours: number[] = [];
  counts.forEach((n, i) => (fours[i >> 2] = (fours[i >> 2] ?? 0) + n / rows));
  return fours;
}
