// Train code that misbehaves, as its owner sees it: the run Failed with the sentence, through the public API.
import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parquetWriteBuffer } from "hyparquet-writer";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startMesh, type TestMesh } from "../kit/mesh.ts";

let mesh: TestMesh;
let folder: string;

beforeAll(async () => {
  mesh = await startMesh(["local:cpu=2,memory=2Gi"]);
  folder = await mkdtemp(join(tmpdir(), "driftmesh-train-"));
  const columnData = [
    { name: "event_time", data: [0n, 1n, 2n], type: "INT64" as const },
    { name: "x", data: [1, 2, 3], type: "DOUBLE" as const },
    { name: "label", data: [0, 1, 0], type: "DOUBLE" as const },
  ];
  await writeFile(join(folder, "data.parquet"), new Uint8Array(parquetWriteBuffer({ columnData })));
}, 120_000);

afterAll(async () => {
  await mesh[Symbol.asyncDispose]();
}, 60_000);

/** A description whose train code is this one file. */
async function described(name: string, code: string): Promise<string> {
  await mkdir(join(folder, name));
  await writeFile(join(folder, name, "train.mjs"), code);
  const path = join(folder, `${name}.yaml`);
  await writeFile(
    path,
    `name: ${name}
kind: regression
features: [{ name: x, type: number }]
train_code: { folder: ${name}, command: [node, train.mjs], timeout_seconds: 4 }
training_data: { file: data.parquet }
training_resources: { cpu: 0.1, memory: 160Mi }
`,
  );
  return path;
}

const WRITES = (metrics: string): string =>
  `import { writeFileSync } from "node:fs";
for (const [name, text] of [["model.onnx", "junk"], ["metrics.json", ${JSON.stringify(metrics)}]])
  writeFileSync(process.env.DRIFTMESH_OUTPUT + "/" + name, text);`;

test.concurrent.for([
  ["exits-3", "console.log('no luck today'); process.exit(3)", "train code exited with 3"],
  ["hangs", "setInterval(() => {}, 1000)", "train code was stopped after 4 s"],
  [
    "eats-memory",
    "const kept = []; setInterval(() => kept.push(Buffer.alloc(32 << 20, 1)), 10)",
    "train code used more than 160 MiB",
  ],
  ["writes-nothing", "process.exit(0)", "train code wrote no model.onnx"],
  ["writes-nan", WRITES('{"brier": NaN}'), "metrics.json: brier is NaN"],
  ["writes-junk", WRITES("{}"), "the file is not an ONNX model that can be loaded"],
] as const)(
  "train code that %s: the run fails with the sentence, and no version is made",
  async ([name, code, why]) => {
    const ended = await mesh.cli("register", await described(name, code));
    expect(ended.err).toContain(why);
    expect(ended.err).toContain("DM-5004");
    expect(ended.code).not.toBe(0);
    const { runs } = await mesh.retraining.listRuns({ model: name });
    expect(runs).toMatchObject([{ phase: 5, version: 0 }]);
    expect(runs[0]?.reason).toContain(why);
    expect((await mesh.registry.listVersions({ model: name })).versions).toEqual([]);
  },
);

test("describe shows the end of a failed run's log", async () => {
  const { runs } = await mesh.retraining.listRuns({ model: "exits-3" });
  expect((await mesh.cli("describe", `run/${runs[0]?.id ?? ""}`)).out).toContain("no luck today");
});
