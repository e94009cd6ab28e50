import { create } from "@bufbuild/protobuf";
import { mkdir, mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { canonicalJson } from "#kernel/base/bytes.ts";
import { systemClock } from "#kernel/base/clock.ts";
import { Cell } from "#kernel/base/queue.ts";
import { systemRand } from "#kernel/base/rand.ts";
import { silentLogger } from "#kernel/process/log.ts";
import { FileBlobs } from "#kernel/store/file/blobs.ts";
import { processBegan } from "#kernel/store/lock.ts";
import { type ObservedRun, type WantedRun, WantedRunSchema } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { Runs } from "../../agent/runs/door.ts";
import { logisticModel } from "../../sidecar/runtime/testing/onnx.ts";
import { REPOSITORY, standIn, type StandIn } from "./stand-in.ts";

let place: StandIn;
let folder: string;
let blobs: FileBlobs;
beforeAll(async () => {
  place = await standIn();
  folder = await mkdtemp(join(tmpdir(), "driftmesh-runs-"));
  blobs = new FileBlobs({ dir: join(folder, "blobs"), rand: systemRand });
});
afterAll(async () => {
  await place[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const blobPath = (sha256: string): string => blobs.pathOf(sha256);

function runs(root = place.root): { runs: Runs; changes: Cell<number> } {
  const changes = new Cell(0);
  const env = { PATH: process.env["PATH"] ?? "" };
  const options = { clock: systemClock, blobs, blobPath, env, log: silentLogger(), nodes: join(folder, "nodes") };
  const made = new Runs({
    ...options,
    modules: join(REPOSITORY, "node_modules"),
    probe: join(root, "sidecar/probe/main.ts"),
    changed: () => changes.set(changes.get().value + 1),
  });
  return { runs: made, changes };
}

async function treeOf(files: Record<string, string>): Promise<string> {
  const listed = [];
  for (const [path, text] of Object.entries(files))
    listed.push({ path, sha256: await blobs.put(Buffer.from(text)), mode: 0o644 });
  return blobs.put(Buffer.from(canonicalJson({ format: 1, files: listed })));
}

let number = 0;
async function wanted(train: string, more: Partial<WantedRun> = {}): Promise<WantedRun> {
  const manifest = { format: 1, model: "m", features: [], files: [], excluded: [], changeMs: 0 };
  return create(WantedRunSchema, {
    id: `run_${number++}`,
    attempt: 1,
    node: "local",
    scope: "open",
    train: true,
    treeSha256: await treeOf({ "train.mjs": train }),
    command: ["node", "train.mjs"],
    timeoutSeconds: 30,
    hyperparametersJson: '{"trees":3}',
    manifestSha256: await blobs.put(Buffer.from(canonicalJson(manifest))),
    memoryBytes: 512n << 20n,
    kind: "regression",
    ...more,
  } as WantedRun);
}

async function ended(run: WantedRun, root?: string): Promise<ObservedRun> {
  const { runs: all, changes } = runs(root);
  all.apply([run]);
  return await finished(all, changes);
}

async function finished(all: Runs, changes: Cell<number>): Promise<ObservedRun> {
  const deadline = AbortSignal.timeout(60_000);
  for (;;) {
    const { version } = changes.get();
    const [seen] = all.seen();
    if (seen !== undefined && ["succeeded", "failed"].includes(seen.phase)) return seen;
    if (deadline.aborted) throw new Error(`still ${seen?.phase}`);
    await changes.changed(version, deadline);
  }
}

const GOOD = `
import { writeFileSync, readFileSync } from "node:fs";
const out = process.env.DRIFTMESH_OUTPUT;
const { trees } = JSON.parse(readFileSync(process.env.DRIFTMESH_HYPERPARAMETERS, "utf8"));
JSON.parse(readFileSync(process.env.DRIFTMESH_DATA_MANIFEST, "utf8"));
console.log("env " + JSON.stringify(Object.keys(process.env).toSorted()));
console.log("node " + process.version);
writeFileSync(out + "/model.onnx", "onnx model");
writeFileSync(out + "/metrics.json", JSON.stringify({ brier: 0.1, trees }));
`;

test("a run that keeps the contract succeeds, its artifact, profile and log are blobs", async () => {
  const seen = await ended(await wanted(GOOD));
  expect(seen).toMatchObject({
    phase: "succeeded",
    reason: "",
    metrics: { brier: 0.1, trees: 3, baseline: 0.5 },
    artifactBytes: 10n,
  });
  expect(seen.model).toMatchObject({ scoreOutput: "y", inputs: [{ name: "x", datatype: "FP32", shape: [-1n, 1n] }] });
  expect(Buffer.from((await blobs.get(seen.artifactSha256)) ?? []).toString()).toBe("onnx model");
  expect(await blobs.has(seen.profileSha256)).toBe(true);
  const log = Buffer.from((await blobs.get(seen.logSha256)) ?? []).toString();
  expect(log).toContain(
    'env ["DRIFTMESH_DATA_MANIFEST","DRIFTMESH_HYPERPARAMETERS","DRIFTMESH_OUTPUT","HOME","LANG","PATH","TMPDIR"]',
  );
  expect(log).toContain("node v24");
});

test("train code can import what the mesh has: hyparquet", async () => {
  const seen = await ended(
    await wanted(
      `import { parquetRead } from "hyparquet"; if (typeof parquetRead !== "function") process.exit(9);${GOOD}`,
    ),
  );
  expect(seen.phase).toBe("succeeded");
});

const SAYS = (metrics: string): string => `
import { writeFileSync } from "node:fs";
writeFileSync(process.env.DRIFTMESH_OUTPUT + "/model.onnx", "onnx");
writeFileSync(process.env.DRIFTMESH_OUTPUT + "/metrics.json", ${JSON.stringify(metrics)});
`;

test.each([
  ["exits 3", "process.exit(3)", {}, "train code exited with 3"],
  ["dies of a signal", "process.kill(process.pid, 'SIGSEGV')", {}, "train code was ended by SIGSEGV"],
  ["hangs", "setInterval(() => {}, 1000)", { timeoutSeconds: 1 }, "train code was stopped after 1 s"],
  [
    "eats memory",
    "const kept = []; setInterval(() => kept.push(Buffer.alloc(32 << 20, 1)), 10)",
    { memoryBytes: 160n << 20n },
    "train code used more than 160 MiB",
  ],
  ["writes no model", "process.exit(0)", {}, "train code wrote no model.onnx"],
  ["writes NaN metrics", SAYS('{"brier": NaN}'), {}, "metrics.json: brier is NaN"],
  [
    "links its model to another file",
    "import { symlinkSync } from 'node:fs'; symlinkSync('/etc/hostname', process.env.DRIFTMESH_OUTPUT + '/model.onnx')",
    {},
    "train code wrote no model.onnx",
  ],
  [
    "writes what is no model",
    "import { writeFileSync } from 'node:fs'; for (const [n, t] of [['model.onnx', 'junk'], ['metrics.json', '{}']]) writeFileSync(process.env.DRIFTMESH_OUTPUT + '/' + n, t)",
    {},
    "model.onnx cannot be loaded",
  ],
])("train code that %s fails the run with a sentence", async (_, code, more, reason) => {
  expect(await ended(await wanted(code, more))).toMatchObject({ phase: "failed", reason });
});

test("a command that does not exist is said so", async () => {
  const seen = await ended(await wanted("", { command: ["no-such-program"] }));
  expect(seen.reason).toMatch(/train code could not be started: .*no-such-program/);
});

test("when a run ends, what it started in a session of its own ends too", async () => {
  const mark = join(folder, "pid");
  const code = `
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { detached: true, stdio: "ignore" });
writeFileSync(${JSON.stringify(mark)}, String(child.pid));
setInterval(() => {}, 1000);
`;
  expect(await ended(await wanted(code, { timeoutSeconds: 2 }))).toMatchObject({
    reason: "train code was stopped after 2 s",
  });
  const pid = Number(await readFile(mark, "utf8"));
  expect(await processBegan(pid)).toBeUndefined();
});

test("a log ends at 4 MiB", async () => {
  const seen = await ended(await wanted('process.stdout.write("x".repeat(6 << 20)); process.exitCode = 3;'));
  const log = (await blobs.get(seen.logSha256)) ?? new Uint8Array();
  expect(log.length).toBeGreaterThan(4 << 20);
  expect(log.length).toBeLessThan((4 << 20) + 200);
});

test("a run that is wanted no more is killed and its folder goes", async () => {
  const { runs: all } = runs();
  const run = await wanted("setInterval(() => {}, 1000)");
  all.apply([run]);
  await expect.poll(() => all.marks().length, { timeout: 20_000 }).toBe(1);
  const [mark] = all.marks();
  all.apply([]);
  expect(all.seen()).toEqual([]);
  await all.close();
  expect(await processBegan(mark?.pid ?? 0)).toBeUndefined();
  await expect(stat(join(folder, "nodes/local/runs", `${run.id}-1`))).rejects.toThrow(/ENOENT/);
});

test("an attempt that an earlier agent began is told as lost, one that it finished is told again", async () => {
  const run = await wanted(GOOD);
  await mkdir(join(folder, "nodes/local/runs", `${run.id}-1`), { recursive: true });
  expect(await ended(run)).toMatchObject({ phase: "failed", reason: "machine lost: its agent ended while it ran" });
  const other = await wanted(GOOD);
  const first = await ended(other);
  expect(await ended(other)).toMatchObject({
    phase: "succeeded",
    artifactSha256: first.artifactSha256,
    metrics: first.metrics,
  });
});

test("train code of a strict track is refused without a sandbox", async () => {
  expect((await ended(await wanted(GOOD, { scope: "node/local" }))).reason).toMatch(/sandbox without network/);
});

test("an uploaded model is loaded by the real check, which finds its signature and makes a profile", async () => {
  const artifactSha256 = await blobs.put(logisticModel([1, -1]));
  const seen = await ended(
    await wanted("", { train: false, artifactSha256, manifestSha256: "", kind: "" }),
    REPOSITORY,
  );
  expect(seen).toMatchObject({ phase: "succeeded", reason: "", artifactSha256 });
  expect(seen.model?.inputs).toMatchObject([{ name: "x", datatype: "FP32", shape: [-1n, 2n] }]);
  expect(seen.model).toMatchObject({ scoreOutput: "probability", artifactSha256, profileSha256: seen.profileSha256 });
});

test("a file that is no ONNX is refused with a sentence and its code", async () => {
  const artifactSha256 = await blobs.put(Buffer.from("hello"));
  const seen = await ended(
    await wanted("", { train: false, artifactSha256, manifestSha256: "", kind: "" }),
    REPOSITORY,
  );
  expect(seen.phase).toBe("failed");
  expect(seen.reason).toMatch(/DM-5001/);
});
