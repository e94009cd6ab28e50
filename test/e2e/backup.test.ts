// A mesh is backed up while it serves, ended, restored into a new folder and started: what was there is there, answers, and takes old truths.
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { driftmesh, eventually, freePort, ROOT, startMesh, type TestMesh } from "../kit/mesh.ts";

const NODES = ["local:cpu=1,memory=1Gi", "clinic:cpu=1,memory=512Mi"];
let old: TestMesh;
let folder: string;

beforeAll(async () => {
  old = await startMesh(NODES);
  folder = await mkdtemp(join(tmpdir(), "driftmesh-backup-"));
}, 120_000);

afterAll(async () => {
  await driftmesh(["stop", "--data", join(folder, "restored")]);
  await old[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
}, 60_000);

type Listed = Record<string, unknown>;

async function ask(server: string, ...args: string[]): Promise<Listed> {
  const ended = await driftmesh([...args, "--server", server, "-o", "json"]);
  if (ended.code !== 0) throw new Error(`driftmesh ${args.join(" ")} ended with ${ended.code}: ${ended.err}`);
  return JSON.parse(ended.out) as Listed;
}

const of = (listed: Listed, name: string): Listed[] => (listed[name] ?? []) as Listed[];
const only = (item: Listed, ...fields: string[]): Listed =>
  Object.fromEntries(Object.entries(item).filter(([key]) => fields.includes(key)));

/** Everything that must outlive the mesh, without what the machines say. */
async function lasting(server: string) {
  const deployments = of(await ask(server, "get", "deployments"), "deployments");
  return {
    models: of(await ask(server, "get", "models"), "models"),
    versions: of(await ask(server, "get", "versions", "--model", "flight-minutes"), "versions"),
    runs: of(await ask(server, "get", "runs"), "runs"),
    deployments: deployments
      .map((item) =>
        only(item, "id", "model", "alias", "version", "pinned", "mode", "node", "replicas", "state", "createTime"),
      )
      .sort((a, b) => (String(a["id"]) < String(b["id"]) ? -1 : 1)),
  };
}

/** A counter of the drift service, summed over its other labels. */
async function counted(server: string, line: RegExp): Promise<number> {
  const text = await (await fetch(`http://${server}/metrics/drift`)).text();
  return text.split("\n").reduce((sum, said) => sum + (line.test(said) ? Number(said.split(" ").at(-1)) : 0), 0);
}
const ROWS = /^driftmesh_drift_rows_total\b/;
const JOINS_SAVED = /^driftmesh_drift_save_seconds_count\{.*loop="join"/;
const MATCHED = /^driftmesh_drift_labels_total\{.*fate="matched"/;

test("a backup of a running mesh, restored into a new folder, is the same mesh in the next epoch", async () => {
  await old.json("register", join(ROOT, "examples/flight-minutes/model.yaml"), "--deploy");
  const strict = await old.json("deploy", "flight-minutes", "--strict", "--node", "clinic");
  await old.json("deploy", "flight-minutes:1");
  const inferred: string[] = [];
  const infer = async (): Promise<void> => {
    inferred.push(String((await ask(old.server, "infer", "flight-minutes", "--example"))["inferenceId"]));
  };
  await infer();
  await infer();
  await eventually("rows in the join", async () => ((await counted(old.server, ROWS)) >= 2 ? true : undefined));
  const truth = { inferenceId: inferred[0] ?? "", value: 100 };
  expect(await old.feedback.sendLabels({ labels: [truth] })).toMatchObject({ accepted: 1 });
  await eventually("its label", async () => ((await counted(old.server, MATCHED)) >= 1 ? true : undefined));
  const saved = await counted(old.server, JOINS_SAVED);
  await eventually("the join saved", async () => ((await counted(old.server, JOINS_SAVED)) > saved ? true : undefined));

  const before = await lasting(old.server);
  const file = join(folder, "monday.backup");
  const [taken] = await Promise.all([ask(old.server, "backup", file), infer()]);
  expect(taken).toMatchObject({ file, format: 1, epoch: 1, absent: [] });
  expect((await stat(file)).mode & 0o077).toBe(0);
  const bootsOf = async (server: string): Promise<number[]> =>
    of(await ask(server, "get", "replicas"), "replicas").map(({ boot }) => Number(boot));
  const oldBoots = await bootsOf(old.server);
  expect((await driftmesh(["stop", "--data", old.data])).code).toBe(0);

  const data = join(folder, "restored");
  const restored = await driftmesh(["restore", file, "--data", data]);
  expect(restored).toMatchObject({ code: 0, err: "" });
  expect(restored.out).toContain(`driftmesh dev --data ${data} --node clinic:cpu=1,memory=512Mi --node local:cpu=1`);
  const port = await freePort();
  const server = `127.0.0.1:${port}`;
  const nodes = NODES.flatMap((node) => ["--node", node]);
  expect(await driftmesh(["dev", "--detach", "--port", String(port), "--data", data, ...nodes])).toMatchObject({
    code: 0,
  });

  await eventually("every deployment is ready", async () => {
    const { deployments } = await lasting(server);
    return deployments.length === 3 && deployments.every(({ state }) => /ready/i.test(String(state)))
      ? true
      : undefined;
  });
  expect(await lasting(server)).toEqual(before);
  const status = await ask(server, "status", "--data", data);
  expect(status["mesh"]).toMatchObject({ epoch: 2, models: 1, deployments: 3 });
  const boots = await bootsOf(server);
  expect(boots.length).toBeGreaterThan(0);
  expect(boots.filter((boot) => oldBoots.includes(boot))).toEqual([]);

  const answer = await ask(server, "infer", "flight-minutes", "--rows", '[{"distance": 450}]');
  expect(answer).toMatchObject({ version: "1", outputs: { minutes: [[90]] } });
  const { instructions } = await ask(server, "describe", "deployment", String(strict["id"]));
  const endpoint = String((instructions as Listed)["endpoint"]);
  expect(await ask(server, "infer", String(strict["id"]), "--example", "--endpoint", endpoint)).toMatchObject({
    version: "1",
  });

  // The row was inferred in the old life, and is known by its ledger in the backup.
  expect((await driftmesh(["feedback", inferred[1] ?? "", "101", "--server", server])).code).toBe(0);
  await eventually("the old row has its label", async () => ((await counted(server, MATCHED)) >= 1 ? true : undefined));
}, 180_000);

test("a backup that was cut off, a folder in use and a file that is there are refused, and nothing is left behind", async () => {
  const file = join(folder, "monday.backup");
  const whole = await readFile(file);
  const cut = join(folder, "cut.backup");
  await writeFile(cut, whole.subarray(0, whole.length - 20));
  const fresh = join(folder, "fresh");
  const refused = await driftmesh(["restore", cut, "--data", fresh]);
  expect(refused).toMatchObject({ code: 1, out: "" });
  expect(refused.err).toContain("the backup is not whole: it ends too early (DM-6013)");
  expect((await readdir(folder)).filter((name) => name.startsWith("fresh"))).toEqual([]);

  const running = await driftmesh(["restore", file, "--data", join(folder, "restored")]);
  expect(running.err).toMatch(/a mesh runs in .*DM-6005/s);
  const used = await driftmesh(["restore", file, "--data", folder]);
  expect(used.err).toMatch(/is not empty: name a folder that does not exist yet .*DM-6015/s);
  const again = await driftmesh(["backup", file]);
  expect(again).toMatchObject({ code: 2 });
  expect(again.err).toContain("is there already");
  expect(await readFile(file)).toEqual(whole);
}, 60_000);
