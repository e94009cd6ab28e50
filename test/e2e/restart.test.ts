// The mesh is stopped and started again on its data folder: what was there is there and answers.
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { driftmesh, eventually, ROOT, startMesh, type TestMesh } from "../kit/mesh.ts";

let mesh: TestMesh;

beforeAll(async () => {
  mesh = await startMesh(["local:cpu=1,memory=1Gi", "clinic:cpu=1,memory=512Mi"]);
}, 120_000);

afterAll(async () => {
  await mesh[Symbol.asyncDispose]();
}, 60_000);

const rowsSeen = async (): Promise<bigint> =>
  (await mesh.drift.listPanes({ model: "flight-minutes" })).panes.reduce((sum, pane) => sum + pane.rows, 0n);

test("models, deployments in both modes and drift state are back after stop and dev, and answer", async () => {
  await mesh.json("register", join(ROOT, "examples/flight-minutes/model.yaml"), "--deploy");
  const strict = await mesh.json("deploy", "flight-minutes", "--strict", "--node", "clinic");
  const before = String((await mesh.json("infer", "flight-minutes", "--example"))["inferenceId"]);
  await eventually("the row in a pane", async () => ((await rowsSeen().catch(() => 0n)) === 1n ? true : undefined));

  expect((await driftmesh(["stop", "--data", mesh.data])).code).toBe(0);
  const again = ["dev", "--detach", "--port", String(mesh.port), "--data", mesh.data];
  const nodes = ["--node", "local:cpu=1,memory=1Gi", "--node", "clinic:cpu=1,memory=512Mi"];
  expect(await driftmesh([...again, ...nodes])).toMatchObject({ code: 0 });

  const answer = await eventually("an answer", async () => {
    const ended = await mesh.cli("infer", "flight-minutes", "--rows", '[{"distance": 450}]', "-o", "json");
    return ended.code === 0 ? (JSON.parse(ended.out) as Record<string, unknown>) : undefined;
  });
  expect(answer).toMatchObject({ version: "1", outputs: { minutes: [[90]] } });
  const ready = await eventually("the strict deployment", async () => {
    const deployment = await mesh.deployments.getDeployment({ id: String(strict["id"]) });
    return deployment.state === 5 ? deployment : undefined;
  });
  const endpoint = ready.instructions?.endpoint ?? "";
  const local = await mesh.json("infer", ready.id, "--example", "--endpoint", endpoint);
  expect(local["inferenceId"]).toMatch(/^inf_/);
  expect(await mesh.feedback.sendLabels({ labels: [{ inferenceId: before, value: 100 }] })).toMatchObject({
    accepted: 1,
  });
  await eventually("both rows in panes", async () => ((await rowsSeen()) === 2n ? true : undefined));
}, 120_000);
