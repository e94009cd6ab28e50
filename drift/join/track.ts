// Owns the ledger of one track: rows by address, labels early and in time, and the hours that close when their horizon has passed.
// J1 A row (boot, number) counts once, however often it is sent. J2 The first label counts, a repeat is harmless, a different one is a
//    correction until its block closes. J3 A block closes once, when the watermark is its end plus the horizon; afterwards rows of it are
//    lost and labels of it late, both counted. J4 An early label is unmatched when the records have passed the moment it was stored and
//    then the horizon went by; at most EARLY_MAX wait. Reading labels far ahead of records, after a pause, loses none. J5 Panes leave through `outbox`, in order of time, after the state with them was saved.
// J6 Every event day that had a pane ends with one, so that its end is told without waiting for the next day's rows.
// J7 At most ROWS_MAX rows wait for their horizon; more are lost, and counted, as they come.
import { DAY_MS, HOUR_MS } from "#kernel/domain/profile.ts";
import type { ProfileBins } from "#kernel/domain/profile-build.ts";
import type { OutcomePane } from "#kernel/domain/pane.ts";
import type { TrackFact } from "#kernel/domain/state.ts";
import { addNumber, hasNumber } from "../panes/door.ts";
import { noteBatch, openBoot, watermarkOf, type BootJoin } from "./boots.ts";
import type { JoinRow, LabelOfRow, Records } from "./intake.ts";
import { outcomePane } from "./outcome.ts";

export type EarlyLabel = { boot: number; number: number; value: number; corrected: number; atMs: number };

export type JoinState = {
  track: number;
  /** One hour in open mode, one day in strict mode. */
  blockMs: number;
  strict: boolean;
  /** Rows that may wait for their horizon (J7). */
  rowsMax: number;
  fact: TrackFact | null;
  boots: Map<number, BootJoin>;
  /** Open blocks by start. */
  blocks: Map<number, JoinRow[]>;
  /** Rows of open blocks by boot and number. */
  rows: Map<number, Map<number, JoinRow>>;
  /** By `boot/number`, in order of arrival. */
  early: Map<string, EarlyLabel>;
  /** Labelled rows of closed blocks by day, until the day's segment is written. */
  days: Map<number, JoinRow[]>;
  outbox: OutcomePane[];
  watermarkMs: number;
  /** When the newest record was stored. */
  storedMs: number;
  /** How far event time was when records of a moment had been applied: [stored, watermark], an hour apart. */
  passed: [number, number][];
  closedUntilMs: number;
  /** Watermark of the last pane. */
  toldUntilMs: number;
  /** Labels to be told of in the next pane. */
  late: number;
  unmatched: number;
  /** Rows that came after their block had closed, or when too many waited (J7). */
  lost: number;
};

const EARLY_MAX = 200_000;
/** About 1 KiB each in memory (bench/reports/serving.md): a gigabyte. */
const ROWS_MAX = 1_000_000;

/** The ledger of a track of which nothing was seen. */
export function openJoin(track: number, strict: boolean, rowsMax = ROWS_MAX): JoinState {
  return {
    track,
    strict,
    rowsMax,
    blockMs: strict ? DAY_MS : HOUR_MS,
    fact: null,
    outbox: [],
    boots: new Map(),
    blocks: new Map(),
    rows: new Map(),
    early: new Map(),
    days: new Map(),
    watermarkMs: 0,
    storedMs: 0,
    passed: [],
    closedUntilMs: 0,
    toldUntilMs: 0,
    late: 0,
    unmatched: 0,
    lost: 0,
  };
}

/** Takes a newer fact; an older one changes nothing. */
export function takeFact(state: JoinState, fact: TrackFact): void {
  if (state.fact === null || fact.revision > state.fact.revision) state.fact = fact;
}

export function endBoot(state: JoinState, boot: number): void {
  bootOf(state, boot).ended = true;
}

/** Takes the rows of a message that was stored at `storedMs`; known ones change nothing (J1). */
export function takeRecords(state: JoinState, records: Records, storedMs: number): void {
  const boot = bootOf(state, records.boot);
  for (const row of records.rows) takeRow(state, boot, row);
  state.storedMs = Math.max(state.storedMs, storedMs);
  noteBatch(boot, records.batch, records.watermarkMs, records.version);
}

function takeRow(state: JoinState, boot: BootJoin, row: JoinRow): void {
  const known = state.rows.get(row.boot);
  if (known?.has(row.number) === true || hasNumber(boot.closed, row.number)) return;
  const key = `${row.boot}/${row.number}`;
  const early = state.early.get(key);
  if (early !== undefined) state.early.delete(key);
  const startMs = Math.floor(row.eventMs / state.blockMs) * state.blockMs;
  if (startMs + state.blockMs <= state.closedUntilMs || openRows(state) >= state.rowsMax) {
    addNumber(boot.closed, row.number);
    state.lost += 1;
    if (early !== undefined) state.late += 1;
    return;
  }
  if (early !== undefined) {
    row.label = early.value;
    row.corrected = early.corrected;
  }
  entry(state.blocks, startMs, () => []).push(row);
  entry(state.rows, row.boot, () => new Map<number, JoinRow>()).set(row.number, row);
}

/** Rows whose block is open; a track has few boots at a time. */
function openRows(state: JoinState): number {
  let count = 0;
  for (const rows of state.rows.values()) count += rows.size;
  return count;
}

/** What became of a label. */
export type LabelFate = "matched" | "repeated" | "corrected" | "early" | "late" | "unmatched";

export function takeLabel(state: JoinState, { boot, number, value }: LabelOfRow, storedMs: number): LabelFate {
  if (Number.isNaN(value)) {
    state.unmatched += 1;
    return "unmatched";
  }
  const row = state.rows.get(boot)?.get(number);
  if (row !== undefined) {
    const before = row.label;
    row.label = value;
    if (Number.isNaN(before)) return "matched";
    if (before === value) return "repeated";
    row.corrected += 1;
    return "corrected";
  }
  const known = state.boots.get(boot);
  if (known !== undefined && hasNumber(known.closed, number)) {
    state.late += 1;
    return "late";
  }
  return takeEarly(state, { boot, number, value, corrected: 0, atMs: storedMs });
}

function takeEarly(state: JoinState, label: EarlyLabel): LabelFate {
  const key = `${label.boot}/${label.number}`;
  const before = state.early.get(key);
  if (before !== undefined) {
    if (before.value === label.value) return "repeated";
    before.value = label.value;
    before.corrected += 1;
    return "corrected";
  }
  state.early.set(key, label);
  if (state.early.size > EARLY_MAX) {
    for (const oldest of state.early.keys()) {
      state.early.delete(oldest);
      state.unmatched += 1;
      break;
    }
  }
  return "early";
}

/** Closes what the watermark has passed (J3); true when a block closed. Needs the fact and its profile's bins. */
export function advance(state: JoinState, bins: ProfileBins): boolean {
  if (state.fact === null) return false;
  const horizonMs = state.fact.policy.labelHorizonHours * HOUR_MS;
  state.watermarkMs = Math.max(state.watermarkMs, watermarkOf(state.boots.values(), state.fact.champion));
  giveUpEarly(state, horizonMs);
  const untilMs = Math.floor((state.watermarkMs - horizonMs) / state.blockMs) * state.blockMs;
  if (untilMs <= state.closedUntilMs) return false;
  const due = [...state.blocks.keys()].filter((startMs) => startMs + state.blockMs <= untilMs).sort((a, b) => a - b);
  for (const startMs of due) {
    endDay(state, startMs);
    closeBlock(state, startMs, bins);
  }
  endDay(state, untilMs);
  state.closedUntilMs = untilMs;
  return true;
}

function closeBlock(state: JoinState, startMs: number, bins: ProfileBins): void {
  const rows = state.blocks.get(startMs) ?? [];
  state.blocks.delete(startMs);
  const dayMs = Math.floor(startMs / DAY_MS) * DAY_MS;
  for (const row of rows) {
    const ofBoot = state.rows.get(row.boot);
    ofBoot?.delete(row.number);
    if (ofBoot?.size === 0) state.rows.delete(row.boot);
    addNumber(bootOf(state, row.boot).closed, row.number);
    if (!Number.isNaN(row.label)) entry(state.days, dayMs, () => []).push(row);
  }
  const watermarkMs = startMs + state.blockMs;
  tell(state, outcomePane({ track: state.track, startMs, watermarkMs, strict: state.strict }, rows, bins));
}

/** J6: an empty pane for the day's last hour where the last pane did not reach the day's end. */
function endDay(state: JoinState, beforeMs: number): void {
  const dayEndMs = Math.ceil(state.toldUntilMs / DAY_MS) * DAY_MS;
  if (dayEndMs === state.toldUntilMs || dayEndMs > beforeMs) return;
  const at = { track: state.track, startMs: dayEndMs - HOUR_MS, watermarkMs: dayEndMs };
  tell(state, { ...at, versions: [], pairs: [], corrected: 0, late: 0, unmatched: 0 });
}

/** Counts of late and unmatched labels ride on the next pane; in strict mode on the next that says anything. */
function tell(state: JoinState, pane: OutcomePane): void {
  state.toldUntilMs = pane.watermarkMs;
  if (state.strict && pane.versions.length === 0) {
    state.outbox.push({ ...pane, corrected: 0 });
    return;
  }
  state.outbox.push({ ...pane, late: state.late, unmatched: state.unmatched });
  state.late = 0;
  state.unmatched = 0;
}

/** J4. */
function giveUpEarly(state: JoinState, horizonMs: number): void {
  const { passed, watermarkMs } = state;
  if (watermarkMs === 0) return;
  if (watermarkMs - (passed.at(-1)?.[1] ?? 0) >= HOUR_MS) passed.push([state.storedMs, watermarkMs]);
  const overMs = watermarkMs - horizonMs - state.blockMs;
  while (passed.length > 1 && (passed[1]?.[1] ?? watermarkMs) <= overMs) passed.shift();
  const [storedMs, thenMs] = passed[0] ?? [0, watermarkMs];
  if (thenMs > overMs) return;
  for (const [key, label] of state.early) {
    if (label.atMs >= storedMs) return;
    state.early.delete(key);
    state.unmatched += 1;
  }
}

/** Days that are closed whole and wait for their segment, oldest first. */
export function dueDays(state: JoinState): number[] {
  return [...state.days.keys()].filter((dayMs) => dayMs + DAY_MS <= state.closedUntilMs).sort((a, b) => a - b);
}

function bootOf(state: JoinState, boot: number): BootJoin {
  return entry(state.boots, boot, () => openBoot(boot));
}

function entry<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const fresh = make();
  map.set(key, fresh);
  return fresh;
}
