// Makes a virtual environment with the pinned packages, trains as the mesh would, and asks the model with our runtime.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readFlights } from "../flights/dataset.ts";
import { FEATURES } from "../flights/features.ts";
import { HISTORY_DAYS, historyTable, toParquet } from "../flights/history.ts";
import type { Table } from "../flights/table.ts";
import { auc, DEFAULT_SETTINGS, trainOn } from "../flights/train.ts";

const here = fileURLToPath(new URL(".", import.meta.url));
let folder: string;
let python: string;
let history: Table;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "flights-python-"));
  execFileSync("python3", ["-m", "venv", join(folder, "venv")]);
  python = join(folder, "venv/bin/python");
  execFileSync(python, ["-m", "pip", "install", "--quiet", "-r", join(here, "requirements.txt")]);
  history = historyTable(await readFlights({ every: 1, offset: 0, toDay: HISTORY_DAYS }), { every: 10, offset: 0 });
  writeFileSync(join(folder, "history.parquet"), toParquet(history));
}, 600_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function train(hyperparameters: object): { status: number | null; stderr: string; output: string } {
  const output = join(folder, "output");
  const files = [{ path: join(folder, "history.parquet") }];
  writeFileSync(
    join(folder, "manifest.json"),
    JSON.stringify({ format: 1, features: FEATURES, files, excluded: [], changeMs: 0 }),
  );
  writeFileSync(join(folder, "hyperparameters.json"), JSON.stringify(hyperparameters));
  const env = {
    DRIFTMESH_DATA_MANIFEST: join(folder, "manifest.json"),
    DRIFTMESH_HYPERPARAMETERS: join(folder, "hyperparameters.json"),
    DRIFTMESH_OUTPUT: output,
  };
  const { status, stderr } = spawnSync(python, ["train.py"], { cwd: here, env, encoding: "utf8" });
  return { status, stderr, output };
}

test("scikit-learn beats both baselines and equals the TypeScript trainer within two hundredths of AUC", () => {
  const { status, stderr, output } = train(DEFAULT_SETTINGS);
  expect(stderr).toBe("");
  expect(status).toBe(0);
  const metrics = JSON.parse(readFileSync(join(output, "metrics.json"), "utf8")) as Record<string, number>;
  const ours = trainOn(history, DEFAULT_SETTINGS).metrics;
  expect(metrics).toMatchObject({ rows: ours.rows, holdout_rows: ours.holdout_rows });
  expect(metrics["brier_hourly"]).toBeCloseTo(ours.brier_hourly, 9);
  expect(metrics["auc_hourly"]).toBeCloseTo(ours.auc_hourly, 9);
  expect(metrics["brier"]).toBeLessThan(Math.min(ours.brier_constant, ours.brier_hourly));
  expect(Math.abs((metrics["auc"] ?? 0) - ours.auc)).toBeLessThan(0.02);
}, 120_000);

test("its ONNX file has the inputs and outputs of the TypeScript model and tells late from on time", async () => {
  const { output } = train(DEFAULT_SETTINGS);
  const session = await InferenceSession.create(join(output, "model.onnx"));
  expect(session.inputNames).toEqual(FEATURES.map(({ name }) => name));
  expect(session.outputNames).toEqual(["label", "probabilities"]);
  const feeds = history.columns.map((column): [string, Tensor] => [
    column.name,
    column.type === "number"
      ? new Tensor("float32", column.values, [history.rows, 1])
      : new Tensor("string", [...column.values], [history.rows, 1]),
  ]);
  const { probabilities } = await session.run(Object.fromEntries(feeds));
  expect(probabilities?.dims).toEqual([history.rows, 2]);
  const late = Float64Array.from({ length: history.rows }, (_, row) => Number(probabilities?.data[2 * row + 1]));
  expect(auc(late, history.label)).toBeGreaterThan(0.7);
}, 120_000);

test("an unknown hyperparameter ends with a sentence and exit code 1", () => {
  const { status, stderr } = train({ leafs: 3 });
  expect(status).toBe(1);
  expect(stderr).toContain("leafs not known");
}, 120_000);
