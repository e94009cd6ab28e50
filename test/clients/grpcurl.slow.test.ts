import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run } from "../kit/mesh.ts";
import { cached, goInstall, lacking, must, skipped, type Stage, startStage } from "./stage.ts";

const lacks = await lacking("go");
const TOOLS = [
  "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.4",
  "github.com/grpc-ecosystem/grpc-health-probe@v0.4.61",
];
const MINUTES = { name: "distance", datatype: "FP32", shape: [1, 1], contents: { fp32_contents: [450] } };
const ZURICH = { name: "code", datatype: "BYTES", shape: [1, 1], contents: { bytes_contents: ["WlJI"] } };

describe.skipIf(lacks !== undefined)(skipped("Command-line tools made with grpc-go", lacks), () => {
  let stage: Stage;
  let tools: string;
  beforeAll(async () => {
    tools = await cached("go-tools", TOOLS, (folder) => goInstall(folder, TOOLS));
    stage = await startStage();
  }, 900_000);
  afterAll(() => stage?.[Symbol.asyncDispose](), 60_000);

  const command = (options: readonly string[], ...args: string[]): string[] => [
    join(tools, "grpcurl"),
    "-plaintext",
    ...options,
    stage.server,
    ...args,
  ];
  const asked = async (...args: string[]): Promise<string> => (await must(command([], ...args))).out;
  const called = async (method: string, request: unknown): Promise<unknown> =>
    JSON.parse((await must(command(["-d", JSON.stringify(request)], method))).out);

  test("grpcurl lists the public services, and the methods of one", async () => {
    const services = (await asked("list")).trim().split("\n");
    expect(services).toEqual(expect.arrayContaining(["driftmesh.v1.Registry", "inference.GRPCInferenceService"]));
    expect(services.filter((name) => name.includes("internal"))).toEqual([]);
    expect(await asked("list", "driftmesh.v1.Discovery")).toBe("driftmesh.v1.Discovery.FindModels\n");
  });

  test("grpcurl describes every listed service, a method, a message with imports, and an enum", async () => {
    for (const service of (await asked("list")).trim().split("\n"))
      expect(await asked("describe", service)).toContain("rpc ");
    expect(await asked("describe", "inference.GRPCInferenceService.ModelInfer")).toContain(
      "rpc ModelInfer ( .inference.ModelInferRequest ) returns ( .inference.ModelInferResponse )",
    );
    expect(await asked("describe", "driftmesh.v1.Deployment")).toContain(".google.protobuf.Timestamp create_time");
    expect(await asked("describe", "driftmesh.v1.DeploymentState")).toContain("DEPLOYMENT_STATE_READY = 5");
    expect(await asked("describe", ".inference.ModelInferRequest.InferInputTensor")).toContain("datatype");
  });

  test("grpcurl infers numbers and texts, and finds", async () => {
    const infer = "inference.GRPCInferenceService/ModelInfer";
    expect(await called(infer, { model_name: "flight-minutes", inputs: [MINUTES] })).toMatchObject({
      outputs: [{ name: "minutes", contents: { fp32Contents: [90] } }],
    });
    const bytesContents = [Buffer.from("Zürich").toString("base64")];
    expect(await called(infer, { model_name: "airports", inputs: [ZURICH] })).toMatchObject({
      outputs: [{ name: "name", contents: { bytesContents } }, { name: "hub" }],
    });
    const requirements = { uses: ["distance"], kind: "MODEL_KIND_REGRESSION" };
    expect(await called("driftmesh.v1.Discovery/FindModels", { requirements })).toMatchObject({
      matches: [{ model: "flight-minutes", version: 1, champion: true }],
    });
  });

  test("grpcurl watches a deployment from ready to released", async () => {
    const offer = await stage.cli("deploy", "flight-minutes", "-o", "json");
    const { id } = JSON.parse(offer.out) as { id: string };
    const watch = command(["-d", JSON.stringify({ id })], "driftmesh.v1.Deployments/WatchDeployment");
    const watching = must(watch);
    expect((await stage.cli("decommission", id)).code).toBe(0);
    expect((await watching).out).toContain("DEPLOYMENT_STATE_RELEASED");
  });

  test("grpcurl prints code, sentence and details of a refusal", async () => {
    const ended = await run(command(["-d", '{"name":"nobody"}'], "driftmesh.v1.Registry/GetModel"));
    expect(ended.code).toBe(64 + 5);
    for (const part of ["Code: NotFound", "DM-2001", "google.rpc.ErrorInfo", '"domain": "driftmesh"'])
      expect(ended.err).toContain(part);
  });

  test("grpc-health-probe finds the mesh and its services serving, and an unknown one unknown", async () => {
    const probe = (...options: string[]) =>
      run([join(tools, "grpc-health-probe"), `-addr=${stage.server}`, ...options]);
    for (const service of ["", "inference.GRPCInferenceService", "driftmesh.v1.Registry"])
      expect(await probe(`-service=${service}`)).toMatchObject({ code: 0, err: expect.stringContaining("SERVING") });
    expect(await probe("-service=nobody")).toMatchObject({ code: 3, err: expect.stringContaining("NotFound") });
  });
});
