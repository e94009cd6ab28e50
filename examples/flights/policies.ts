// Owns the pay-off: what answering with pinned version 1, with the mesh, and with two habits of the trade would have cost.
// C1 Computed from what the client itself has: rows as sent, answers, truths. C2 All policies are judged on the same rows.
// C3 The habits use the mesh's trainer and settings, the last 28 days of rows whose truth was known by then, and no foresight.
import { DAY0_MS, DAY_MS } from "./dataset.ts";
import { predict, type Forest } from "./boosting.ts";
import { FAULT } from "./features.ts";
import { psiAgainst, type Moved } from "./psi.ts";
import type { RowsEvent, TruthsEvent } from "./replay.ts";
import { joined, taken, type Table } from "./table.ts";
import { brier, fitted, type Settings } from "./train.ts";

/** Declared, not measured: a late flight nobody was warned of costs four times a warning for nothing. */
export const COST = { missed: 4, falseAlarm: 1 } as const;
/** Warning pays from this probability on. */
export const WARN_FROM = COST.falseAlarm / (COST.falseAlarm + COST.missed);

/** The habits: days of rows a run trains on, days between runs, days PSI looks back, the limit everybody quotes. */
export const HABIT = { trainDays: 28, everyDays: 7, psiDays: 7, psiLimit: 0.1 } as const;

/** Labelled rows in order of event time with the answers of both deployments and the time each truth was known. */
export type Recorded = Table & { pinned: Float64Array; mesh: Float64Array; knownMs: Float64Array };

export const POLICIES = ["pinned", "mesh", "weekly", "psi"] as const;
export type Policy = (typeof POLICIES)[number];

export type Payoff = {
  policy: Policy;
  rows: number;
  brier: number;
  /** Per 1,000 flights, in warnings for nothing (`COST`). */
  costPer1000: number;
  runs: number;
  alarms: number;
};
export type Week = { fromDay: number; rows: number; brier: Readonly<Record<Policy, number>> };
/** On all rows, and on those outside the fault, when broken rows were answered. */
export type Comparison = { policies: readonly Payoff[]; outsideFault: readonly Payoff[]; weeks: readonly Week[] };

/** What the mesh did in the same time, as its RPCs tell: runs it made, episodes it confirmed. */
export type Deeds = { runs: number; alarms: number };

export type Given = {
  /** What version 1 was trained on. */
  history: Table;
  settings: Settings;
  mesh: Deeds;
  faultDay: number;
};

/** Compares the four policies on the recorded rows; some fifteen seconds for eleven weeks of every tenth flight. */
export function comparePolicies(recorded: Recorded, { history, settings, mesh, faultDay }: Given): Comparison {
  const setting: Setting = { recorded, history, settings, first: fitted(history, settings) };
  const due = (day: number, lastRunDay: number): boolean => day - lastRunDay >= HABIT.everyDays;
  const weekly = walked(setting, ({ day, lastRunDay }) => ({
    alarm: false,
    run: due(day, lastRunDay),
  }));
  const psi = walked(setting, ({ day, lastRunDay, recent, psiOf }) => {
    const alarm = recent.rows > 0 && psiOf(recent).psi > HABIT.psiLimit;
    return { alarm, run: alarm && due(day, lastRunDay) };
  });
  const answers = { pinned: recorded.pinned, mesh: recorded.mesh, weekly: weekly.answers, psi: psi.answers };
  const deeds = { pinned: { runs: 0, alarms: 0 }, mesh, weekly, psi };
  const payoffs = (kept: (row: number) => boolean): Payoff[] => {
    const label = recorded.label.filter((_, row) => kept(row));
    return POLICIES.map((policy) =>
      payoff(
        policy,
        answers[policy].filter((_, row) => kept(row)),
        label,
        deeds[policy],
      ),
    );
  };
  const fault = { fromMs: DAY0_MS + faultDay * DAY_MS, toMs: DAY0_MS + (faultDay + FAULT.days) * DAY_MS };
  const at = (row: number): number => recorded.eventMs[row] ?? 0;
  return {
    policies: payoffs(() => true),
    outsideFault: payoffs((row) => at(row) < fault.fromMs || at(row) >= fault.toMs),
    weeks: weeksOf(recorded, answers),
  };
}

/** Cost per row of warning from `WARN_FROM` on. */
export function meanCost(probability: Float64Array, label: Uint8Array): number {
  let cost = 0;
  label.forEach((late, row) => {
    const warned = (probability[row] ?? 0) >= WARN_FROM;
    if (late === 1 && !warned) cost += COST.missed;
    if (late === 0 && warned) cost += COST.falseAlarm;
  });
  return label.length === 0 ? 0 : cost / label.length;
}

const payoff = (policy: Policy, answers: Float64Array, label: Uint8Array, { runs, alarms }: Deeds): Payoff => ({
  policy,
  rows: label.length,
  brier: brier(answers, label),
  costPer1000: meanCost(answers, label) * 1000,
  runs,
  alarms,
});

/** What a habit may look at, at the midnight before `day`. */
type Midnight = { day: number; lastRunDay: number; recent: Table; psiOf: (recent: Table) => Moved };
type Setting = { recorded: Recorded; history: Table; settings: Settings; first: Forest };
type Habit = (midnight: Midnight) => { alarm: boolean; run: boolean };

/** Walks through the days: at each midnight the habit may train again, then the day's rows are answered. */
function walked({ recorded, history, settings, first }: Setting, habit: Habit): Deeds & { answers: Float64Array } {
  const answers = new Float64Array(recorded.rows);
  const known = withKnown(recorded, history);
  const days = daysOf(recorded);
  let forest = first;
  let psiOf = psiAgainst(history);
  let lastRunDay = days[0]?.day ?? 0;
  const deeds = { runs: 0, alarms: 0 };
  for (const { day, start, end } of days) {
    const nowMs = DAY0_MS + day * DAY_MS;
    const recent = taken(recorded, rowsBetween(recorded, nowMs - HABIT.psiDays * DAY_MS, nowMs));
    const { alarm, run } = habit({ day, lastRunDay, recent, psiOf });
    if (alarm) deeds.alarms++;
    if (run) {
      const trainedOn = known(nowMs - HABIT.trainDays * DAY_MS, nowMs);
      forest = fitted(trainedOn, settings);
      psiOf = psiAgainst(trainedOn);
      lastRunDay = day;
      deeds.runs++;
    }
    const today = taken(recorded, rowsBetween(recorded, nowMs, nowMs + DAY_MS));
    if (today.rows !== end - start) throw new Error(`day ${day} has ${today.rows} rows, expected ${end - start}`);
    answers.set(predict(forest, today.columns), start);
  }
  return { ...deeds, answers };
}

/** Rows of [fromMs, nowMs), history included, whose truth was known at `nowMs` (C3). */
function withKnown(recorded: Recorded, history: Table): (fromMs: number, nowMs: number) => Table {
  return (fromMs, nowMs) => {
    const live = rowsBetween(recorded, fromMs, nowMs).filter((row) => (recorded.knownMs[row] ?? Infinity) <= nowMs);
    return joined([taken(history, rowsBetween(history, fromMs, nowMs)), taken(recorded, live)]);
  };
}

function rowsBetween({ eventMs }: Table, fromMs: number, toMs: number): Uint32Array {
  const start = firstAtOrAfter(eventMs, fromMs);
  return Uint32Array.from({ length: firstAtOrAfter(eventMs, toMs) - start }, (_, at) => start + at);
}

function firstAtOrAfter(sorted: Float64Array, ms: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((sorted[middle] ?? 0) < ms) low = middle + 1;
    else high = middle;
  }
  return low;
}

type Day = { day: number; start: number; end: number };

function daysOf({ eventMs, rows }: Table): Day[] {
  const days: Day[] = [];
  for (let row = 0; row < rows; row++) {
    const day = Math.floor(((eventMs[row] ?? 0) - DAY0_MS) / DAY_MS);
    const last = days.at(-1);
    if (last?.day === day) last.end = row + 1;
    else days.push({ day, start: row, end: row + 1 });
  }
  return days;
}

function weeksOf(recorded: Recorded, answers: Readonly<Record<Policy, Float64Array>>): Week[] {
  const days = daysOf(recorded);
  const weeks: Week[] = [];
  for (let at = 0; at < days.length; at += 7) {
    const start = days[at]?.start ?? 0;
    const end = days[Math.min(at + 6, days.length - 1)]?.end ?? start;
    const label = recorded.label.subarray(start, end);
    const of = (policy: Policy) => brier(answers[policy].subarray(start, end), label);
    weeks.push({
      fromDay: days[at]?.day ?? 0,
      rows: end - start,
      brier: { pinned: of("pinned"), mesh: of("mesh"), weekly: of("weekly"), psi: of("psi") },
    });
  }
  return weeks;
}

/** Gathers what the replay sends and what the mesh answers; a row counts once both answers and its truth are there. */
export class Recorder {
  readonly #requests: { event: RowsEvent; pinned: Float64Array; mesh: Float64Array }[] = [];
  readonly #truths = new Map<number, { label: number; knownMs: number }>();

  /** Answers (probability of late) row by row of a request; NaN where there was none. */
  answered(event: RowsEvent, answers: { pinned: ArrayLike<number>; mesh: ArrayLike<number> }): void {
    const { pinned, mesh } = answers;
    if (pinned.length !== event.keys.length || mesh.length !== event.keys.length) {
      throw new RangeError(`${event.keys.length} rows, but ${pinned.length} and ${mesh.length} answers`);
    }
    this.#requests.push({ event, pinned: Float64Array.from(pinned), mesh: Float64Array.from(mesh) });
  }

  told({ keys, knownMs, labels }: TruthsEvent): void {
    keys.forEach((key, at) => this.#truths.set(key, { label: labels[at] ?? 0, knownMs: knownMs[at] ?? 0 }));
  }

  /** All rows with a truth and both answers (C2), in order of event time. */
  recorded(): Recorded {
    const parts = this.#requests.map(({ event, pinned, mesh }) => {
      const rows = [...event.keys.keys()].filter(
        (at) => this.#truths.has(event.keys[at] ?? -1) && Number.isFinite(pinned[at]) && Number.isFinite(mesh[at]),
      );
      const truth = (at: number) => this.#truths.get(event.keys[at] ?? -1);
      const all: Table = {
        rows: event.keys.length,
        eventMs: event.eventMs,
        columns: event.columns,
        label: Uint8Array.from(event.keys, (_, at) => truth(at)?.label ?? 0),
      };
      return {
        table: taken(all, rows),
        pinned: rows.map((at) => pinned[at] ?? 0),
        mesh: rows.map((at) => mesh[at] ?? 0),
        knownMs: rows.map((at) => truth(at)?.knownMs ?? Infinity),
      };
    });
    return {
      ...joined(parts.map(({ table }) => table)),
      pinned: Float64Array.from(parts.flatMap((part) => part.pinned)),
      mesh: Float64Array.from(parts.flatMap((part) => part.mesh)),
      knownMs: Float64Array.from(parts.flatMap((part) => part.knownMs)),
    };
  }
}
