// Owns the flights as the drift service sees them, without a mesh: rows, truths, scores, panes and outcome panes by the hour.
// W1 The parameters of models and profiles come from days 0-27 (or, for a challenger, from what a run would be given).
// W2 Panes and outcome panes are what the sidecar and the joiner would write of these rows, one an hour.
import {
  asSent,
  boost,
  DAY0_MS,
  dayOf,
  DAYS,
  DEFAULT_SETTINGS,
  isLate,
  predict,
  pushBacks,
  readFlights,
  taken,
  toColumns,
  truthIsLost,
  type Forest,
  type Row,
  type Story,
  type Table,
} from "./flights.ts";
import type { OutcomePane, Pane } from "#kernel/domain/pane.ts";
import { countOutcome, lossMicro, profileFrom, type ProfileColumn } from "#kernel/domain/profile-build.ts";
import {
  cellsOf,
  categoryBinner,
  DAY_MS,
  emptyOutcome,
  HOUR_MS,
  numericBin,
  type Profile,
} from "#kernel/domain/profile.ts";

export const HISTORY_DAYS = 28;
export const TRACK = 7;

export type World = {
  /** As sent (a fault included), truths beside them; every row, in time order. */
  table: Table;
  lost: Uint8Array;
  firstLive: number;
};

/** Rows of days 0 to 180 with the story's truths and, during the fault, what the client really sends. */
export async function worldOf(every: number, offset: number, story: Story): Promise<World> {
  const flights = await readFlights({ every: 1, offset: 0, toDay: DAYS });
  const rows: Row[] = [];
  const kept: number[] = [];
  for (const { row, dateMs, features } of pushBacks(flights, { every, offset }, story)) {
    rows.push(asSent(features, dateMs, story));
    kept.push(row);
  }
  const table: Table = {
    rows: rows.length,
    eventMs: Float64Array.from(kept, (row) => flights.dateMs[row] ?? 0),
    columns: toColumns(rows),
    label: Uint8Array.from(kept, (row) => (isLate(flights, row, story) ? 1 : 0)),
  };
  const firstLive = table.eventMs.findIndex((ms) => dayOf(ms) >= HISTORY_DAYS);
  return { table, lost: Uint8Array.from(kept, (row) => (truthIsLost(flights.index[row] ?? 0) ? 1 : 0)), firstLive };
}

export type Model = { forest: Forest; profile: Profile; scores: Float64Array };

/** Fits on the rows of the days given that have a truth; rows since `changeMs` weigh as the example's train code says. */
export function fit(world: World, days: (day: number) => boolean, changeMs: number): Model {
  const { table, lost } = world;
  const kept: number[] = [];
  for (let row = 0; row < table.rows; row++)
    if (days(dayOf(table.eventMs[row] ?? 0)) && lost[row] === 0) kept.push(row);
  const part = taken(table, kept);
  const weights = Float64Array.from(part.eventMs, (ms) =>
    changeMs > 0 && ms >= changeMs ? DEFAULT_SETTINGS.change_weight : 1,
  );
  const forest = boost(part, weights, DEFAULT_SETTINGS);
  const profile = profileFrom({
    columns: part.columns.map(asProfileColumn),
    labels: part.label,
    scores: predict(forest, part.columns).map(Math.fround),
    eventMs: part.eventMs,
    scoreKind: "probability",
  });
  return { forest, profile, scores: predict(forest, table.columns).map(Math.fround) };
}

const asProfileColumn = (column: Table["columns"][number]): ProfileColumn =>
  column.type === "number"
    ? { name: column.name, kind: "number", values: column.values }
    : { name: column.name, kind: "category", values: column.values };

/** Counts of live rows [from, to) as one pane; `watermarkMs` is a promise about later rows. */
export function paneOf(
  world: World,
  model: Model,
  version: number,
  range: { from: number; to: number; number: number; watermarkMs: number },
): Pane {
  const { profile } = model;
  const cells = new Map<number, Pane["cells"][number]>();
  const binners = profile.features.map((bins, f) => {
    const column = world.table.columns[f];
    if (bins.kind === "number") return (row: number) => numericBin(bins.edges, Number(column?.values[row]));
    const binOf = categoryBinner(bins.categories);
    return (row: number) => binOf(String(column?.values[row]));
  });
  for (let row = range.from; row < range.to; row++) {
    const startMs = Math.floor((world.table.eventMs[row] ?? 0) / HOUR_MS) * HOUR_MS;
    let cell = cells.get(startMs);
    if (cell === undefined) {
      const features = profile.features.map((f) => new Array<number>(cellsOf(f)).fill(0));
      cell = { startMs, version, rows: 0, features, score: new Array<number>(profile.score.edges.length + 2).fill(0) };
      cells.set(startMs, cell);
    }
    cell.rows++;
    for (const [f, binOf] of binners.entries()) add(cell.features[f], binOf(row));
    add(cell.score, numericBin(profile.score.edges, model.scores[row] ?? 0));
  }
  return {
    track: TRACK,
    boot: version,
    number: range.number,
    firstRow: range.from + 1,
    rows: range.to - range.from,
    dropped: 0,
    suppressed: 0,
    watermarkMs: range.watermarkMs,
    cells: [...cells.values()],
  };
}

const add = (cells: number[] | undefined, bin: number): void => {
  if (cells !== undefined) cells[bin] = (cells[bin] ?? 0) + 1;
};

/** The outcome pane of one hour whose rows are [from, to): served by `version`, paired with `other` where there is one. */
export function outcomePaneOf(
  world: World,
  served: { version: number; model: Model },
  other: { version: number; model: Model } | undefined,
  range: { from: number; to: number; startMs: number },
): OutcomePane {
  const outcome = emptyOutcome();
  const pair = { version: served.version, other: other?.version ?? 0, n: 0, differenceMicro: 0, squareMicro: 0 };
  let unlabelled = 0;
  for (let row = range.from; row < range.to; row++) {
    const label = world.table.label[row] ?? 0;
    if (world.lost[row] === 1) {
      unlabelled++;
      continue;
    }
    const score = served.model.scores[row] ?? 0;
    countOutcome(outcome, served.model.profile, score, label);
    if (other === undefined) continue;
    const difference =
      lossMicro(served.model.profile, score, label) -
      lossMicro(other.model.profile, other.model.scores[row] ?? 0, label);
    pair.n++;
    pair.differenceMicro += difference;
    pair.squareMicro += Math.round((difference * difference) / 1e6);
  }
  return {
    track: TRACK,
    startMs: range.startMs,
    versions: [{ version: served.version, outcome, unlabelled }],
    pairs: other === undefined ? [] : [pair],
    corrected: 0,
    late: 0,
    unmatched: 0,
    watermarkMs: range.startMs + HOUR_MS,
  };
}

/** Row ranges of the live hours in order: [from, to) and the hour's start. */
export function* hoursOf(world: World): Generator<{ from: number; to: number; startMs: number }> {
  const { eventMs, rows } = world.table;
  let from = world.firstLive;
  for (let startMs = DAY0_MS + HISTORY_DAYS * DAY_MS; from < rows; startMs += HOUR_MS) {
    let to = from;
    while (to < rows && (eventMs[to] ?? 0) < startMs + HOUR_MS) to++;
    yield { from, to, startMs };
    from = to;
  }
}
