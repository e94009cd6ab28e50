// Owns taking panes and outcome panes into open days.
// I1 A pane of a boot is applied once, in any order (N1, N2). I2 A boot's watermark moves only over panes without a gap.
// I3 Counts that disagree in shape with the first of their day and version are lost, counted, never added crosswise.
// I4 Only boots that serve the champion hold the watermark back: nobody else's rows are judged.
import type { OutcomePane, PairCounts, Pane, PaneCell } from "#kernel/domain/pane.ts";
import { DAY_MS, HOUR_MS, type OutcomeCounts } from "#kernel/domain/profile.ts";
import {
  AHEAD_MAX,
  BOOTS_MAX,
  emptyTable,
  OPEN_DAYS_MAX,
  RISK_BINS,
  type BlockTable,
  type BootFold,
  type DayFold,
  type OutcomeDayFold,
  type TrackFold,
} from "./state.ts";

/** Boots this far (event time) behind the foremost are taken for idle and hold nothing back. */
const IDLE_MS = 3 * DAY_MS;

const dayOf = (ms: number): number => Math.floor(ms / DAY_MS) * DAY_MS;

export function takePane(state: TrackFold, pane: Pane): void {
  const boot = bootOf(state, pane.boot);
  if (pane.number <= boot.upto || boot.ahead.some(([number]) => number === pane.number)) return;
  boot.ahead.push([pane.number, pane.watermarkMs]);
  boot.ahead.sort(([a], [b]) => a - b);
  closeGap(boot);
  for (const cell of pane.cells) takeCell(state, cell);
  boot.version = newestVersion(pane, boot.version);
}

function bootOf(state: TrackFold, number: number): BootFold {
  const known = state.boots.find(({ boot }) => boot === number);
  if (known !== undefined) return known;
  const fresh: BootFold = { boot: number, upto: 0, watermarkMs: 0, ahead: [], version: 0, ended: false };
  state.boots.push(fresh);
  state.boots.sort((a, b) => a.boot - b.boot);
  if (state.boots.length > BOOTS_MAX) {
    const oldest = state.boots.findIndex(({ ended }) => ended);
    state.boots.splice(Math.max(0, oldest), 1);
  }
  return fresh;
}

function closeGap(boot: BootFold): void {
  for (;;) {
    const next = boot.ahead[0];
    if (next === undefined) return;
    if (next[0] !== boot.upto + 1 && boot.ahead.length <= AHEAD_MAX) return;
    boot.ahead.shift();
    boot.upto = next[0];
    boot.watermarkMs = Math.max(boot.watermarkMs, next[1]);
  }
}

function newestVersion(pane: Pane, before: number): number {
  let newest: PaneCell | undefined;
  for (const cell of pane.cells) if (newest === undefined || cell.startMs >= newest.startMs) newest = cell;
  return newest?.version ?? before;
}

function takeCell(state: TrackFold, cell: PaneCell): void {
  const day = openDay(state, dayOf(cell.startMs), cell);
  if (day === undefined || !sameShape(day, cell)) {
    state.lost += cell.rows;
    return;
  }
  day.rows += cell.rows;
  day.features.forEach((counts, f) => addTo(counts, cell.features[f] ?? []));
  addTo(day.score, cell.score);
}

function openDay(state: TrackFold, dayMs: number, cell: PaneCell): DayFold | undefined {
  if (dayMs + DAY_MS <= state.featuresUntilMs) return undefined;
  const known = state.days.find((d) => d.dayMs === dayMs && d.version === cell.version);
  if (known !== undefined) return known;
  if (state.days.length >= OPEN_DAYS_MAX) return undefined;
  const features = cell.features.map((counts) => counts.map(() => 0));
  const fresh: DayFold = { dayMs, version: cell.version, rows: 0, features, score: cell.score.map(() => 0) };
  state.days.push(fresh);
  state.days.sort((a, b) => a.dayMs - b.dayMs || a.version - b.version);
  return fresh;
}

const sameShape = (day: DayFold, cell: PaneCell): boolean =>
  day.features.length === cell.features.length &&
  day.score.length === cell.score.length &&
  day.features.every((counts, f) => counts.length === cell.features[f]?.length);

function addTo(sums: number[], counts: readonly number[]): void {
  for (let i = 0; i < sums.length; i++) sums[i] = (sums[i] ?? 0) + (counts[i] ?? 0);
}

/** Its panes may still come; they count, but nobody waits for them. */
export function endBoot(state: TrackFold, number: number): void {
  bootOf(state, number).ended = true;
}

/** Event time no later row of the champion comes before; 0 while nobody serves. Never goes back. */
export function featureWatermark(state: TrackFold): number {
  const living = state.boots.filter(({ ended }) => !ended);
  const champions = living.filter(({ version }) => version === state.fact?.champion);
  const holding = champions.length > 0 ? champions : living;
  const foremost = Math.max(0, ...holding.map(({ watermarkMs }) => watermarkMs));
  const active = holding.filter(({ watermarkMs }) => watermarkMs >= foremost - IDLE_MS);
  return active.length === 0 ? 0 : Math.min(...active.map(({ watermarkMs }) => watermarkMs));
}

export function takeOutcome(state: TrackFold, pane: OutcomePane): void {
  state.outcomeWatermarkMs = Math.max(state.outcomeWatermarkMs, pane.watermarkMs);
  const day = openOutcomeDay(state, dayOf(pane.startMs));
  if (day === undefined) return;
  const hour = 2 ** (Math.floor(pane.startMs / HOUR_MS) % 24);
  if (Math.floor(day.hours / hour) % 2 === 1) return;
  day.hours += hour;
  for (const { version, outcome, unlabelled } of pane.versions) {
    let mine = day.versions.find((v) => v.version === version);
    if (mine === undefined) day.versions.push((mine = { version, table: emptyTable(), unlabelled: 0 }));
    addTable(mine.table, merged(outcome));
    mine.unlabelled += unlabelled;
  }
  day.versions.sort((a, b) => a.version - b.version);
  for (const pair of pane.pairs) addPair(day.pairs, pair);
}

function openOutcomeDay(state: TrackFold, dayMs: number): OutcomeDayFold | undefined {
  if (dayMs + DAY_MS <= state.outcomesUntilMs) return undefined;
  const known = state.outcomes.find((d) => d.dayMs === dayMs);
  if (known !== undefined) return known;
  if (state.outcomes.length >= OPEN_DAYS_MAX) return undefined;
  const fresh: OutcomeDayFold = { dayMs, hours: 0, versions: [], pairs: [] };
  state.outcomes.push(fresh);
  state.outcomes.sort((a, b) => a.dayMs - b.dayMs);
  return fresh;
}

/** Score bins merged two by two. */
export function merged(outcome: OutcomeCounts): BlockTable {
  const pairs = (counts: readonly number[]): number[] =>
    Array.from({ length: RISK_BINS }, (_, i) => (counts[2 * i] ?? 0) + (counts[2 * i + 1] ?? 0));
  return {
    n: pairs(outcome.n),
    yMicro: pairs(outcome.yMicro),
    yyMicro: pairs(outcome.yyMicro),
    lossMicro: outcome.lossMicro,
  };
}

export function addTable(into: BlockTable, table: BlockTable): void {
  addTo(into.n, table.n);
  addTo(into.yMicro, table.yMicro);
  addTo(into.yyMicro, table.yyMicro);
  into.lossMicro += table.lossMicro;
}

function addPair(pairs: PairCounts[], pair: PairCounts): void {
  const known = pairs.find(({ version, other }) => version === pair.version && other === pair.other);
  if (known === undefined) {
    pairs.push({ ...pair });
    pairs.sort((a, b) => a.version - b.version || a.other - b.other);
    return;
  }
  known.n += pair.n;
  known.differenceMicro += pair.differenceMicro;
  known.squareMicro += pair.squareMicro;
}
