import { expect, test } from "vitest";
import { boost, predict } from "./boosting.ts";
import { DAY0_MS } from "./dataset.ts";
import { forestToOnnx } from "./onnx.ts";
import { tableOf } from "./synthetic.ts";
import { auc, brier, DEFAULT_SETTINGS, fitted, settingsFrom, trainOn } from "./train.ts";

const settings = { ...DEFAULT_SETTINGS, trees: 40, min_rows: 5, learning_rate: 0.2 };
const evening = (row: number): number => (row % 24 >= 18 || (row % 24 >= 12 && row % 3 === 0) ? 1 : 0);

test("the trees learn what the hour tells and beat the constant on later days", () => {
  const { metrics } = trainOn(tableOf(24 * 40, evening), settings);
  expect(metrics.holdout_rows).toBe(24 * 10);
  expect(metrics.auc).toBeGreaterThan(0.95);
  expect(metrics.brier).toBeLessThan(metrics.brier_constant / 2);
});

test("the hourly table is a fair rival: on a label of the hour alone it is as good as can be", () => {
  const { metrics } = trainOn(
    tableOf(24 * 40, (row) => (row % 24 >= 18 ? 1 : 0)),
    settings,
  );
  expect(metrics.brier_hourly).toBe(0);
  expect(metrics.auc_hourly).toBe(1);
  expect(metrics.auc_constant).toBe(0.5);
});

test("same rows and settings, same model bytes (R2)", () => {
  const bytes = () => forestToOnnx(fitted(tableOf(960, evening), settings), "m");
  expect(bytes()).toEqual(bytes());
});

test("rows since a change weigh more, and the model follows them", () => {
  const rows = 24 * 40;
  const changed = 24 * 35;
  const table = tableOf(rows, (row) => (row % 24 < 6 === row >= changed ? 1 : 0));
  const morning = (changeMs: number): number => predict(fitted(table, settings, changeMs), table.columns)[3] ?? 0;
  const plain = morning(0);
  const weighted = morning(DAY0_MS + changed * 3_600_000);
  expect(plain).toBeLessThan(0.4);
  expect(weighted).toBeGreaterThan(0.6);
});

test("a category never seen counts as the share overall", () => {
  const table = tableOf(960, (row) => ((row * 3 + (row >> 2)) % 5 === 0 ? 1 : 0));
  const forest = boost(table, new Float64Array(960).fill(1), settings);
  const [, origin] = forest.inputs;
  if (origin?.type !== "category") throw new Error("expected origin to be a category");
  expect(origin.unknown).toBeCloseTo(0.2, 6);
  expect(origin.codes.get("ATL")).toBeGreaterThan(0.5);
  expect(origin.codes.get("BOS")).toBeLessThan(0.2);
  const answer = (name: string): number =>
    predict(forest, [
      { name: "hour", type: "number", values: Float32Array.of(5) },
      { name: "origin", type: "category", values: [name] },
    ])[0] ?? 0;
  expect(answer("ATL")).toBeGreaterThan(0.9);
  expect(answer("BOS")).toBeLessThan(0.1);
  expect(Number.isFinite(answer("never seen"))).toBe(true);
});

test("labels of one kind and too few rows are refused in words (R3)", () => {
  expect(() =>
    trainOn(
      tableOf(960, () => 1),
      settings,
    ),
  ).toThrow("the labels of all 720 rows are the same");
  expect(() => trainOn(tableOf(5, evening), settings)).toThrow("5 rows are too few");
});

test("hyperparameters are checked all at once", () => {
  expect(settingsFrom({ trees: 10 })).toEqual({ ...DEFAULT_SETTINGS, trees: 10 });
  expect(() => settingsFrom({ trees: 0.5, leafs: 3, l2: "x" })).toThrow(
    /trees must be .*; leafs is not known.*; l2 must be/,
  );
});

test("AUC counts pairs, ties half, and Brier is the mean squared error", () => {
  expect(auc(Float64Array.of(0.1, 0.4, 0.35, 0.8), Uint8Array.of(0, 0, 1, 1))).toBe(0.75);
  expect(auc(Float64Array.of(0.5, 0.5), Uint8Array.of(0, 1))).toBe(0.5);
  expect(auc(Float64Array.of(0.5, 0.6), Uint8Array.of(1, 1))).toBe(0.5);
  expect(brier(Float64Array.of(0.5, 1), Uint8Array.of(1, 1))).toBe(0.125);
});
