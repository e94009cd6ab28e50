// Owns the shape of a track's fold: everything a verdict depends on, as plain JSON (the snapshot is its canonical JSON).
// K1 Bounded: days, boots and kept blocks have capacities; what falls out is counted in `lost`, never silent.
// K2 Counts and micro sums are integers; wealths are doubles, which JSON writes and reads without loss.
import type { PairCounts } from "#kernel/domain/pane.ts";
import type { TrackFact } from "#kernel/domain/state.ts";
import { openEpisodes, type EpisodesFold } from "../episodes/door.ts";
import type { EvidenceFold } from "../evidence/door.ts";

/** Days that may be open at once; a row of a further one is lost. */
export const OPEN_DAYS_MAX = 64;
/** Boots remembered, the living first. */
export const BOOTS_MAX = 256;
/** Panes of a boot that may wait for an earlier one, before the missing ones are given up. */
export const AHEAD_MAX = 64;
/** Closed outcome blocks kept for recalibration and the change point. */
export const HISTORY_MAX = 42;

export type BootFold = {
  boot: number;
  /** Every pane up to this number was applied or given up. */
  upto: number;
  /** The watermark of pane `upto`. */
  watermarkMs: number;
  /** Panes applied above `upto`: [number, watermark], ascending. */
  ahead: [number, number][];
  /** The version its newest rows were served by. */
  version: number;
  ended: boolean;
};

/** Counts of one version on one open day. */
export type DayFold = { dayMs: number; version: number; rows: number; features: number[][]; score: number[] };

/** Labelled rows of one block: the score bins merged two by two. */
export type BlockTable = { n: number[]; yMicro: number[]; yyMicro: number[]; lossMicro: number };

export type OutcomeDayFold = {
  dayMs: number;
  /** Hours applied, as bits. */
  hours: number;
  versions: { version: number; table: BlockTable; unlabelled: number }[];
  pairs: PairCounts[];
};

export type HistoryBlock = { dayMs: number; table: BlockTable };

/** A feature's run: the detector's wealth, blocks within the limit since it drifts, and its newest reading. */
export type FeatureFold = {
  wealth: number[];
  drifting: boolean;
  calm: number;
  statistic: number;
  limit: number;
  minimumEffect: number;
  fault: "" | "missing" | "scale" | "category";
  /** How far the fault goes: the share of rows in it. */
  share: number;
};

/** A block of the first traffic of a version without training data: its reference. */
export type WarmBlock = { startMs: number; rows: number; features: number[][] };

/** What restarts with each champion. */
export type ChampionFold = {
  version: number;
  profileSha256: string;
  features: FeatureFold[];
  warm: WarmBlock[];
  history: HistoryBlock[];
  risk: number[];
  /** Newest block's readings for the verdict. */
  reading: Record<string, number>;
  blocks: number;
};

export type TrackFold = {
  format: 1;
  track: number;
  fact: TrackFact | null;
  boots: BootFold[];
  days: DayFold[];
  outcomes: OutcomeDayFold[];
  /** Every feature block that ends by this is closed; likewise outcome blocks. */
  featuresUntilMs: number;
  outcomesUntilMs: number;
  /** Highest watermark of outcome panes. */
  outcomeWatermarkMs: number;
  /** Newest closed feature block. */
  blockMs: number;
  /** Closed days with a data fault, newest last: their outcomes are not used. */
  faulty: number[];
  champion: ChampionFold;
  episodes: EpisodesFold;
  evidence: EvidenceFold | null;
  /** Rows judged, and labelled rows judged, since the track began. */
  rows: number;
  labelled: number;
  /** Rows that came after their block had closed, or beyond a capacity. */
  lost: number;
  /** Stream sequence of the newest input. */
  seq: number;
};

export function emptyTable(): BlockTable {
  const zeros = (): number[] => new Array<number>(RISK_BINS).fill(0);
  return { n: zeros(), yMicro: zeros(), yyMicro: zeros(), lossMicro: 0 };
}
/** Score bins for recalibration. */
export const RISK_BINS = 32;

export function freshChampion(version: number, profileSha256: string): ChampionFold {
  return { version, profileSha256, features: [], warm: [], history: [], risk: [0, 0, 0], reading: {}, blocks: 0 };
}

/** A track nobody has seen anything of. */
export function emptyFold(track: number): TrackFold {
  return {
    format: 1,
    track,
    fact: null,
    boots: [],
    days: [],
    outcomes: [],
    featuresUntilMs: 0,
    outcomesUntilMs: 0,
    outcomeWatermarkMs: 0,
    blockMs: 0,
    faulty: [],
    champion: freshChampion(0, ""),
    episodes: openEpisodes(),
    evidence: null,
    rows: 0,
    labelled: 0,
    lost: 0,
    seq: 0,
  };
}
