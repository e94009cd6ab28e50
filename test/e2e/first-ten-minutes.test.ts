import { cp, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, ROOT, run, startMesh, type TestMesh } from "../kit/mesh.ts";

let mesh: TestMesh;
let file: string;

beforeAll(async () => {
  mesh = await startMesh();
  file = join(await mkdtemp(join(tmpdir(), "driftmesh-onnx-")), "my.onnx");
  await cp(join(ROOT, "examples/flight-minutes/flight-minutes.onnx"), file);
}, 120_000);

afterAll(async () => {
  await mesh[Symbol.asyncDispose]();
}, 60_000);

test("an ONNX file without a description is registered, deployed and answers", async () => {
  const registered = await mesh.json("register", file);
  expect(registered).toMatchObject({ endpoint: mesh.server });
  const answer = await mesh.json("infer", "my", "--rows", '[{"distance": 450}, {"distance": 900}]');
  expect(answer).toMatchObject({ model: "my", version: "1", outputs: { minutes: [[90], [150]] } });
});

test("its rows appear in panes of a warm-up profile, and its label is taken", async () => {
  const answer = await mesh.json("infer", "my", "--example");
  const id = String(answer["inferenceId"]);
  expect(id).toMatch(/^inf_[a-z2-7]{26}$/);
  expect((await mesh.cli("feedback", id, "90")).out).toContain("1 label taken");
  const panes = await eventually("rows in panes", async () => {
    const listed = await mesh.drift.listPanes({ model: "my" }).catch(() => undefined);
    const rows = listed?.panes.reduce((sum, pane) => sum + pane.rows, 0n) ?? 0n;
    return rows >= 3n ? rows : undefined;
  });
  expect(panes).toBe(3n);
  const shown = await eventually("a verdict", async () => {
    const ended = await mesh.cli("drift", "my");
    return ended.code === 0 ? ended.out : undefined;
  });
  expect(shown).toContain("warm-up");
});

test("the call is printed for grpcurl, curl, TypeScript and Python, and curl's runs", async () => {
  for (const [tongue, sign] of [
    ["grpcurl", "grpcurl -plaintext"],
    ["ts", "createGrpcTransport"],
    ["python", "tritonclient"],
  ] as const)
    expect((await mesh.cli("infer", "my", "--example", "--as", tongue)).out).toContain(sign);
  const curl = (await mesh.cli("infer", "my", "--example", "--as", "curl")).out;
  const answer = await run(["sh", "-c", curl]);
  expect(JSON.parse(answer.out)).toMatchObject({ modelName: "my" });
});

test("reflection lists the public services and calls one, as grpcurl does", async () => {
  const buf = join(ROOT, "node_modules/.bin/buf");
  const data =
    '{"model_name":"my","inputs":[{"name":"distance","datatype":"FP32","shape":[1,1],"contents":{"fp32_contents":[450]}}]}';
  const url = `http://${mesh.server}/inference.GRPCInferenceService/ModelInfer`;
  const called = await run([buf, "curl", "--http2-prior-knowledge", "--protocol", "grpc", "-d", data, url]);
  expect(called.err).toBe("");
  expect(JSON.parse(called.out)).toMatchObject({ modelName: "my" });
  const listed = await run([buf, "curl", "--http2-prior-knowledge", "--list-services", `http://${mesh.server}`]);
  for (const service of [
    "driftmesh.v1.Registry",
    "driftmesh.v1.Drift",
    "driftmesh.v1.Feedback",
    "inference.GRPCInferenceService",
  ])
    expect(listed.out).toContain(service);
  expect(listed.out).not.toContain("internal");
});

test("get, describe, find and status show it", async () => {
  expect((await mesh.cli("get", "models")).out).toContain("my");
  expect((await mesh.cli("get", "versions", "-o", "name")).out).toBe("version/my:1\n");
  expect((await mesh.cli("get", "replicas")).out).toContain("ready");
  expect((await mesh.cli("describe", "model", "my")).out).toContain("registered from my.onnx");
  expect((await mesh.cli("find", "--kind", "other")).out).toContain("my");
  const status = await mesh.cli("status", "--data", mesh.data);
  for (const part of ["nats-server", "control-plane", "drift", "gateway"]) expect(status.out).toContain(part);
});

test("metrics are on the same port, with our names", async () => {
  const text = await (await fetch(`http://${mesh.server}/metrics`)).text();
  expect(text).toMatch(/^driftmesh_gateway_requests_total\{.*\} \d+/m);
});

test("Connect and gRPC-Web reach our services on the same port, and foreign origins are not allowed", async () => {
  const url = `http://${mesh.server}/driftmesh.v1.Registry/ListModels`;
  const plain = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
  expect(await plain.json()).toMatchObject({ models: [{ description: { name: "my" } }] });
  const web = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/grpc-web+proto", "x-grpc-web": "1" },
    body: new Uint8Array(5),
  });
  expect(web.headers.get("content-type")).toContain("application/grpc-web");
  const foreign = await fetch(url, {
    method: "OPTIONS",
    headers: { origin: "http://evil.example", "access-control-request-method": "POST" },
  });
  expect(foreign.headers.get("access-control-allow-origin")).toBeNull();
});

test("an offer starts nothing until it is acknowledged by its id", async () => {
  const offer = await mesh.json("deploy", "my", "--no-acknowledge");
  expect(offer).toMatchObject({ state: "DEPLOYMENT_STATE_OFFERED" });
  const ready = await mesh.json("deploy", String(offer["id"]));
  expect(ready).toMatchObject({ id: offer["id"], state: "DEPLOYMENT_STATE_READY" });
});
