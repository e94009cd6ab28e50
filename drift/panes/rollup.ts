// Owns the counts of a track by event day and version, for people to read, and which panes were already applied.
// R1 A pane (boot, number) and an outcome pane (start) are applied once: `take...` says whether it was new.
// R2 Bounded: the DAYS_MAX newest rows stay.
import type { OutcomePane, Pane } from "#kernel/domain/pane.ts";
import { DAY_MS, HOUR_MS } from "#kernel/domain/profile.ts";
import { addNumber, type Intervals } from "./intervals.ts";

/** One row of `ListPanes`; `lossMicro` is a sum over `labelled` rows. */
export type PaneDay = {
  dayMs: number;
  version: number;
  rows: number;
  labelled: number;
  unlabelled: number;
  lossMicro: number;
  suppressed: number;
  dropped: number;
};

/** Plain JSON: part of the track's snapshot. */
export type Rollup = { days: PaneDay[]; panes: Record<string, Intervals>; outcomes: Intervals };

const DAYS_MAX = 1_000;

export const openRollup = (): Rollup => ({ days: [], panes: {}, outcomes: [] });

/** Adds a pane; false when it was applied before (R1). */
export function takePane(rollup: Rollup, pane: Pane): boolean {
  const seen = (rollup.panes[pane.boot] ??= []);
  if (!addNumber(seen, pane.number)) return false;
  let newest: PaneDay | undefined;
  for (const cell of pane.cells) {
    const day = dayOf(rollup, cell.startMs, cell.version);
    day.rows += cell.rows;
    if (newest === undefined || day.dayMs >= newest.dayMs) newest = day;
  }
  newest ??= rollup.days.at(-1);
  if (newest !== undefined) {
    newest.suppressed += pane.suppressed;
    newest.dropped += pane.dropped;
  }
  return true;
}

/** Adds an outcome pane; false when its hour was applied before (R1). */
export function takeOutcome(rollup: Rollup, pane: OutcomePane): boolean {
  if (!addNumber(rollup.outcomes, Math.floor(pane.startMs / HOUR_MS))) return false;
  for (const { version, outcome, unlabelled } of pane.versions) {
    const day = dayOf(rollup, pane.startMs, version);
    day.labelled += outcome.n.reduce((sum, n) => sum + n, 0);
    day.unlabelled += unlabelled;
    day.lossMicro += outcome.lossMicro;
  }
  return true;
}

function dayOf({ days }: Rollup, ms: number, version: number): PaneDay {
  const dayMs = Math.floor(ms / DAY_MS) * DAY_MS;
  const known = days.findLast((day) => day.dayMs === dayMs && day.version === version);
  if (known !== undefined) return known;
  const fresh: PaneDay = {
    dayMs,
    version,
    rows: 0,
    labelled: 0,
    unlabelled: 0,
    lossMicro: 0,
    suppressed: 0,
    dropped: 0,
  };
  days.push(fresh);
  days.sort((a, b) => a.dayMs - b.dayMs || a.version - b.version);
  if (days.length > DAYS_MAX) days.shift();
  return fresh;
}
