import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { run } from "../kit/mesh.ts";
import { expectConversation } from "./conversation.ts";
import { HERE, PROTO, type Stage, startStage } from "./stage.ts";

let stage: Stage;
beforeAll(async () => {
  stage = await startStage();
}, 120_000);
afterAll(() => stage[Symbol.asyncDispose](), 60_000);

test("a Node program of grpc-js and proto-loader holds the whole conversation", async () => {
  const { server, deployment } = stage;
  expectConversation(await run([process.execPath, join(HERE, "node/client.mjs"), server, deployment, PROTO]));
});

const post = (path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${stage.url}/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });

test("fetch over HTTP/1.1 infers, labels and finds in Connect's JSON", async () => {
  const contents = { fp32Contents: [450, 900] };
  const inputs = [{ name: "distance", datatype: "FP32", shape: ["2", "1"], contents }];
  const inferred = await post("inference.GRPCInferenceService/ModelInfer", { modelName: "flight-minutes", inputs });
  const answer = (await inferred.json()) as { parameters: Record<string, { stringParam: string }> };
  expect(answer).toMatchObject({ outputs: [{ name: "minutes", contents: { fp32Contents: [90, 150] } }] });
  const inferenceId = answer.parameters["driftmesh_inference_id"]?.stringParam;
  const labelled = await post("driftmesh.v1.Feedback/SendLabels", { labels: [{ inferenceId, row: 1, value: 160 }] });
  expect(await labelled.json()).toEqual({ accepted: 1 });
  const found = await post("driftmesh.v1.Discovery/FindModels", { requirements: { uses: ["distance"] } });
  expect(await found.json()).toMatchObject({ matches: [{ model: "flight-minutes" }] });
});

test("fetch hears Connect's errors: HTTP status, code, and details as text of bytes", async () => {
  const refused = await post("driftmesh.v1.Registry/GetModel", { name: "nobody" }, { "connect-protocol-version": "1" });
  expect(refused.status).toBe(404);
  expect(await refused.json()).toMatchObject({
    code: "not_found",
    message: expect.stringContaining("DM-2001"),
    details: [{ type: "google.rpc.ErrorInfo", value: expect.stringMatching(/^[A-Za-z0-9+/]+$/) }],
  });
  const misspelt = await post("driftmesh.v1.Registry/GetModel", { nam: "flight-minutes" });
  expect([misspelt.status, await misspelt.json()]).toMatchObject([400, { code: "invalid_argument" }]);
});
