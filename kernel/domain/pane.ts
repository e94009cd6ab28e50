// What the verdict worker folds, in domain types. The wire forms are driftmesh.internal.v1.Pane, OutcomePane and Fact.
// N1 A pane counts each row of its ranges once. N2 Panes are identified by (boot, number) and applied once.
import type { OutcomeCounts } from "./profile.ts";

/** Counts of the rows one version served in one cell of event time. */
export type PaneCell = {
  /** Unix ms of the cell's start; one hour in open mode, one day in strict mode. */
  startMs: number;
  version: number;
  rows: number;
  /** Per feature of the profile, dense counts (F1). */
  features: number[][];
  score: number[];
};

export type Pane = {
  track: number;
  boot: number;
  /** Dense from 1 in each boot. */
  number: number;
  firstRow: number;
  /** Rows covered: firstRow .. firstRow + rows - 1, less `dropped`. */
  rows: number;
  dropped: number;
  suppressed: number;
  /** Every later row of this boot has an event time at or above this (Unix ms). */
  watermarkMs: number;
  cells: PaneCell[];
};

/** Paired losses of rows that both arms scored; `difference` is loss(champion arm) - loss(other arm). */
export type PairCounts = { version: number; other: number; n: number; differenceMicro: number; squareMicro: number };

/** What the join says of one event hour of a track: written once, when its horizon has passed. */
export type OutcomePane = {
  track: number;
  /** Unix ms of the hour's start. */
  startMs: number;
  /** Per served version: labelled rows by score bin, and rows whose label never came. */
  versions: { version: number; outcome: OutcomeCounts; unlabelled: number }[];
  pairs: PairCounts[];
  /** Labels that were corrected, late, for unknown rows. */
  corrected: number;
  late: number;
  unmatched: number;
  /** Every hour before this one has been written. */
  watermarkMs: number;
};
