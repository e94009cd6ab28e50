// Owns what a feature's reference says: its shares by season, how far its own blocks stray from it, and the limit for a new one.
// The statistic is the symmetric chi-square distance of a block's shares q from the reference's shares p,
//   Q = sum over groups of (q - p)^2 / ((p + q) / 2), between 0 and 4; for small shifts it equals the PSI.
// C1 Random effects: Q of a block of n rows is expected at (K - 1)(1/n + 1/m) + tau, where tau is what blocks of the
//    reference show beyond sampling when each is left out in turn. So the limit holds whatever the traffic.
// C2 Matched by weekday where the reference has that weekday, backed off to all blocks by weight b / (b + 1).
// C3 The limit is the point a block exceeds once in a thousand: sampling by the chi-square; the spread between
//    blocks (and its product with sampling) by a chi-square of the same mean and variance, widened as Student's t is against
//    the normal because that variance is estimated; the two deviations added in quadrature.
import { DAY_MS, type FeatureBins, type Profile } from "#kernel/domain/profile.ts";
import { chi2Quantile, normalQuantile, studentQuantile } from "../stats/door.ts";

/** Rows of one block of a reference, one feature's counts (missing cell last). */
export type FeatureBlock = { startMs: number; counts: readonly number[] };

export type FeatureReference = {
  bins: FeatureBins;
  /** Counts by bin of all blocks. */
  totals: readonly number[];
  /** Group of each bin; -1 for the missing cell. */
  groupOf: readonly number[];
  blocks: readonly { weekday: number; rows: number; groups: readonly number[] }[];
  /** Mean and variance, between blocks, of Q beyond sampling. */
  tau: number;
  tauVariance: number;
  /** Degrees of freedom of that variance. */
  tauFreedom: number;
  /** Numeric bins and categories in which the reference has (almost) no row. */
  foreign: readonly boolean[];
  /** The largest share a block of the reference had: missing, foreign. */
  missingMax: number;
  foreignMax: number;
};

export type Reading = { statistic: number; mean: number; limit: number };

const NUMERIC_GROUPS = 16;
const CATEGORY_SHARE_MIN = 0.02;
const WEEKDAYS = 7;
const TAIL = 0.001;
/** Weight of a weekday's own b blocks against all: b / (b + BACK_OFF). */
const BACK_OFF = 1;
/** Prior spread of tau, and the blocks it is worth. */
const PRIOR_SPREAD = 0.01;
const PRIOR_BLOCKS = 4;
const ALMOST_NONE = 1e-4;

const memo = new WeakMap<Profile, readonly FeatureReference[]>();

/** References of a profile's features from its own blocks. */
export function profileReferences(profile: Profile): readonly FeatureReference[] {
  let references = memo.get(profile);
  if (references === undefined) {
    references = profile.features.map((bins, f) =>
      referenceOf(
        bins,
        profile.blocks.map(({ startMs, features }) => ({ startMs, counts: features[f] ?? [] })),
      ),
    );
    memo.set(profile, references);
  }
  return references;
}

const weekdayOf = (ms: number): number => Math.floor(ms / DAY_MS) % WEEKDAYS;

/** The reference that these blocks make. */
export function referenceOf(bins: FeatureBins, blocks: readonly FeatureBlock[]): FeatureReference {
  const totals = sumOf(blocks.map(({ counts }) => counts));
  const groupOf = bins.kind === "number" ? numericGroups(totals) : categoryGroups(totals);
  const all = totals.reduce((sum, n) => sum + n, 0);
  const foreign = totals.map((n, bin) => bin < totals.length - 1 && n <= all * ALMOST_NONE);
  const grouped = blocks.map(({ startMs, counts }) => {
    const groups = groupedCounts(groupOf, counts);
    return { weekday: weekdayOf(startMs), rows: groups.reduce((sum, n) => sum + n, 0), groups };
  });
  const reference: FeatureReference = {
    bins,
    totals,
    groupOf,
    blocks: grouped.filter(({ rows }) => rows > 0),
    tau: 0,
    tauVariance: 0,
    tauFreedom: PRIOR_BLOCKS,
    foreign,
    missingMax: Math.max(0, ...blocks.map(({ counts }) => shareMissing(counts))),
    foreignMax: Math.max(0, ...blocks.map(({ counts }) => shareForeign(foreign, counts))),
  };
  return { ...reference, ...spreadOf(reference) };
}

/** Runs of neighbouring bins with at least a sixteenth of the rows each. */
function numericGroups(totals: readonly number[]): number[] {
  const present = totals.slice(0, -1);
  const aim = present.reduce((sum, n) => sum + n, 0) / NUMERIC_GROUPS;
  const groupOf: number[] = [];
  let group = 0;
  let mass = 0;
  for (const n of present) {
    if (mass >= aim && mass > 0) {
      group++;
      mass = 0;
    }
    groupOf.push(group);
    mass += n;
  }
  // What is left at the upper end joins the last full group.
  if (mass < aim && group > 0) groupOf.forEach((g, bin) => (groupOf[bin] = Math.min(g, group - 1)));
  return [...groupOf, -1];
}

/** A group for each category with a fiftieth of the rows, and group 0 for all others. */
function categoryGroups(totals: readonly number[]): number[] {
  const present = totals.slice(0, -1);
  const least = present.reduce((sum, n) => sum + n, 0) * CATEGORY_SHARE_MIN;
  let group = 0;
  return [...present.map((n) => (n > 0 && n >= least ? ++group : 0)), -1];
}

function groupedCounts(groupOf: readonly number[], counts: readonly number[]): number[] {
  const groups = new Array<number>(Math.max(0, ...groupOf) + 1).fill(0);
  counts.forEach((n, bin) => {
    const group = groupOf[bin] ?? -1;
    if (group >= 0) groups[group] = (groups[group] ?? 0) + n;
  });
  return groups;
}

/** Q of a block against the reference, its expectation and its limit (C1-C3); undefined where nothing can be compared. */
export function readBlock(reference: FeatureReference, block: FeatureBlock): Reading | undefined {
  const groups = groupedCounts(reference.groupOf, block.counts);
  const distance = distanceFrom(reference, groups, weekdayOf(block.startMs), -1);
  if (distance === undefined) return undefined;
  const { statistic, freedom, noise } = distance;
  const tau = Math.max(0, reference.tau);
  const sampled = freedom * noise;
  const bySampling = noise * chi2Quantile(TAIL, freedom) - sampled;
  const betweenVariance = reference.tauVariance + 4 * noise * tau;
  // A stray of one parameter is a square: chi-square of one degree is the most skewed spread that is believed.
  const shape = Math.max(1, (2 * tau * tau) / betweenVariance);
  const skewed = (chi2Quantile(TAIL, shape) - shape) / Math.sqrt(2 * shape);
  const unsure = studentQuantile(TAIL, reference.tauFreedom) / normalQuantile(TAIL);
  const betweenBlocks = skewed * unsure * Math.sqrt(betweenVariance);
  const mean = sampled + tau;
  return { statistic, mean, limit: mean + Math.hypot(bySampling, betweenBlocks) };
}

/** Each block of the reference against the others: mean and variance of what sampling does not explain. */
function spreadOf(reference: FeatureReference): Pick<FeatureReference, "tau" | "tauVariance" | "tauFreedom"> {
  const beyond: number[] = [];
  let sampling = 0;
  reference.blocks.forEach((block, i) => {
    const distance = distanceFrom(reference, block.groups, block.weekday, i);
    if (distance === undefined) return;
    beyond.push(distance.statistic - distance.freedom * distance.noise);
    sampling += 2 * distance.freedom * distance.noise ** 2;
  });
  const count = beyond.length;
  const tau = beyond.reduce((sum, v) => sum + v, 0) / Math.max(1, count);
  const squares = beyond.reduce((sum, v) => sum + (v - tau) ** 2, 0);
  const between = Math.max(0, squares - (sampling * Math.max(0, count - 1)) / Math.max(1, count));
  const tauFreedom = PRIOR_BLOCKS + Math.max(0, count - 1);
  const variance = (PRIOR_BLOCKS * PRIOR_SPREAD ** 2 + between) / tauFreedom;
  return { tau, tauVariance: variance * (1 + 1 / Math.max(1, count)), tauFreedom };
}

type Distance = { statistic: number; freedom: number; noise: number };

function distanceFrom(
  reference: FeatureReference,
  groups: readonly number[],
  weekday: number,
  leftOut: number,
): Distance | undefined {
  const others = reference.blocks.filter((_, i) => i !== leftOut);
  const matched = others.filter((block) => block.weekday === weekday);
  const all = sharesOf(others.map((block) => block.groups));
  const own = sharesOf(matched.map((block) => block.groups));
  const mine = sharesOf([groups]);
  if (mine.rows === 0 || all.rows === 0) return undefined;
  const weight = own.rows === 0 ? 0 : matched.length / (matched.length + BACK_OFF);
  let statistic = 0;
  let present = 0;
  for (let g = 0; g < groups.length; g++) {
    const p = weight * (own.shares[g] ?? 0) + (1 - weight) * (all.shares[g] ?? 0);
    const q = mine.shares[g] ?? 0;
    if (p + q === 0) continue;
    present++;
    statistic += (2 * (q - p) ** 2) / (p + q);
  }
  const m = own.rows === 0 ? 1 / all.rows : weight ** 2 / own.rows + (1 - weight) ** 2 / all.rows;
  return { statistic, freedom: Math.max(1, present - 1), noise: 1 / mine.rows + m };
}

function sharesOf(blocks: readonly (readonly number[])[]): { rows: number; shares: number[] } {
  const sums = sumOf(blocks);
  const rows = sums.reduce((sum, n) => sum + n, 0);
  return { rows, shares: sums.map((n) => n / Math.max(1, rows)) };
}

function sumOf(blocks: readonly (readonly number[])[]): number[] {
  const sums: number[] = [];
  for (const counts of blocks) counts.forEach((n, i) => (sums[i] = (sums[i] ?? 0) + n));
  return sums;
}

/** Share of rows whose value is missing. */
export function shareMissing(counts: readonly number[]): number {
  const rows = counts.reduce((sum, n) => sum + n, 0);
  return rows === 0 ? 0 : (counts.at(-1) ?? 0) / rows;
}

/** Share of rows in bins or categories where the reference has none. */
export function shareForeign(foreign: readonly boolean[], counts: readonly number[]): number {
  const rows = counts.reduce((sum, n) => sum + n, 0);
  const strange = counts.reduce((sum, n, bin) => sum + (foreign[bin] === true ? n : 0), 0);
  return rows === 0 ? 0 : strange / rows;
}
