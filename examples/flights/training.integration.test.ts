// The real flights, the real onnxruntime, and the train code as the mesh starts it: a process in a copy of its files.
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { InferenceSession, Tensor } from "onnxruntime-node";
import { afterAll, beforeAll, expect, test } from "vitest";
import { predict } from "./boosting.ts";
import { DAY0_MS, DAY_MS, readFlights, type Flights } from "./dataset.ts";
import { FEATURES } from "./features.ts";
import { HISTORY_DAYS, historyTable, toParquet } from "./history.ts";
import { forestToOnnx } from "./onnx.ts";
import { readTable, taken, type Column, type Table } from "./table.ts";
import { DEFAULT_SETTINGS, trainOn } from "./train.ts";

const here = fileURLToPath(new URL(".", import.meta.url));
let folder: string;
let flights: Flights;
let history: Table;
let parquet: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "flights-"));
  flights = await readFlights({ every: 1, offset: 0, toDay: HISTORY_DAYS });
  history = historyTable(flights, { every: 10, offset: 0 });
  parquet = join(folder, "history.parquet");
  writeFileSync(parquet, toParquet(history));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test("January is read in time order with all its 508,239 flights, as another reader of Parquet counts them", async () => {
  const january = await readFlights({ every: 1, offset: 0, toDay: 31 });
  expect(january.rows).toBe(508_239);
  expect(january.dateMs).toEqual(january.dateMs.toSorted());
  expect(january.dateMs.at(-1)).toBeLessThan(Date.UTC(2001, 1, 1));
});

test("a thinned reading takes every n-th row of the whole reading", async () => {
  const thinned = await readFlights({ every: 7, offset: 3, toDay: 2 });
  const places = [...thinned.index];
  expect(places.every((index) => index % 7 === 3)).toBe(true);
  expect([...thinned.delay]).toEqual(places.map((index) => flights.delay[index]));
  expect([...thinned.origin].map((code) => thinned.airports[code])).toEqual(
    places.map((index) => flights.airports[flights.origin[index] ?? 0]),
  );
});

test("what is written as Parquet is read back the same, less the excluded blocks", async () => {
  const manifest = { features: FEATURES, files: [{ path: parquet }], excluded: [], changeMs: 0 };
  expect(await readTable(manifest)).toEqual(history);
  const excluded = [{ fromMs: DAY0_MS + 3 * DAY_MS, toMs: DAY0_MS + 5 * DAY_MS }];
  const rest = await readTable({ ...manifest, excluded });
  expect(rest.eventMs).toEqual(history.eventMs.filter((ms) => ms < DAY0_MS + 3 * DAY_MS || ms >= DAY0_MS + 5 * DAY_MS));
});

test("on every tenth flight the model beats the constant and the hourly table, and onnxruntime answers as we do", async () => {
  const { forest, metrics } = trainOn(history, DEFAULT_SETTINGS);
  expect(metrics.auc).toBeGreaterThan(0.69);
  expect(metrics.auc).toBeGreaterThan(metrics.auc_hourly);
  expect(metrics.brier).toBeLessThan(Math.min(metrics.brier_constant, metrics.brier_hourly));

  const some = taken(
    history,
    Uint32Array.from({ length: 1000 }, (_, at) => at * 40),
  );
  const columns = some.columns.map((column): Column =>
    column.name === "origin" && column.type === "category"
      ? { ...column, values: column.values.map((value, row) => (row % 50 === 0 ? "never seen" : value)) }
      : column,
  );
  const session = await InferenceSession.create(forestToOnnx(forest, "flight-delay"));
  const { probabilities, label } = await session.run(
    Object.fromEntries(columns.map((column) => [column.name, tensorOf(column)])),
  );
  const ours = predict(forest, columns);
  expect(probabilities?.dims).toEqual([1000, 2]);
  ours.forEach((late, row) => {
    expect(Math.abs(Number(probabilities?.data[2 * row + 1]) - late)).toBeLessThan(1e-6);
    expect(Number(label?.data[row])).toBe(late > 0.5 ? 1 : 0);
  });
});

const tensorOf = (column: Column): Tensor =>
  column.type === "number"
    ? new Tensor("float32", column.values, [column.values.length, 1])
    : new Tensor("string", [...column.values], [column.values.length, 1]);

/** Starts the train code in a copy of its four files, with nothing else but `node_modules` in reach. */
function train(
  name: string,
  manifest: object,
  hyperparameters: object,
): { status: number | null; stderr: string; output: string } {
  const place = mkdtempSync(join(folder, `${name}-`));
  for (const file of ["train.ts", "boosting.ts", "onnx.ts", "table.ts"])
    copyFileSync(join(here, file), join(place, file));
  symlinkSync(fileURLToPath(new URL("../../node_modules", import.meta.url)), join(place, "node_modules"));
  writeFileSync(join(place, "package.json"), '{"type":"module"}');
  const env = {
    DRIFTMESH_DATA_MANIFEST: join(place, "manifest.json"),
    DRIFTMESH_HYPERPARAMETERS: join(place, "hyperparameters.json"),
    DRIFTMESH_OUTPUT: join(place, "output"),
  };
  writeFileSync(
    env.DRIFTMESH_DATA_MANIFEST,
    JSON.stringify({ format: 1, features: FEATURES, excluded: [], changeMs: 0, ...manifest }),
  );
  writeFileSync(env.DRIFTMESH_HYPERPARAMETERS, JSON.stringify(hyperparameters));
  const { status, stderr } = spawnSync(process.execPath, ["train.ts"], { cwd: place, env, encoding: "utf8" });
  return { status, stderr, output: env.DRIFTMESH_OUTPUT };
}

test("as a process it writes the model and its metrics, the same bytes as in process", () => {
  const { status, stderr, output } = train("good", { files: [{ path: parquet }] }, { trees: 20 });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  const { forest, metrics } = trainOn(history, { ...DEFAULT_SETTINGS, trees: 20 });
  expect(new Uint8Array(readFileSync(join(output, "model.onnx")))).toEqual(forestToOnnx(forest, "flight-delay"));
  expect(JSON.parse(readFileSync(join(output, "metrics.json"), "utf8"))).toMatchObject(metrics);
});

test("NaN, a missing column, a label of two and an unknown hyperparameter end with a sentence and exit code 1", () => {
  const few = taken(
    history,
    Uint32Array.from({ length: 100 }, (_, at) => at),
  );
  const file = (name: string, table: Table): string => {
    const path = join(folder, name);
    writeFileSync(path, toParquet(table));
    return path;
  };
  const broken = file("nan.parquet", {
    ...few,
    columns: few.columns.map((column) =>
      column.name === "distance" && column.type === "number"
        ? { ...column, values: column.values.with(7, NaN) }
        : column,
    ),
  });
  const cases: [string, object, object, string][] = [
    ["nan", { files: [{ path: broken }] }, {}, "column distance, row 7: expected a finite number, found NaN"],
    [
      "column",
      { files: [{ path: file("less.parquet", { ...few, columns: few.columns.slice(1) }) }] },
      {},
      "column hour is missing",
    ],
    [
      "label",
      { files: [{ path: file("two.parquet", { ...few, label: few.label.with(3, 2) }) }] },
      {},
      "column label, row 3: expected 0 or 1, found 2",
    ],
    ["setting", { files: [{ path: parquet }] }, { leafs: 3 }, "leafs is not known"],
    ["manifest", { files: [] }, {}, "no files"],
  ];
  for (const [name, manifest, hyperparameters, sentence] of cases) {
    const { status, stderr } = train(name, manifest, hyperparameters);
    expect(status).toBe(1);
    expect(stderr).toContain(sentence);
    expect(stderr.trim().split("\n")).toHaveLength(1);
  }
});
