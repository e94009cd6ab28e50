// Owns the realised risk: the champion's loss in excess of itself recalibrated on the blocks before.
// G1 Counts only: in a bin with map value m the recalibrated squared loss of a block is yy - 2 m y + n m^2.
// G2 The map is made of the WINDOW blocks before this one (the profile's own where there are too few), blocks of a data fault
//    left out, and drawn towards the score by PRIOR_ROWS rows, so that an empty bin changes nothing.
// G3 A block is one unit: its gain is (excess - tolerance) / scale, held to [-1, 1], whatever its rows.
// G4 Confirmed at a level of CONFIRM: at most one false confirmation in that many blocks on average, as long as the mean excess
//    stays within the tolerance. What calibration does not repair is invisible here, and a storm the model knows of is no excess.
import type { Profile } from "#kernel/domain/profile.ts";
import type { EpisodeClass, TrackFact } from "#kernel/domain/state.ts";
import type { Cause } from "../episodes/door.ts";
import { clipGain, detect, level } from "../stats/door.ts";
import { addTable, merged } from "./intake.ts";
import { emptyTable, HISTORY_MAX, RISK_BINS, type BlockTable, type ChampionFold, type HistoryBlock } from "./state.ts";

const CONFIRM = 100;
const SUSPECT = 20;
const WINDOW = 14;
const PRIOR_ROWS = 30;
/** Fewer labelled rows than this are no block, fewer before it no map. */
const LABELLED_MIN = 50;
const MAP_ROWS_MIN = 500;
/** Labels or losses this many standard deviations of the profile's blocks off are unusual. */
const UNUSUAL = 2;
const UNUSUAL_BLOCKS_MIN = 7;
/** The change point is looked for in this many newest blocks. */
const CHANGE_BLOCKS = 21;
const MICRO = 1_000_000;

export type RiskReading = {
  suspicious: boolean;
  convicting: boolean;
  excessive: boolean;
  unusual: boolean;
  class: EpisodeClass;
  causes: Cause[];
  changeMs: number;
  numbers: Record<string, number>;
};

/** Judges a closed block of labels; undefined where there are too few, here or before. */
export function judgeRisk(
  champion: ChampionFold,
  profile: Profile,
  block: HistoryBlock,
  policy: TrackFact["policy"],
): RiskReading | undefined {
  const rows = sum(block.table.n);
  if (rows < LABELLED_MIN) return undefined;
  const before = [...profileBlocks(profile), ...champion.history].filter(({ dayMs }) => dayMs < block.dayMs);
  champion.history.push(block);
  if (champion.history.length > HISTORY_MAX) champion.history.shift();
  const window = tableOf(before.slice(-WINDOW));
  if (sum(window.n) < MAP_ROWS_MIN) return undefined;
  const map = mapOf(window, profile);
  const loss = block.table.lossMicro / MICRO / rows;
  const excess = loss - lossUnder(map, block.table) / rows;
  champion.risk = detect(champion.risk, clipGain((excess - policy.tolerance) / policy.scale));
  const now = level(champion.risk);
  const usual = usualOf(profile, champion, block.dayMs);
  const label = sum(block.table.yMicro) / MICRO / rows;
  const unusual = usual !== undefined && (label < usual.labelLow || label > usual.labelHigh || loss > usual.lossHigh);
  const suspicious = now >= SUSPECT;
  const expected = usual === undefined ? label : expectedUnder(mapOf(usual.table, profile), block.table) / rows;
  const numbers: Record<string, number> = {
    excess,
    level: now,
    suspectAt: SUSPECT,
    confirmAt: CONFIRM,
    tolerance: policy.tolerance,
    scale: policy.scale,
    loss,
    label,
    labelled: rows,
    ...(usual === undefined
      ? {}
      : { labelUsual: usual.label, labelHigh: usual.labelHigh, labelLow: usual.labelLow, lossHigh: usual.lossHigh }),
    labelExpected: expected,
  };
  return {
    suspicious,
    convicting: now >= CONFIRM,
    excessive: excess > policy.tolerance,
    unusual,
    class: suspicious
      ? "concept"
      : usual === undefined
        ? "unknown"
        : shiftClass(label - usual.label, expected - usual.label),
    causes: [
      {
        feature: suspicious ? "loss" : "label",
        kind: suspicious ? "loss" : "shift",
        value: suspicious ? excess : label - (usual?.label ?? label),
      },
    ],
    changeMs: suspicious ? changePoint([...before, block], profile) : block.dayMs,
    numbers,
  };
}

/** The labels moved: did the scores foresee at least half of it (inputs moved), or not (the prior moved)? */
const shiftClass = (moved: number, foreseen: number): EpisodeClass =>
  Math.abs(foreseen) >= Math.abs(moved) / 2 && foreseen * moved > 0 ? "covariate" : "prior";

const memo = new WeakMap<Profile, readonly HistoryBlock[]>();

function profileBlocks(profile: Profile): readonly HistoryBlock[] {
  let blocks = memo.get(profile);
  if (blocks === undefined) {
    blocks = profile.blocks.map(({ startMs, outcome }) => ({ dayMs: startMs, table: merged(outcome) }));
    memo.set(profile, blocks);
  }
  return blocks;
}

function tableOf(blocks: readonly HistoryBlock[]): BlockTable {
  const table = emptyTable();
  for (const block of blocks) addTable(table, block.table);
  return table;
}

/** Mean label by score bin, drawn towards the bin's own probability (or, for a value, the mean) by PRIOR_ROWS (G2). */
function mapOf(table: BlockTable, { score }: Profile): number[] {
  const mean = sum(table.yMicro) / MICRO / Math.max(1, sum(table.n));
  return table.n.map((n, bin) => {
    const prior = score.kind === "probability" ? (bin + 0.5) / RISK_BINS : mean;
    return ((table.yMicro[bin] ?? 0) / MICRO + PRIOR_ROWS * prior) / (n + PRIOR_ROWS);
  });
}

/** Squared loss of a block had it answered with the map (G1). */
function lossUnder(map: readonly number[], { n, yMicro, yyMicro }: BlockTable): number {
  return map.reduce(
    (total, m, bin) =>
      total + (yyMicro[bin] ?? 0) / MICRO - (2 * m * (yMicro[bin] ?? 0)) / MICRO + (n[bin] ?? 0) * m * m,
    0,
  );
}

function expectedUnder(map: readonly number[], { n }: BlockTable): number {
  return map.reduce((total, m, bin) => total + (n[bin] ?? 0) * m, 0);
}

/** Which label shares and losses the reference's blocks make usual: the profile's, or the first that were seen. */
function usualOf(profile: Profile, { history }: ChampionFold, beforeMs: number) {
  const own = profileBlocks(profile);
  const blocks = (own.length > 0 ? own : history.slice(0, WINDOW).filter(({ dayMs }) => dayMs < beforeMs)).filter(
    ({ table }) => sum(table.n) >= LABELLED_MIN,
  );
  if (blocks.length < UNUSUAL_BLOCKS_MIN) return undefined;
  const labels = momentsOf(blocks.map(({ table }) => sum(table.yMicro) / MICRO / sum(table.n)));
  const losses = momentsOf(blocks.map(({ table }) => table.lossMicro / MICRO / sum(table.n)));
  return {
    label: labels.mean,
    labelLow: labels.mean - UNUSUAL * labels.spread,
    labelHigh: labels.mean + UNUSUAL * labels.spread,
    lossHigh: losses.mean + UNUSUAL * losses.spread,
    table: tableOf(blocks),
  };
}

/** Mean, and the spread of a further value around it. */
function momentsOf(values: readonly number[]): { mean: number; spread: number } {
  const mean = values.reduce((total, v) => total + v, 0) / values.length;
  const variance = values.reduce((total, v) => total + (v - mean) ** 2, 0) / (values.length - 1);
  return { mean, spread: Math.sqrt(variance * (1 + 1 / values.length)) };
}

/** First day of the split of the newest blocks in two that explains the most loss, each part with a map of its own. */
function changePoint(blocks: readonly HistoryBlock[], profile: Profile): number {
  const newest = blocks.slice(-2 * CHANGE_BLOCKS);
  let best = { lossLeft: Number.POSITIVE_INFINITY, dayMs: newest.at(-1)?.dayMs ?? 0 };
  for (let at = Math.max(1, newest.length - CHANGE_BLOCKS); at < newest.length; at++) {
    const parts = [tableOf(newest.slice(0, at)), tableOf(newest.slice(at))];
    const lossLeft = parts.reduce((total, part) => total + lossUnder(mapOf(part, profile), part), 0);
    if (lossLeft < best.lossLeft) best = { lossLeft, dayMs: newest[at]?.dayMs ?? 0 };
  }
  return best.dayMs;
}

const sum = (counts: readonly number[]): number => counts.reduce((total, n) => total + n, 0);
