import { expect, test } from "vitest";
import { FeatureType, Mode, ModelKind } from "#proto/driftmesh/v1/model_pb.ts";
import { GIB, registered, startMesh, type TestMesh } from "../testing/mesh.ts";

const features = [
  { name: "hour", type: FeatureType.NUMBER },
  { name: "origin", type: FeatureType.CATEGORY },
  { name: "weather", type: FeatureType.CATEGORY },
];

async function twoModels(): Promise<TestMesh> {
  const mesh = await startMesh({
    nodes: [
      { name: "local", cpu: 4, memoryBytes: 4 * GIB },
      { name: "clinic", cpu: 0.1, memoryBytes: GIB },
    ],
  });
  await registered(mesh);
  await registered(mesh, {
    name: "flight-minutes",
    kind: ModelKind.REGRESSION,
    explainability: [],
    summary: "How many minutes?",
  });
  return mesh;
}

test("the version that meets every requirement comes with a reason for each, the other with what it lacks", async () => {
  await using mesh = await twoModels();
  const { matches, nonMatches } = await mesh.discovery.findModels({
    requirements: {
      kind: ModelKind.BINARY_CLASSIFICATION,
      words: "late flight",
      features,
      uses: ["hour"],
      metrics: { auc: 0.65, brier: 0.2 },
      resources: { cpu: 1, memoryBytes: BigInt(GIB) },
      explainability: ["occlusion"],
    },
  });
  expect(matches.map(({ model, version, champion }) => ({ model, version, champion }))).toEqual([
    { model: "flight-delay", version: 1, champion: true },
  ]);
  expect(matches[0]?.score).toBeGreaterThan(0.5);
  expect(matches[0]?.reasons).toEqual([
    "is the champion",
    "does binary-classification",
    "speaks of late, flight",
    "needs only features you send (2 of 3)",
    "uses hour",
    "auc is 0.7; at least 0.65 was asked",
    "brier is 0.12; at most 0.2 was asked",
    "a replica needs cpu 0.25; at most 1 was asked",
    "a replica needs memory 256Mi; at most 1Gi was asked",
    "explains by occlusion",
  ]);
  expect(nonMatches).toMatchObject([
    {
      model: "flight-minutes",
      reasons: ["does regression, not binary-classification", "says nothing of late", "cannot explain by occlusion"],
    },
  ]);
});

test("a feature of another type, a missing feature, a metric out of bounds and a small node are each named", async () => {
  await using mesh = await twoModels();
  const { nonMatches } = await mesh.discovery.findModels({
    requirements: {
      features: [{ name: "hour", type: FeatureType.CATEGORY }],
      metrics: { auc: 0.9, rmse: 3 },
      mode: Mode.STRICT,
      node: "clinic",
    },
  });
  expect(nonMatches.find(({ model }) => model === "flight-delay")?.reasons).toEqual([
    "needs origin, which you do not send",
    "takes hour as a number, you send a category",
    "auc is 0.7; at least 0.9 was asked",
    "rmse is not known; at most 3 was asked",
    "needs cpu 0.25 and memory 256Mi; node clinic has 0.1 and 1Gi in all",
  ]);
});

test("nothing asked finds every champion", async () => {
  await using mesh = await twoModels();
  expect((await mesh.discovery.findModels({})).matches.map(({ model }) => model)).toEqual([
    "flight-delay",
    "flight-minutes",
  ]);
});

test("strict mode names its node", async () => {
  await using mesh = await twoModels();
  await expect(mesh.discovery.findModels({ requirements: { mode: Mode.STRICT } })).rejects.toThrow("(DM-2010)");
  await expect(mesh.discovery.findModels({ requirements: { mode: Mode.STRICT, node: "clinik" } })).rejects.toThrow(
    "did you mean clinic?; there are clinic, local",
  );
});
