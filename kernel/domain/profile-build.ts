// Builds a version's profile from the columns it learned on: bins, and one block of counts per UTC day.
// B1 Pure: the same columns in the same order give the same profile.
// B2 Numeric edges are quantiles plus guards far outside of what was seen, so that a change of unit lands where the
//    reference has nothing and a heavy day does not.
// B3 Given `bins`, nothing of the data but counts enters the profile (a strict run keeps its ancestor's edges).
import { invariant, unreachable } from "../base/assert.ts";
import {
  CATEGORIES_MAX,
  categoryBinner,
  cellsOf,
  DAY_MS,
  emptyOutcome,
  numericBin,
  NUMERIC_BINS,
  octaveEdges,
  probabilityEdges,
  quantileEdges,
  type FeatureBins,
  type OutcomeCounts,
  type Profile,
  type ProfileBlock,
  type ScoreBins,
} from "./profile.ts";

/** One feature's values, a row each; NaN and the empty text are missing. */
export type ProfileColumn =
  | { name: string; kind: "number"; values: ArrayLike<number> }
  | { name: string; kind: "category"; values: ArrayLike<string> };

/** What counts are made in: everything of a profile but its blocks. */
export type ProfileBins = Pick<Profile, "features" | "score" | "labelShift" | "labelScale">;

export type ProfileInput = {
  columns: readonly ProfileColumn[];
  /** NaN where the truth is not known. */
  labels: ArrayLike<number>;
  /** The version's own answers to these rows. */
  scores: ArrayLike<number>;
  /** Unix ms of each row. */
  eventMs: ArrayLike<number>;
  scoreKind: "probability" | "value";
  /** Says whether the version did not train on the day that starts at `startMs`; by default it trained on all. */
  heldOut?: (startMs: number) => boolean;
  /** Bins to keep instead of making new ones (B3). */
  bins?: ProfileBins;
};

const QUANTILE_BINS = NUMERIC_BINS - 4;
const LABEL_LIMIT = 8;
const MICRO = 1_000_000;

/** The profile of a trained version: bins, and counts by UTC day of event time in order of time. */
export function profileFrom(input: ProfileInput): Profile {
  const bins = input.bins ?? binsFrom(input);
  invariant(bins.features.length === input.columns.length, "a profile has one column per feature");
  const binners = input.columns.map((column, i) => columnBinner(column, bins.features[i]));
  const blocks = new Map<number, ProfileBlock>();
  for (let row = 0; row < input.eventMs.length; row++) {
    const startMs = Math.floor((input.eventMs[row] ?? 0) / DAY_MS) * DAY_MS;
    let block = blocks.get(startMs);
    if (block === undefined) {
      blocks.set(startMs, (block = emptyBlock(bins, startMs, input.heldOut?.(startMs) ?? false)));
    }
    block.rows++;
    binners.forEach((binOf, i) => count(block.features[i], binOf(row)));
    const score = input.scores[row] ?? Number.NaN;
    count(block.score, numericBin(bins.score.edges, score));
    countOutcome(block.outcome, bins, score, input.labels[row] ?? Number.NaN);
  }
  const inOrder = [...blocks.values()].sort((a, b) => a.startMs - b.startMs);
  return { format: 1, kind: "trained", ...bins, blocks: inOrder };
}

/** The profile of a version nobody has data for: generic bins, no blocks; its reference is its first traffic. */
export function warmupProfile(
  features: readonly { name: string; type: "number" | "category" }[],
  scoreKind: "probability" | "value",
): Profile {
  return {
    format: 1,
    kind: "warmup",
    features: features.map(({ name, type }) =>
      type === "number" ? { name, kind: "number", edges: octaveEdges() } : { name, kind: "category", categories: [] },
    ),
    score: { kind: scoreKind, edges: scoreKind === "probability" ? probabilityEdges() : octaveEdges() },
    labelShift: 0,
    labelScale: 1,
    blocks: [],
  };
}

/**
 * Adds one labelled row to an outcome table; nothing where score or label is NaN. The joiner counts with the same
 * function, so profile and outcome panes cannot disagree. The loss is the squared distance, rounded to millionths.
 */
export function countOutcome(outcome: OutcomeCounts, bins: ProfileBins, score: number, label: number): void {
  if (Number.isNaN(score) || Number.isNaN(label)) return;
  const bin = numericBin(bins.score.edges, score);
  const y = scaled(bins, label);
  outcome.n[bin] = (outcome.n[bin] ?? 0) + 1;
  outcome.yMicro[bin] = (outcome.yMicro[bin] ?? 0) + Math.round(y * MICRO);
  outcome.yyMicro[bin] = (outcome.yyMicro[bin] ?? 0) + Math.round(y * y * MICRO);
  outcome.lossMicro += lossMicro(bins, score, label);
}

/** Squared distance of a score from its label, on the profile's scale, in millionths. */
export function lossMicro(bins: ProfileBins, score: number, label: number): number {
  return Math.round((scaled(bins, score) - scaled(bins, label)) ** 2 * MICRO);
}

const scaled = ({ labelShift, labelScale }: ProfileBins, value: number): number =>
  Math.max(-LABEL_LIMIT, Math.min(LABEL_LIMIT, (value - labelShift) / labelScale));

function binsFrom({ columns, scores, labels, scoreKind }: ProfileInput): ProfileBins {
  const features = columns.map(featureBins);
  if (scoreKind === "probability") {
    const score: ScoreBins = { kind: "probability", edges: probabilityEdges() };
    return { features, score, labelShift: 0, labelScale: 1 };
  }
  const known = finite(labels);
  const mean = known.reduce((sum, v) => sum + v, 0) / Math.max(1, known.length);
  const spread = Math.sqrt(known.reduce((sum, v) => sum + (v - mean) ** 2, 0) / Math.max(1, known.length));
  return {
    features,
    score: { kind: "value", edges: quantileEdges(finite(scores)) },
    labelShift: mean,
    labelScale: spread > 0 ? spread : 1,
  };
}

function featureBins(column: ProfileColumn): FeatureBins {
  switch (column.kind) {
    case "number":
      return { name: column.name, kind: "number", edges: guardedEdges(finite(column.values)) };
    case "category":
      return { name: column.name, kind: "category", categories: commonest(column.values) };
    default:
      return unreachable(column);
  }
}

/**
 * At most 59 reference quantiles and four guards: one whole range above the largest value, one below the smallest,
 * and, where nothing is negative, a band close to zero (B2). `sorted` is ascending and without NaN.
 */
export function guardedEdges(sorted: Float64Array): number[] {
  const low = sorted[0];
  const high = sorted.at(-1);
  if (low === undefined || high === undefined) return octaveEdges();
  const edges: number[] = [];
  for (let i = 1; i < QUANTILE_BINS; i++) {
    edges.push(sorted[Math.min(sorted.length - 1, Math.floor((i * sorted.length) / QUANTILE_BINS))] ?? high);
  }
  const range = high > low ? high - low : Math.max(1, Math.abs(high));
  edges.push(low - range, high + range);
  const positive = sorted.findIndex((v) => v > 0);
  if (low >= 0 && positive >= 0) {
    const usual = sorted[positive + Math.floor((sorted.length - positive) / 100)] ?? high;
    edges.push(usual / 4, usual / 4 / 1e6);
  }
  return [...new Set(edges)].sort((a, b) => a - b);
}

function commonest(values: ArrayLike<string>): string[] {
  const counts = new Map<string, number>();
  for (let i = 0; i < values.length; i++) {
    const value = values[i] ?? "";
    if (value !== "") counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  const byCount = [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  return byCount.slice(0, CATEGORIES_MAX).map(([value]) => value);
}

function finite(values: ArrayLike<number>): Float64Array {
  return Float64Array.from(Array.from(values).filter((v) => Number.isFinite(v))).sort();
}

function columnBinner(column: ProfileColumn, bins: FeatureBins | undefined): (row: number) => number {
  if (column.kind === "number" && bins?.kind === "number") {
    return (row) => numericBin(bins.edges, column.values[row] ?? Number.NaN);
  }
  if (column.kind === "category" && bins?.kind === "category") {
    const binOf = categoryBinner(bins.categories);
    return (row) => binOf(column.values[row] ?? "");
  }
  throw new Error(`invariant broken: feature ${column.name} is a ${column.kind} as its bins are`);
}

function emptyBlock(bins: ProfileBins, startMs: number, heldOut: boolean): ProfileBlock {
  const features = bins.features.map((f) => new Array<number>(cellsOf(f)).fill(0));
  const score = new Array<number>(bins.score.edges.length + 2).fill(0);
  return { startMs, rows: 0, features, score, outcome: emptyOutcome(), heldOut };
}

function count(cells: number[] | undefined, bin: number): void {
  if (cells !== undefined) cells[bin] = (cells[bin] ?? 0) + 1;
}
