// Owns the example's train code: the mesh starts `node train.ts` in a copy of this folder, with a contract of files.
// In: DRIFTMESH_DATA_MANIFEST, DRIFTMESH_HYPERPARAMETERS (JSON files). Out, in DRIFTMESH_OUTPUT: `model.onnx`, `metrics.json`.
// R1 Judged forward in time: fitted on the first three quarters of the days, judged on the last, then fitted again on all.
// R2 Same rows and hyperparameters, same model bytes. R3 What cannot be learned from ends with a sentence and exit code 1.
// R4 Nothing here imports beyond this folder and `hyparquet`.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { boost, predict, type Forest, type Hyperparameters } from "./boosting.ts";
import { forestToOnnx } from "./onnx.ts";
import { readManifest, readTable, taken, type Table } from "./table.ts";

/** The trees' settings, and what a row since the change weighs against one before it. */
export type Settings = Hyperparameters & { change_weight: number };

/** Chosen on days 0-27 alone. */
export const DEFAULT_SETTINGS: Settings = {
  trees: 160,
  leaves: 8,
  learning_rate: 0.06,
  min_rows: 100,
  l2: 1,
  bins: 128,
  category_smoothing: 200,
  change_weight: 16,
};

/** Losses on the held-out days, beside always saying the mean and saying the mean of the hour. */
export type Metrics = {
  brier: number;
  auc: number;
  brier_constant: number;
  auc_constant: number;
  brier_hourly: number;
  auc_hourly: number;
  rows: number;
  holdout_rows: number;
};

/** Trains on the table (R1). `changeMs` > 0 is the event time from which rows weigh `change_weight`. */
export function trainOn(table: Table, settings: Settings, changeMs = 0): { forest: Forest; metrics: Metrics } {
  const cut = holdoutStart(table);
  const fit = taken(table, range(0, cut));
  const held = taken(table, range(cut, table.rows));
  const forest = fitted(fit, settings, changeMs);
  const hour = hourlyTable(fit);
  const constant = new Float64Array(held.rows).fill(mean(fit.label));
  const hourly = Float64Array.from(held.eventMs, (ms, row) => hour(hourOf(held, row, ms)));
  const model = predict(forest, held.columns);
  return {
    forest: fitted(table, settings, changeMs),
    metrics: {
      brier: brier(model, held.label),
      auc: auc(model, held.label),
      brier_constant: brier(constant, held.label),
      auc_constant: auc(constant, held.label),
      brier_hourly: brier(hourly, held.label),
      auc_hourly: auc(hourly, held.label),
      rows: table.rows,
      holdout_rows: held.rows,
    },
  };
}

/** The forest alone, not judged. */
export const fitted = (table: Table, settings: Settings, changeMs = 0): Forest =>
  boost(table, weightsOf(table, settings, changeMs), settings);

/** Reads settings; what is not given is as in `DEFAULT_SETTINGS`, what is not known is refused. */
export function settingsFrom(given: Readonly<Record<string, unknown>>): Settings {
  const settings = { ...DEFAULT_SETTINGS };
  const problems: string[] = [];
  for (const [name, value] of Object.entries(given)) {
    if (!isSetting(name)) problems.push(`${name} is not known; there are ${Object.keys(LIMITS).join(", ")}`);
    else {
      const { from, to, whole } = LIMITS[name];
      const fits = typeof value === "number" && value >= from && value <= to && (!whole || Number.isInteger(value));
      if (fits) settings[name] = value;
      else
        problems.push(
          `${name} must be a ${whole ? "whole " : ""}number from ${from} to ${to}, not ${JSON.stringify(value)}`,
        );
    }
  }
  if (problems.length > 0) throw new Error(`hyperparameters: ${problems.join("; ")}`);
  return settings;
}

const LIMITS: Readonly<Record<keyof Settings, { from: number; to: number; whole: boolean }>> = {
  trees: { from: 1, to: 2000, whole: true },
  leaves: { from: 2, to: 256, whole: true },
  learning_rate: { from: 0.001, to: 1, whole: false },
  min_rows: { from: 1, to: 1_000_000, whole: true },
  l2: { from: 0, to: 1_000_000, whole: false },
  bins: { from: 2, to: 256, whole: true },
  category_smoothing: { from: 0, to: 1_000_000, whole: false },
  change_weight: { from: 1, to: 1000, whole: false },
};
const isSetting = (name: string): name is keyof Settings => Object.hasOwn(LIMITS, name);

/** Mean squared error of probabilities. */
export function brier(probability: Float64Array, label: Uint8Array): number {
  let sum = 0;
  for (let row = 0; row < label.length; row++) sum += ((probability[row] ?? 0) - (label[row] ?? 0)) ** 2;
  return label.length === 0 ? 0 : sum / label.length;
}

/** Chance that a late flight scores above one on time, ties counting half; .5 when there is only one kind. */
export function auc(score: Float64Array, label: Uint8Array): number {
  const order = Uint32Array.from(score.keys()).sort((a, b) => (score[a] ?? 0) - (score[b] ?? 0));
  let positives = 0;
  let rankSum = 0;
  for (let start = 0; start < order.length;) {
    let end = start;
    while (end < order.length && score[order[end] ?? 0] === score[order[start] ?? 0]) end++;
    for (let at = start; at < end; at++) {
      if (label[order[at] ?? 0] !== 1) continue;
      positives++;
      rankSum += (start + end + 1) / 2;
    }
    start = end;
  }
  const negatives = order.length - positives;
  return positives === 0 || negatives === 0
    ? 0.5
    : (rankSum - (positives * (positives + 1)) / 2) / (positives * negatives);
}

/** First row of the last quarter of the days that have rows; of the rows, when there are fewer than four days. */
function holdoutStart({ rows, eventMs }: Table): number {
  if (rows < 8) throw new Error(`${rows} rows are too few to learn from: at least 8 are needed`);
  const starts: number[] = [];
  let day = NaN;
  eventMs.forEach((ms, row) => {
    if (Math.floor(ms / 86_400_000) === day) return;
    day = Math.floor(ms / 86_400_000);
    starts.push(row);
  });
  return (starts.length < 4 ? undefined : starts[Math.floor((starts.length * 3) / 4)]) ?? Math.floor((rows * 3) / 4);
}

const range = (from: number, to: number): Uint32Array => Uint32Array.from({ length: to - from }, (_, at) => from + at);

const weightsOf = ({ eventMs }: Table, { change_weight: since }: Settings, changeMs: number): Float64Array =>
  Float64Array.from(eventMs, (ms) => (changeMs > 0 && ms >= changeMs ? since : 1));

const mean = (label: Uint8Array): number => label.reduce((sum, value) => sum + value, 0) / label.length;

/** Share of label 1 by hour of the day, the second baseline. */
function hourlyTable(table: Table): (hour: number) => number {
  const rows = new Float64Array(24);
  const positive = new Float64Array(24);
  table.eventMs.forEach((ms, row) => {
    const hour = hourOf(table, row, ms);
    rows[hour] = (rows[hour] ?? 0) + 1;
    positive[hour] = (positive[hour] ?? 0) + (table.label[row] ?? 0);
  });
  const overall = mean(table.label);
  return (hour) => ((rows[hour] ?? 0) > 0 ? (positive[hour] ?? 0) / (rows[hour] ?? 1) : overall);
}

/** The feature `hour` when there is one, else the hour of the event time. */
function hourOf({ columns }: Table, row: number, ms: number): number {
  const column = columns.find(({ name, type }) => name === "hour" && type === "number");
  const hour = column?.type === "number" ? column.values[row] : undefined;
  return Math.floor(hour ?? (ms % 86_400_000) / 3_600_000);
}

async function main(): Promise<void> {
  const started = performance.now();
  const path = (name: string): string => {
    const value = process.env[name];
    if (value === undefined || value === "") throw new Error(`the environment variable ${name} is not set`);
    return value;
  };
  const output = path("DRIFTMESH_OUTPUT");
  const settings = settingsFrom(
    JSON.parse(await readFile(path("DRIFTMESH_HYPERPARAMETERS"), "utf8")) as Record<string, unknown>,
  );
  const manifest = await readManifest(path("DRIFTMESH_DATA_MANIFEST"));
  const table = await readTable(manifest);
  const { forest, metrics } = trainOn(table, settings, manifest.changeMs);
  const seconds = Number(((performance.now() - started) / 1000).toFixed(3));
  await mkdir(output, { recursive: true });
  await writeFile(join(output, "model.onnx"), forestToOnnx(forest, "flight-delay"));
  await writeFile(join(output, "metrics.json"), `${JSON.stringify({ ...metrics, seconds }, undefined, 2)}\n`);
  process.stdout.write(
    `${table.rows} rows, AUC ${metrics.auc.toFixed(4)}, Brier ${metrics.brier.toFixed(4)}, ${seconds} s\n`,
  );
}

if (import.meta.main) {
  try {
    await main();
  } catch (error) {
    process.stderr.write(`train: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}
