// Owns the verdict on features: a data fault at the first block, drift by its run.
// A1 One statistic per feature and block (reference.ts). A2 A gain is (Q - limit) / (limit - mean): a block at its expectation
//    costs 1, one at its limit nothing, so a feature must keep beyond its limit to be called drifting.
// A3 Over features by e-BH on the detectors' levels; over time by the run: at most one call in RUN blocks of a feature in control.
// A4 A faulty feature's block says nothing of drift.
import type { FeatureBins, Profile } from "#kernel/domain/profile.ts";
import type { Cause } from "../episodes/door.ts";
import { clipGain, detect, eBenjaminiHochberg, freshDetector, level } from "../stats/door.ts";
import {
  profileReferences,
  readBlock,
  referenceOf,
  shareForeign,
  shareMissing,
  type FeatureReference,
  type Reading,
} from "./reference.ts";
import type { ChampionFold, DayFold, FeatureFold, WarmBlock } from "./state.ts";
import { unitFactor } from "./units.ts";

/** Mean run, in blocks, before a feature in control is called drifting. */
const RUN = 1000;
/** A block far beyond its limit counts at most this many units. */
const GAIN_CEILING = 4;
/** Blocks within the limit after which a feature no longer drifts. */
const CALM = 3;
/** A fault is a share of rows this far above the highest of the reference, and four standard errors. */
const FAULT_SHARE = 0.05;
/** A block this many times its limit's distance off is asked for a change of unit. */
const UNIT_LIMITS = 3;
/** Fewer rows than this do not make a block. */
const ROWS_MIN = 50;
/** A version without training data learns its reference from its first blocks. */
const WARM_ROWS = 500;
const WARM_BLOCKS = 3;
const WARM_BLOCKS_MAX = 28;

/** True until a version without training data has seen enough to compare with. */
export function warmingUp(champion: ChampionFold, profile: Profile): boolean {
  if (profile.kind === "trained" && profile.blocks.length > 0) return false;
  return champion.warm.length < WARM_BLOCKS || champion.warm.reduce((sum, { rows }) => sum + rows, 0) < WARM_ROWS;
}

/** Judges a closed block of the champion's rows; false where there were too few. */
export function judgeFeatures(champion: ChampionFold, profile: Profile, day: DayFold): boolean {
  if (day.rows < ROWS_MIN || day.features.length !== profile.features.length) return false;
  if (champion.features.length === 0) champion.features = profile.features.map(freshFeature);
  champion.blocks++;
  const learning = profile.kind === "warmup" || profile.blocks.length === 0;
  const waiting = learning && warmingUp(champion, profile);
  if (!waiting)
    judge(champion.features, learning ? warmReferences(champion, profile) : profileReferences(profile), day);
  const quiet = champion.features.every(({ fault, drifting, calm }) => fault === "" && !drifting && calm > 0);
  if (learning && champion.warm.length < WARM_BLOCKS_MAX && (waiting || quiet)) {
    const { dayMs, rows, features } = day;
    champion.warm.push({ startMs: dayMs, rows, features });
  }
  return true;
}

const freshFeature = (): FeatureFold => ({
  wealth: freshDetector(),
  drifting: false,
  calm: 0,
  statistic: 0,
  limit: 0,
  minimumEffect: 0,
  fault: "",
  share: 0,
});

function warmReferences({ warm }: ChampionFold, { features }: Profile): FeatureReference[] {
  const of = (f: number) => (block: WarmBlock) => ({ startMs: block.startMs, counts: block.features[f] ?? [] });
  return features.map((bins, f) => referenceOf(bins, warm.map(of(f))));
}

function judge(features: FeatureFold[], references: readonly FeatureReference[], day: DayFold): void {
  features.forEach((feature, f) => {
    const reference = references[f];
    const counts = day.features[f] ?? [];
    if (reference === undefined) return;
    const reading = readBlock(reference, { startMs: day.dayMs, counts });
    const { fault, share } = faultOf(reference, counts, reading);
    feature.fault = fault;
    feature.share = share;
    if (reading === undefined) return;
    const { statistic, mean, limit } = reading;
    feature.statistic = statistic;
    feature.limit = limit;
    feature.minimumEffect = 2 * (limit - mean);
    if (fault !== "") return;
    feature.wealth = detect(feature.wealth, clipGain((statistic - limit) / (limit - mean), GAIN_CEILING));
    feature.calm = statistic <= limit ? feature.calm + 1 : 0;
  });
  const called = eBenjaminiHochberg(
    features.map(({ wealth }) => level(wealth)),
    RUN,
  );
  features.forEach((feature, f) => {
    if (called[f] === true) feature.drifting = true;
    if (feature.calm < CALM || !feature.drifting) return;
    feature.drifting = false;
    feature.wealth = freshDetector();
  });
}

type Fault = Pick<FeatureFold, "fault" | "share">;

/**
 * Missing values, or values where the reference has none, in far more rows than any of its blocks; or a block far from
 * the reference that a change of unit explains.
 */
function faultOf(reference: FeatureReference, counts: readonly number[], reading: Reading | undefined): Fault {
  const rows = counts.reduce((sum, n) => sum + n, 0);
  const beyond = (share: number, usual: number): boolean =>
    share - 4 * Math.sqrt((share * (1 - share)) / Math.max(1, rows)) > usual + FAULT_SHARE;
  const missing = shareMissing(counts);
  if (beyond(missing, reference.missingMax)) return { fault: "missing", share: missing };
  const foreign = shareForeign(reference.foreign, counts);
  if (beyond(foreign, reference.foreignMax))
    return { fault: reference.bins.kind === "number" ? "scale" : "category", share: foreign };
  const far = reading !== undefined && reading.statistic - reading.mean > UNIT_LIMITS * (reading.limit - reading.mean);
  if (far && unitFactor(reference.bins, reference.totals, counts) !== 0) return { fault: "scale", share: 1 };
  return { fault: "", share: 0 };
}

/** Features with a fault, the largest share first. */
export function faultsOf(features: readonly FeatureFold[], bins: readonly FeatureBins[]): Cause[] {
  const faults: Cause[] = [];
  features.forEach(({ fault, share }, f) => {
    if (fault !== "") faults.push({ feature: bins[f]?.name ?? "", kind: fault, value: share });
  });
  return sorted(faults);
}

/** Features beyond their limit (or only those called drifting), the furthest first; the value is Q over its limit. */
export function shiftsOf(
  features: readonly FeatureFold[],
  bins: readonly FeatureBins[],
  only: "beyond" | "drifting",
): Cause[] {
  const shifts: Cause[] = [];
  features.forEach(({ fault, drifting, statistic, limit }, f) => {
    const moved = only === "drifting" ? drifting : statistic > limit;
    if (fault === "" && moved) shifts.push({ feature: bins[f]?.name ?? "", kind: "shift", value: statistic / limit });
  });
  return sorted(shifts);
}

const sorted = (causes: Cause[]): Cause[] =>
  causes.sort((a, b) => b.value - a.value || (a.feature < b.feature ? -1 : 1));
