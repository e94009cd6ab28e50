import { afterAll, beforeAll, expect, test } from "vitest";
import { run } from "../kit/mesh.ts";
import { BUF, must, type Stage, startStage } from "./stage.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await startStage();
}, 120_000);
afterAll(() => stage[Symbol.asyncDispose](), 60_000);

// buf knows nothing of our .proto files here: it runs in a folder without them and asks by reflection.
const curl = (args: readonly string[]): string[] => [
  BUF,
  "curl",
  "--http2-prior-knowledge",
  "--protocol",
  "grpc",
  ...args,
];
const asked = async (...args: string[]): Promise<string> => (await must(curl(args), { cwd: "/" })).out;
const method = (name: string): string => `${stage.url}/${name}`;
const MINUTES = { name: "distance", datatype: "FP32", shape: [1, 1], contents: { fp32_contents: [450] } };

test.each(["grpc-v1", "grpc-v1alpha"])("buf lists services and methods by reflection %s", async (reflection) => {
  const services = await asked("--reflect-protocol", reflection, "--list-services", stage.url);
  for (const service of ["driftmesh.v1.Deployments", "grpc.health.v1.Health", "inference.GRPCInferenceService"])
    expect(services).toContain(service);
  expect(services).not.toContain("internal");
  const methods = await asked("--reflect-protocol", reflection, "--list-methods", stage.url);
  expect(methods).toContain("driftmesh.v1.Discovery/FindModels");
});

test("buf describes by calling: an unknown field of a request is refused before it is sent", async () => {
  const data = ["-d", '{"wishes": {}}', method("driftmesh.v1.Discovery/FindModels")];
  const ended = await run(curl(data), { cwd: "/" });
  expect(ended.code).not.toBe(0);
  expect(ended.err).toContain("wishes");
});

test("buf infers and finds by reflection alone", async () => {
  const request = JSON.stringify({ model_name: "flight-minutes", inputs: [MINUTES] });
  const answer = await asked("-d", request, method("inference.GRPCInferenceService/ModelInfer"));
  expect(JSON.parse(answer)).toMatchObject({ outputs: [{ name: "minutes", contents: { fp32Contents: [90] } }] });
  const wanted = JSON.stringify({ requirements: { uses: ["distance"] } });
  const found = await asked("-d", wanted, method("driftmesh.v1.Discovery/FindModels"));
  expect(JSON.parse(found)).toMatchObject({ matches: [{ model: "flight-minutes", version: 1 }] });
});

test("buf watches a deployment until it is released", async () => {
  const offer = await stage.cli("deploy", "flight-minutes", "-o", "json");
  const { id } = JSON.parse(offer.out) as { id: string };
  const watching = asked("-d", JSON.stringify({ id }), method("driftmesh.v1.Deployments/WatchDeployment"));
  const released = await stage.cli("decommission", id);
  expect(released.code).toBe(0);
  expect(await watching).toContain("DEPLOYMENT_STATE_RELEASED");
});

test("buf prints code, sentence and details of a refusal", async () => {
  const ended = await run(curl(["-d", '{"name":"nobody"}', method("driftmesh.v1.Registry/GetModel")]), { cwd: "/" });
  const said = JSON.parse(ended.err) as unknown;
  expect(said).toMatchObject({ code: "not_found", message: expect.stringContaining("DM-2001") });
  expect(JSON.stringify(said)).toContain("google.rpc.ErrorInfo");
});
