import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { parquetWriteBuffer } from "hyparquet-writer";
import { expect, test } from "vitest";
import { DAY_MS, type Profile } from "#kernel/domain/profile.ts";
import { ModelSpecSchema } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { echoModel, logisticModel, mixedModel } from "../runtime/testing/onnx.ts";
import { parseOrder, type Check } from "./order.ts";
import { probe } from "./probe.ts";

type Init = Exclude<MessageInitShape<typeof ModelSpecSchema>, { $typeName: string }>;
type Asked = {
  artifact: Uint8Array;
  model?: Init;
  kind?: string;
  example?: unknown;
  files?: unknown[];
  ancestor?: Profile;
};

async function check(asked: Asked): Promise<{ check: Check; profile: Profile | undefined }> {
  const out = await mkdtemp(join(tmpdir(), "dm-probe-"));
  const at = (name: string): string => join(out, name);
  await writeFile(at("model.onnx"), asked.artifact);
  if (asked.ancestor !== undefined) await writeFile(at("ancestor.json"), JSON.stringify(asked.ancestor));
  if (asked.files !== undefined) {
    await writeFile(
      at("manifest.json"),
      JSON.stringify({
        format: 1,
        model: "m",
        features: [],
        files: asked.files,
        excluded: [{ fromMs: DAY_MS * 12, toMs: DAY_MS * 13, reason: "quality" }],
        changeMs: 0,
      }),
    );
  }
  const order = parseOrder("{}");
  const answer = await probe({
    ...order,
    artifact: at("model.onnx"),
    kind: asked.kind ?? "",
    out,
    model: create(ModelSpecSchema, asked.model ?? {}),
    manifest: asked.files === undefined ? "" : at("manifest.json"),
    ancestorProfile: asked.ancestor === undefined ? "" : at("ancestor.json"),
    example: JSON.parse(JSON.stringify(asked.example ?? null)) as never,
  });
  const text = await readFile(at("profile.json"), "utf8").catch(() => undefined);
  expect(JSON.parse(await readFile(at("check.json"), "utf8"))).toEqual(answer);
  return { check: answer, profile: text === undefined ? undefined : (JSON.parse(text) as Profile) };
}

async function dataFile(days: number[], rowsPerDay = 50): Promise<unknown> {
  const dir = await mkdtemp(join(tmpdir(), "dm-data-"));
  const times = days.flatMap((day) => Array.from({ length: rowsPerDay }, (_, i) => BigInt(day * DAY_MS + i * 1000)));
  const columnData = [
    { name: "event_time", data: times, type: "INT64" as const },
    {
      name: "amount",
      data: times.map((_, i) => (i % 10 === 0 ? null : 0.1 * (i % 7))),
      type: "DOUBLE" as const,
      nullable: true,
    },
    {
      name: "colour",
      data: times.map((_, i) => ["red", "blue", "red", "green"][i % 4] ?? ""),
      type: "STRING" as const,
    },
    { name: "label", data: times.map((_, i) => i % 2), type: "DOUBLE" as const },
  ];
  const path = join(dir, "data.parquet");
  await writeFile(path, new Uint8Array(parquetWriteBuffer({ columnData })));
  return { sha256: "0".repeat(64), path, kind: "training", fromMs: 0, toMs: 0, rows: times.length };
}

const MIXED: Init = {
  features: [
    { name: "amount", type: "number" },
    { name: "colour", type: "category" },
  ],
};

test("a file without a description is understood: signature, features, score, and a warm-up profile", async () => {
  const { check: found, profile } = await check({ artifact: logisticModel([1, 2, 3]) });
  expect(found).toMatchObject({ ok: true, scoreOutput: "probability", scoreKind: "probability", rows: 0 });
  expect(found.signature?.inputs).toEqual([{ name: "x", datatype: "FP32", shape: [-1, 3] }]);
  expect(found.features?.map(({ name }) => name)).toEqual(["f0", "f1", "f2"]);
  expect(profile).toMatchObject({ kind: "warmup", blocks: [] });
  expect(profile?.features).toHaveLength(3);
  const mixed = await check({ artifact: mixedModel({ red: 1 }) });
  expect(mixed.check.features).toEqual([
    { name: "amount", type: "number" },
    { name: "colour", type: "category" },
  ]);
  expect(mixed.check.scoreOutput).toBe("probabilities");
});

test("with data the profile has a block for each day, in the precision of records, without the excluded blocks", async () => {
  const files = [await dataFile([10, 11, 12])];
  const { check: found, profile } = await check({
    artifact: mixedModel({ red: 1, blue: -1 }),
    model: MIXED,
    kind: "binary-classification",
    files,
  });
  expect(found).toMatchObject({ ok: true, rows: 100 });
  expect(profile?.kind).toBe("trained");
  expect(profile?.blocks.map(({ startMs, rows }) => [startMs / DAY_MS, rows])).toEqual([
    [10, 50],
    [11, 50],
  ]);
  const amount = profile?.features[0];
  expect(amount?.kind === "number" && amount.edges.includes(Math.fround(0.1 * 3))).toBe(true);
  // Every tenth amount is missing, so its score is NaN too, and it counts in the last cell.
  expect(profile?.blocks[0]?.features[0]?.at(-1)).toBe(5);
  expect(profile?.blocks[0]?.score.at(-1)).toBe(5);
  expect(profile?.blocks[0]?.outcome.n.reduce((sum, n) => sum + n, 0)).toBe(45);
  expect(profile?.features[1]).toMatchObject({ kind: "category", categories: ["red", "blue", "green"] });
  const again = await check({
    artifact: mixedModel({ red: 2 }),
    model: MIXED,
    kind: "binary-classification",
    files: [await dataFile([20])],
    ...(profile === undefined ? {} : { ancestor: profile }),
  });
  expect(again.profile?.features).toEqual(profile?.features);
});

test("what does not fit is said with its code, every misfit at once", async () => {
  const refuse = async (asked: Asked): Promise<string> => {
    const { check: found, profile } = await check(asked);
    expect(found.ok).toBe(false);
    expect(profile).toBeUndefined();
    return found.problem ?? "";
  };
  expect(await refuse({ artifact: Buffer.from("no model") })).toContain("DM-5001");
  expect(await refuse({ artifact: echoModel("BF16") })).toContain("DM-5001");
  const features = {
    features: [
      { name: "amount", type: "number" },
      { name: "color", type: "category" },
    ],
  };
  const misfit = await refuse({ artifact: mixedModel({ red: 1 }), model: features });
  expect(misfit).toContain("DM-5002");
  expect(misfit).toContain("feature color has no input of its name");
  expect(misfit).toContain("input colour has no feature of its name");
  expect(
    await refuse({ artifact: logisticModel([1, 2]), model: { features: [{ name: "a", type: "number" }] } }),
  ).toContain("input x has 2 columns, but 1 features are listed");
  const described = {
    inputs: [{ name: "x", datatype: "FP64", shape: [-1n, 2n] }],
    outputs: [{ name: "y", datatype: "FP32", shape: [] }],
  };
  const both = await refuse({ artifact: logisticModel([1, 2]), model: described });
  expect(both).toContain("input x is described as FP64, but it is FP32");
  expect(both).toContain("output y is described");
  expect(await refuse({ artifact: logisticModel([1]), model: { scoreOutput: "nope" } })).toContain("score output nope");
  expect(await refuse({ artifact: mixedModel({ red: 1 }), example: { amount: 1, color: "red" } })).toContain(
    "the example names color",
  );
  expect(await refuse({ artifact: logisticModel([1]), example: "{" })).toContain("DM-1001");
  expect(
    await refuse({ artifact: echoModel("FP32"), kind: "binary-classification", example: { f0: 7, f1: 9 } }),
  ).toContain("expected a probability");
  const noColumn = await dataFile([1]);
  expect(
    await refuse({
      artifact: logisticModel([1]),
      model: { features: [{ name: "x", type: "number" }] },
      files: [noColumn],
    }),
  ).toContain('no column "x"');
});
