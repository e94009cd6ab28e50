import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { lacking, must, skipped, type Stage, startStage } from "./stage.ts";

const lacks = await lacking("curl");
const MINUTES = { name: "distance", datatype: "FP32", shape: [1, 1], contents: { fp32_contents: [450] } };
const ZURICH = { name: "code", datatype: "BYTES", shape: [1, 1], contents: { bytes_contents: ["WlJI"] } };

describe.skipIf(lacks !== undefined)(skipped("curl with Connect's JSON", lacks), () => {
  let stage: Stage;
  beforeAll(async () => {
    stage = await startStage();
  }, 120_000);
  afterAll(() => stage[Symbol.asyncDispose](), 60_000);

  /** The status and what came back. */
  async function curl(path: string, body: unknown, ...options: string[]): Promise<[status: number, answer: unknown]> {
    const sent = ["-H", "content-type: application/json", "-d", JSON.stringify(body)];
    const { out } = await must(["curl", "-sS", "-w", "\n%{http_code}", ...sent, ...options, `${stage.url}/${path}`]);
    const [answer = "", status = ""] = out.split("\n");
    return [Number(status), JSON.parse(answer)];
  }

  test.each(["--http1.1", "--http2-prior-knowledge"])(
    "infers with the names of the .proto file, %s",
    async (version) => {
      const request = { model_name: "flight-minutes", inputs: [MINUTES] };
      expect(await curl("inference.GRPCInferenceService/ModelInfer", request, version)).toMatchObject([
        200,
        { modelName: "flight-minutes", outputs: [{ name: "minutes", contents: { fp32Contents: [90] } }] },
      ]);
    },
  );

  test("sends and reads texts as base64", async () => {
    const request = { model_name: "airports", inputs: [ZURICH] };
    const [, answer] = await curl("inference.GRPCInferenceService/ModelInfer", request);
    const bytesContents = [Buffer.from("Zürich").toString("base64")];
    expect(answer).toMatchObject({ outputs: [{ name: "name", contents: { bytesContents } }, { name: "hub" }] });
  });

  test("asks health and readiness, labels and finds", async () => {
    expect(await curl("grpc.health.v1.Health/Check", {})).toEqual([200, { status: "SERVING" }]);
    expect(await curl("inference.GRPCInferenceService/ModelReady", { name: "airports" })).toEqual([
      200,
      { ready: true },
    ]);
    const request = { model_name: "flight-minutes", inputs: [MINUTES] };
    const [, inferred] = await curl("inference.GRPCInferenceService/ModelInfer", request);
    const { parameters } = inferred as { parameters: Record<string, { stringParam: string }> };
    const label = { inference_id: parameters["driftmesh_inference_id"]?.stringParam, value: 95 };
    expect(await curl("driftmesh.v1.Feedback/SendLabels", { labels: [label] })).toEqual([200, { accepted: 1 }]);
    const wanted = { requirements: { kind: "MODEL_KIND_REGRESSION" } };
    expect(await curl("driftmesh.v1.Discovery/FindModels", wanted)).toMatchObject([
      200,
      { matches: [{ model: "flight-minutes", champion: true }] },
    ]);
  });

  test("is refused with the HTTP status, the code and what to do", async () => {
    const request = { model_name: "nobody", inputs: [MINUTES] };
    expect(await curl("inference.GRPCInferenceService/ModelInfer", request)).toMatchObject([
      404,
      { code: "not_found", message: expect.stringContaining("DM-3002"), details: [{ type: "google.rpc.ErrorInfo" }] },
    ]);
    const misspelt = { model_nam: "flight-minutes" };
    expect(await curl("inference.GRPCInferenceService/ModelInfer", misspelt)).toMatchObject([
      400,
      { code: "invalid_argument" },
    ]);
  });
});
