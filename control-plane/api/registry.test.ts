import { expect, test } from "vitest";
import { FeatureType, ModelKind } from "#proto/driftmesh/v1/model_pb.ts";
import { RunPhase } from "#proto/driftmesh/v1/retraining_pb.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { fromConnectError } from "#kernel/rpc/connect.ts";
import {
  checkedModel,
  deployed,
  obey,
  registered,
  startMesh,
  succeedRun,
  type TestMesh,
  trainable,
} from "../testing/mesh.ts";

async function refusal(call: Promise<unknown>): Promise<MeshError> {
  const error = fromConnectError(
    await call.then(
      () => new Error("it was answered"),
      (thrown: unknown) => thrown,
    ),
  );
  if (!(error instanceof MeshError)) throw error;
  return error;
}

test("registering orders the first run, and its success makes version 1 and the champion", async () => {
  await using mesh = await startMesh();
  const { run, model } = await mesh.registry.registerModel({ description: await trainable(mesh) });
  expect(model?.description?.policy?.labelHorizonHours).toBe(24);
  expect(model?.description?.runResources?.cpu).toBe(0.25);
  await mesh.settle();
  expect(mesh.backend.wanted.runs[0]).toMatchObject({
    id: run,
    attempt: 1,
    train: true,
    command: ["node", "train.ts"],
    kind: "binary-classification",
  });
  await succeedRun(mesh, run);
  const version = await mesh.registry.getVersion({ model: "flight-delay", version: 1 });
  expect(version).toMatchObject({
    metrics: { auc: 0.7 },
    origin: { kind: "run", run, trigger: "registration" },
    scoreOutput: "probabilities",
  });
  const got = await mesh.registry.getModel({ name: "flight-delay" });
  expect(got.aliases).toMatchObject([{ scope: "open", alias: "champion", version: 1 }]);
  expect((await mesh.retraining.getRun({ id: run })).phase).toBe(RunPhase.SUCCEEDED);
});

test("registering the same again finds the same model and run; another description under the name is refused", async () => {
  await using mesh = await startMesh();
  const description = await trainable(mesh);
  const first = await mesh.registry.registerModel({ description, requestId: "one" });
  const again = await mesh.registry.registerModel({ description, requestId: "two" });
  expect(again.run).toBe(first.run);
  await mesh.settle();
  await succeedRun(mesh, first.run);
  expect((await mesh.registry.registerModel({ description })).run).toBe(first.run);
  const other = await trainable(mesh, { summary: "another" });
  expect(await refusal(mesh.registry.registerModel({ description: other }))).toMatchObject({ fault: "DM-2006" });
});

test("what comes back of a description registers as the same", async () => {
  await using mesh = await startMesh();
  const description = await trainable(mesh, {
    inference: {
      runtime: "onnx",
      scoreOutput: "p",
      inputs: [
        { name: "hour", datatype: "FP32", shape: [-1n, 1n] },
        { name: "origin", datatype: "BYTES", shape: [-1n, 1n] },
      ],
      outputs: [{ name: "p", datatype: "FP32", shape: [-1n, 2n] }],
      example: {
        hour: { kind: { case: "numberValue", value: 17 } },
        origin: { kind: { case: "stringValue", value: "ATL" } },
      },
    },
  });
  const first = await mesh.registry.registerModel({ description });
  const again = await mesh.registry.registerModel({ description: first.model?.description ?? description });
  expect(again.run).toBe(first.run);
});

test("after a failed first run the description may be mended and tried again", async () => {
  await using mesh = await startMesh();
  const { run } = await mesh.registry.registerModel({ description: await trainable(mesh) });
  await mesh.settle();
  mesh.backend.run({ id: run, attempt: 1, phase: "failed", reason: "train code ended with 3" });
  await mesh.settle();
  const mended = await mesh.registry.registerModel({ description: await trainable(mesh, { summary: "mended" }) });
  expect(mended.run).not.toBe(run);
  expect(mended.model?.description?.summary).toBe("mended");
  await mesh.settle();
  await succeedRun(mesh, mended.run);
  expect((await mesh.registry.getModel({ name: "flight-delay" })).versions).toEqual([1]);
});

test("every mistake of a description is reported at once, by its field", async () => {
  await using mesh = await startMesh();
  const error = await refusal(
    mesh.registry.registerModel({
      description: {
        name: "Flight Delay",
        features: [{ name: "hour", type: FeatureType.NUMBER }, { name: "hour" }],
        inference: { runtime: "tensorflow", inputs: [{ name: "x", datatype: "FLOAT", shape: [0n] }] },
        trainCode: { git: "github.com/x", commit: "abc", command: [] },
        policy: { retraining: "always", tolerance: -1, shadowRate: 2, canary: [5, 1] },
      },
    }),
  );
  expect(error.fault).toBe("DM-1001");
  expect(error.violations.map(({ field }) => field)).toEqual([
    "name",
    "kind",
    "train_code.git",
    "train_code.commit",
    "train_code.command",
    "training_data",
    "features[1].name",
    "features[1].type",
    "inference.runtime",
    "inference.inputs[0].datatype",
    "inference.inputs[0].shape",
    "policy.retraining",
    "policy.tolerance",
    "policy.shadow_rate",
    "policy.canary",
  ]);
});

test("features that do not fit the signature have a code of their own", async () => {
  await using mesh = await startMesh();
  const inputs = [
    { name: "hour", datatype: "BYTES", shape: [-1n, 1n] },
    { name: "day", datatype: "FP32", shape: [-1n, 1n] },
  ];
  const error = await refusal(
    mesh.registry.registerModel({ description: await trainable(mesh, { inference: { runtime: "onnx", inputs } }) }),
  );
  expect(error.fault).toBe("DM-5002");
  expect(error.violations.map(({ field }) => field)).toEqual(["features[0]", "features[1]", "inference.inputs[1]"]);
});

test("hashes of blobs that were never uploaded are named", async () => {
  await using mesh = await startMesh();
  const description = await trainable(mesh, { trainingData: { sha256: "0".repeat(64) } });
  expect((await refusal(mesh.registry.registerModel({ description }))).violations).toMatchObject([
    { field: "training_data.sha256" },
  ]);
});

test("canary weights and train code by git say that they are not built", async () => {
  await using mesh = await startMesh();
  expect(
    await refusal(mesh.registry.registerModel({ description: await trainable(mesh, { policy: { canary: [1, 5] } }) })),
  ).toMatchObject({ fault: "DM-7001" });
  const git = { git: "https://example.org/m.git", commit: "a".repeat(40), command: ["python3", "train.py"] };
  const { run } = await mesh.registry.registerModel({ description: await trainable(mesh, { trainCode: git }) });
  await mesh.settle();
  expect(await mesh.retraining.getRun({ id: run })).toMatchObject({
    phase: RunPhase.FAILED,
    reason: expect.stringContaining("DM-7001"),
  });
});

test("an image is stored, and the backend says why it does not run it", async () => {
  await using mesh = await startMesh();
  const { run } = await mesh.registry.registerModel({
    description: { name: "boxed", kind: ModelKind.OTHER, inference: { runtime: "image", image: "registry/boxed:1" } },
  });
  await mesh.settle();
  expect((await mesh.retraining.getRun({ id: run })).reason).toContain("does not run images");
  const id = await deployed(mesh, { model: "boxed" });
  expect((await mesh.deployments.getDeployment({ id })).reason).toContain("does not run images");
});

test("an uploaded file becomes version 1 by a check, with the features that the check found", async () => {
  await using mesh = await startMesh();
  const artifact = await mesh.blobs.put(new TextEncoder().encode("onnx"));
  const { run } = await mesh.registry.registerModel({
    description: {
      name: "mine",
      kind: ModelKind.OTHER,
      inference: { runtime: "onnx", artifact: "my.onnx", artifactSha256: artifact },
    },
  });
  await mesh.settle();
  expect(mesh.backend.wanted.runs[0]).toMatchObject({ train: false, artifactSha256: artifact });
  mesh.backend.run({ id: run, attempt: 1, phase: "succeeded", ...(await checkedModel(mesh, "mine")) });
  await mesh.settle();
  const version = await mesh.registry.getVersion({ model: "mine", version: 1 });
  expect(version.features.map(({ name }) => name)).toEqual(["hour", "origin"]);
  expect(version.origin?.kind).toBe("upload");
  const id = await deployed(mesh, { model: "mine" });
  await obey(mesh);
  expect((await mesh.deployments.getDeployment({ id })).instructions?.inputs).toHaveLength(2);
});

test("names that are not there are answered with the nearest", async () => {
  await using mesh = await startMesh();
  await registered(mesh);
  expect((await refusal(mesh.registry.getModel({ name: "flight-dely" }))).message).toBe(
    `no model is called "flight-dely"; did you mean flight-delay?; there is flight-delay`,
  );
  expect(await refusal(mesh.registry.getVersion({ model: "flight-delay", version: 9 }))).toMatchObject({
    fault: "DM-2002",
  });
  expect(await refusal(mesh.deployments.getDeployment({ id: "dep_x" }))).toMatchObject({ fault: "DM-2003" });
  expect(await refusal(mesh.deployments.requestDeployment({ model: "flight-delay", alias: "champ" }))).toMatchObject({
    fault: "DM-2002",
  });
  expect(await refusal(mesh.retraining.getRun({ id: "run_x" }))).toMatchObject({ fault: "DM-2005" });
});

test("lists come in pages, and a foreign token is refused", async () => {
  await using mesh = await startMesh();
  const artifact = await mesh.blobs.put(new TextEncoder().encode("onnx"));
  for (const name of ["c", "a", "b"])
    await mesh.registry.registerModel({
      description: { name, kind: ModelKind.OTHER, inference: { artifactSha256: artifact } },
    });
  const first = await mesh.registry.listModels({ pageSize: 2 });
  expect(first.models.map(({ description }) => description?.name)).toEqual(["a", "b"]);
  const second = await mesh.registry.listModels({ pageSize: 2, pageToken: first.nextPageToken });
  expect(second.models.map(({ description }) => description?.name)).toEqual(["c"]);
  expect(second.nextPageToken).toBe("");
  expect(await refusal(mesh.registry.listModels({ pageToken: "bm9wZQ" }))).toMatchObject({ fault: "DM-1003" });
});

test("a blob goes up in chunks and comes back", async () => {
  await using mesh = await startMesh();
  const part = new Uint8Array(700_000).fill(7);
  const { sha256, byteSize } = await mesh.registry.uploadBlob(twice(part));
  expect(byteSize).toBe(1_400_000n);
  expect(await sizeOf(mesh, sha256)).toBe(1_400_000);
  expect(await refusal(sizeOf(mesh, "0".repeat(64)))).toMatchObject({ fault: "DM-2011" });
});

async function* twice(chunk: Uint8Array<ArrayBuffer>): AsyncGenerator<{ chunk: Uint8Array<ArrayBuffer> }> {
  yield await Promise.resolve({ chunk });
  yield { chunk };
}

async function sizeOf(mesh: TestMesh, sha256: string): Promise<number> {
  let bytes = 0;
  for await (const { chunk } of mesh.registry.downloadBlob({ sha256 })) bytes += chunk.byteLength;
  return bytes;
}
