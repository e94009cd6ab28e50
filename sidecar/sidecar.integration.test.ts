// A real sidecar process, a real nats-server, a gRPC client: what is answered is what is recorded.
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readInferenceId } from "#kernel/domain/ids.ts";
import { DAY_MS, HOUR_MS } from "#kernel/domain/profile.ts";
import { until } from "#kernel/store/testing/wait.ts";
import { LabelBatchSchema, RecordBatchSchema } from "#proto/driftmesh/internal/v1/telemetry_pb.ts";
import { fromBinary } from "@bufbuild/protobuf";
import { logisticModel, mixedModel } from "./runtime/testing/onnx.ts";
import { dense, MAC_KEY, rowsInCells, testWorld, type Sidecar, type World } from "./testing/fixture.ts";

let world: World;
beforeAll(async () => {
  world = await testWorld();
}, 120_000);
afterAll(async () => {
  await world[Symbol.asyncDispose]();
});

const START = Date.UTC(2001, 0, 1);
const FEATURES = [
  { name: "a", type: "number" },
  { name: "b", type: "number" },
];

async function logistic(weights: number[]): Promise<{ artifactSha256: string }> {
  return { artifactSha256: await world.blobs.put(logisticModel(weights)) };
}

/** Rows of [i, -i], raw, with an event time. */
function call(sidecar: Sidecar, rows: number, eventMs?: number, model = "m") {
  const values = Float32Array.from({ length: rows * 2 }, (_, i) => (i % 2 === 0 ? i : -i));
  return sidecar.inference.modelInfer({
    modelName: model,
    id: "client-marker-4711",
    inputs: [{ name: "x", datatype: "FP32", shape: [BigInt(rows), 2n] }],
    rawInputContents: [new Uint8Array(values.buffer)],
    parameters:
      eventMs === undefined
        ? {}
        : { driftmesh_event_time: { parameterChoice: { case: "int64Param", value: BigInt(eventMs) } } },
  });
}

test("every answered row is in the panes and in the records, and drift's watermark follows within a second of rest", async () => {
  const track = 11;
  const model = {
    model: "m",
    version: 1,
    ...(await logistic([0.1, -0.2])),
    features: FEATURES,
    scoreOutput: "probability",
    scoreKind: "probability",
  };
  const sidecar = await world.start({ track, boot: 70, model, clientEventTime: true }, "w-count");
  let rows = 0;
  for (let i = 0; i < 60; i++) {
    const n = (i % 7) * 40 + 1;
    const answer = await call(sidecar, n, START + i * HOUR_MS, i % 2 === 0 ? "m" : "dep_abc");
    expect(answer.rawOutputContents[0]?.byteLength).toBe(n * 4);
    const id = String(answer.parameters["driftmesh_inference_id"]?.parameterChoice.value);
    expect(readInferenceId(id, [MAC_KEY])).toEqual({ kind: "ok", address: { track, boot: 70, number: rows + 1 } });
    expect(answer.id).toBe("client-marker-4711");
    rows += n;
  }
  await until(
    "the last event time is in a pane",
    async () => {
      const panes = (await world.panes()).filter((pane) => pane.track === track);
      return panes.some((pane) => Number(pane.watermarkMs) === START + 59 * HOUR_MS);
    },
    5_000,
  );
  const panes = (await world.panes()).filter((pane) => pane.track === track);
  expect(rowsInCells(panes)).toBe(rows);
  expect(panes.reduce((sum, pane) => sum + Number(pane.rows - pane.dropped), 0)).toBe(rows);
  expect(panes.map((pane) => Number(pane.number))).toEqual(panes.map((_, i) => i + 1));
  const hours = new Set(panes.flatMap((pane) => pane.cells.map((cell) => Number(cell.startMs))));
  expect(hours.size).toBe(60);
  const cell = panes[0]?.cells[0];
  expect(dense(cell?.features[0]).reduce((sum, n) => sum + n, 0)).toBe(Number(cell?.rows));
  const records = (await world.records()).filter((record) => record.track === track);
  expect(records.reduce((sum, record) => sum + record.rows, 0)).toBe(rows);
  expect(records[0]?.columns[1]?.numbers.slice(0, 1)).toEqual([-1]);
  expect(await sidecar.end("SIGTERM")).toBe(0);
  expect(await readdir(join(world.folder, "w-count"))).toEqual([]);
});

test("a killed sidecar's rows are sent again under its boot by the next one in its folder, and counted once", async () => {
  const track = 12;
  const model = {
    model: "m",
    version: 1,
    ...(await logistic([0.1, -0.2])),
    features: FEATURES,
    scoreOutput: "probability",
  };
  const first = await world.start({ track, boot: 80, model, clientEventTime: true }, "w-kill");
  for (let i = 0; i < 20; i++) await call(first, 10, START + i * HOUR_MS);
  await until(
    "records are written ahead",
    async () => {
      const records = (await world.records()).filter((record) => record.track === track);
      return records.reduce((sum, record) => sum + record.rows, 0) === 200;
    },
    5_000,
  );
  await first.end("SIGKILL");
  const second = await world.start({ track, boot: 81, model, clientEventTime: true }, "w-kill");
  await until("the leftover is sent", () => second.log().includes("recorder.leftover-sent"), 10_000);
  const panes = (await world.panes()).filter((pane) => pane.track === track && pane.boot === 80);
  const numbers = new Map(panes.map((pane) => [Number(pane.number), pane]));
  expect(rowsInCells([...numbers.values()])).toBe(200);
  expect(await second.end("SIGTERM")).toBe(0);
});

test("while the store is away calls are answered, and everything arrives when it is back", async () => {
  const track = 13;
  const model = {
    model: "m",
    version: 1,
    ...(await logistic([0.1, -0.2])),
    features: FEATURES,
    scoreOutput: "probability",
  };
  const sidecar = await world.start({ track, boot: 90, model, clientEventTime: true }, "w-away");
  await call(sidecar, 5, START);
  process.kill(world.nats.server().pid, "SIGKILL");
  for (let i = 0; i < 50; i++) await call(sidecar, 100, START + i * HOUR_MS);
  await world.nats.server().stop();
  await world.nats.start();
  await until(
    "all rows are in panes",
    async () => {
      const panes = (await world.panes()).filter((pane) => pane.track === track);
      return rowsInCells([...new Map(panes.map((pane) => [pane.number, pane])).values()]) === 5_005;
    },
    20_000,
  );
  expect(await sidecar.end("SIGTERM")).toBe(0);
});

test("the other arm is scored after the answer, for the share of rows that was ordered", async () => {
  const track = 14;
  const other = { model: "m", version: 2, ...(await logistic([1, 1])), features: FEATURES, scoreOutput: "probability" };
  world.orders.set({ shadow: { rollout: "rol_x", model: other, rate: 0.5 } });
  const model = {
    model: "m",
    version: 1,
    ...(await logistic([0.1, -0.2])),
    features: FEATURES,
    scoreOutput: "probability",
  };
  const sidecar = await world.start({ track, boot: 100, model, clientEventTime: true }, "w-shadow");
  await until("the order is followed", () => sidecar.log().includes("sync.shadow-began"), 5_000);
  for (let i = 0; i < 10; i++) await call(sidecar, 100, START + i);
  await until(
    "all records are stored",
    async () => {
      const records = (await world.records()).filter((record) => record.track === track);
      return records.reduce((sum, record) => sum + record.rows, 0) === 1_000;
    },
    5_000,
  );
  const records = (await world.records()).filter((record) => record.track === track && record.otherVersion === 2);
  const scores = records.flatMap((record) => record.otherScore);
  const asked = scores.filter((score) => !Number.isNaN(score));
  expect(scores.length).toBe(1_000);
  expect(asked.length).toBeGreaterThan(400);
  expect(asked.length).toBeLessThan(600);
  // Rows are [2k, -(2k+1)] and the other arm says sigmoid(a + b) = sigmoid(-1).
  expect(asked.every((score) => Math.abs(score - 1 / (1 + Math.E)) < 1e-6)).toBe(true);
  world.orders.set({});
  expect(await sidecar.end("SIGTERM")).toBe(0);
});

test("a strict replica keeps records and labels on its node, sends panes of a hundred rows or more, and logs no value", async () => {
  const track = 15;
  const model = {
    model: "s",
    version: 1,
    artifactSha256: await world.blobs.put(mixedModel({ red: 1 })),
    features: [
      {
        name: "amount",
        type: "number",
      },
      {
        name: "colour",
        type: "category",
      },
    ],
    scoreOutput: "probabilities",
  };
  const spec = { track, boot: 110, model, clientEventTime: true, scope: "node/clinic", node: "clinic" };
  const sidecar = await world.start(spec, "w-strict");
  const marker = "PLANTED-MARKER-77";
  const send = (rows: number, eventMs: number) =>
    sidecar.inference.modelInfer({
      modelName: "dep_s",
      id: marker,
      inputs: [
        {
          name: "amount",
          datatype: "FP32",
          shape: [BigInt(rows), 1n],
          contents: { fp32Contents: new Array<number>(rows).fill(0.5) },
        },
        {
          name: "colour",
          datatype: "BYTES",
          shape: [BigInt(rows), 1n],
          contents: { bytesContents: new Array<Uint8Array>(rows).fill(Buffer.from(marker)) },
        },
      ],
      parameters: { driftmesh_event_time: { parameterChoice: { case: "int64Param", value: BigInt(eventMs) } } },
    });
  const answer = await send(250, START);
  for (let i = 1; i < 5; i++) await send(70, START + i * HOUR_MS);
  await send(60, START + DAY_MS);
  await until(
    "the records are on the node",
    () => {
      const records = world.nodeLog.filter(({ stream, subject }) => stream === "MESH_REC" && subject.endsWith(".110"));
      return records.reduce((sum, { payload }) => sum + fromBinary(RecordBatchSchema, payload).rows, 0) === 590;
    },
    5_000,
  );
  const id = String(answer.parameters["driftmesh_inference_id"]?.parameterChoice.value);
  expect(
    await sidecar.feedback.sendLabels({ labels: [{ inferenceId: id, row: 249, value: 1, eventTimeMs: 5n }] }),
  ).toMatchObject({ accepted: 1 });
  const labels = world.nodeLog
    .filter(({ stream }) => stream === "MESH_FB")
    .map(({ payload }) => fromBinary(LabelBatchSchema, payload));
  expect(labels[0]?.labels[0]).toMatchObject({ boot: 110, number: 250n, value: 1, eventTimeMs: 5n });
  await expect(
    sidecar.feedback.sendLabels({ labels: [{ inferenceId: `inf_${"a".repeat(26)}`, row: 0, value: 1 }] }),
  ).rejects.toMatchObject({ fault: "DM-4001" });
  const forged = `${id.slice(0, -4)}aaa${id.slice(-1)}`;
  await expect(sidecar.feedback.sendLabels({ labels: [{ inferenceId: forged, row: 0, value: 1 }] })).rejects.toThrow(
    /DM-400|not made|malformed/,
  );

  expect(await sidecar.end("SIGTERM")).toBe(0);
  const panes = (await world.panes()).filter((pane) => pane.track === track);
  for (const cell of panes.flatMap((pane) => pane.cells)) expect(Number(cell.rows)).toBeGreaterThanOrEqual(100);
  expect(rowsInCells(panes)).toBe(530);
  expect(panes.reduce((sum, pane) => sum + Number(pane.suppressed), 0)).toBe(60);
  expect((await world.records()).filter((record) => record.track === track)).toEqual([]);
  expect(sidecar.log()).not.toContain(marker);
});

test("an open replica tells feedback where to go", async () => {
  const model = {
    model: "m",
    version: 1,
    ...(await logistic([0.1, -0.2])),
    features: FEATURES,
    scoreOutput: "probability",
  };
  const sidecar = await world.start({ track: 16, boot: 120, model }, "w-open");
  await expect(sidecar.feedback.sendLabels({ labels: [] })).rejects.toMatchObject({ fault: "DM-2007" });
  expect(await sidecar.end("SIGTERM")).toBe(0);
});
