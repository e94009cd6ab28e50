// The rest of the edge over real sockets: control APIs in every protocol, feedback, browsers, exploring, draining.
import { execFile } from "node:child_process";
import { createServer } from "node:net";
import { promisify } from "node:util";
import { fromBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { MeshError } from "#kernel/fault/error.ts";
import { fromConnectError } from "#kernel/rpc/connect.ts";
import { grpcClient } from "#kernel/rpc/grpcjs.ts";
import { LabelBatchSchema } from "#proto/driftmesh/internal/v1/telemetry_pb.ts";
import { Deployments } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Drift } from "#proto/driftmesh/v1/drift_pb.ts";
import { Feedback } from "#proto/driftmesh/v1/feedback_pb.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import { caught, EACH, eachOnAStage, PROTOCOLS } from "./testing/protocols.ts";
import { gateway, idOf } from "./testing/stage.ts";

const BUF = new URL("../node_modules/.bin/buf", import.meta.url).pathname;
const stage = eachOnAStage();

describe.each(EACH)("the control APIs over %s", (protocol) => {
  test("answer, refuse with details, and stream", async () => {
    const transport = PROTOCOLS[protocol](stage().url);
    const registry = createClient(Registry, transport);
    expect((await registry.listModels({ pageToken: "p" })).nextPageToken).toBe("p");
    expect(fromConnectError(await caught(registry.getModel({ name: "x" })))).toMatchObject({
      fault: "DM-2001",
      message: "no model is called “x”",
    });
    let bytes = 0;
    for await (const { chunk } of registry.downloadBlob({})) bytes += chunk.length;
    expect(bytes).toBe(4 << 20);
    const leaving = new AbortController();
    for await (const { id } of createClient(Deployments, transport).watchDeployment(
      { id: "dep_f" },
      { signal: leaving.signal },
    )) {
      expect(id).toBe("dep_f");
      break;
    }
    leaving.abort();
  });

  test("say UNAVAILABLE when what is behind them is away", async () => {
    const error = fromConnectError(
      await caught(createClient(Drift, PROTOCOLS[protocol](stage().url)).listEpisodes({})),
    );
    expect(error).toMatchObject({ fault: "DM-6001", message: expect.stringContaining("drift service") });
  });

  test("take labels durably, once, and refuse a foreign id without taking anything", async () => {
    const feedback = createClient(Feedback, PROTOCOLS[protocol](stage().url));
    const labels = [
      { inferenceId: idOf(1, 10), row: 1, value: 1 },
      { inferenceId: idOf(2, 5), row: 0, value: 0 },
    ];
    for (let i = 0; i < 2; i++) expect((await feedback.sendLabels({ labels })).accepted).toBe(2);
    const bad = [...labels, { inferenceId: "inf_nonsense", row: 0, value: 1 }];
    const error = fromConnectError(await caught(feedback.sendLabels({ labels: bad })));
    expect(error).toMatchObject({ fault: "DM-4001", violations: [{ field: "labels[2].inference_id" }] });
    expect((await stage().edge.labels.info()).lastSeq).toBe(2);
  });
});

describe("feedback", () => {
  test("is published under its track with boot and number of each row", async () => {
    using feedback = grpcClient(Feedback, stage().edge.address);
    await feedback.sendLabels({ labels: [{ inferenceId: idOf(2, 5), row: 3, value: 1, eventTimeMs: 9n }] });
    const reading = new AbortController();
    for await (const event of stage().edge.labels.read({ filter: "mesh.fb.>", fromSeq: 1 }, reading.signal)) {
      if (event.kind !== "message") continue;
      expect(event.message.subject).toBe("mesh.fb.2.2");
      expect(fromBinary(LabelBatchSchema, event.message.payload)).toMatchObject({
        track: 2,
        labels: [{ boot: 7, number: 8n, value: 1, eventTimeMs: 9n }],
      });
      break;
    }
    reading.abort();
  });

  test("streams with acks by the client's number, and a refused batch is said in its place", async () => {
    using feedback = grpcClient(Feedback, stage().edge.address);
    async function* batches() {
      yield { number: 1n, labels: [{ inferenceId: idOf(1, 1), value: 1 }] };
      yield { number: 2n, labels: [{ inferenceId: idOf(3, 1), value: 1 }] };
      yield { number: 3n, labels: [{ inferenceId: idOf(1, 2), value: 0 }] };
    }
    const acks = [];
    for await (const ack of feedback.streamLabels(batches())) acks.push([ack.acknowledged, ack.accepted, ack.error]);
    expect(acks).toEqual([
      [1n, 1, ""],
      [2n, 0, expect.stringMatching(/^\(DM-3005\).*clinic/)],
      [3n, 1, ""],
    ]);
    expect((await stage().edge.labels.info()).lastSeq).toBe(2);
  });

  test("is UNAVAILABLE while the store is away", async () => {
    const edge = await gateway(stage().control.address, { log: () => undefined });
    stage().open.push(edge);
    using feedback = grpcClient(Feedback, edge.address);
    await expect
      .poll(async () => {
        const error = await caught(feedback.sendLabels({ labels: [{ inferenceId: idOf(1, 1), value: 1 }] }));
        return error instanceof MeshError ? `${error.fault} ${error.message}` : "";
      })
      .toMatch(/DM-4003.*store/);
  });
});

describe("the port", () => {
  test("is explored by a foreign client through reflection, which then infers", async () => {
    const args = "curl --http2-prior-knowledge --protocol grpc".split(" ");
    const listed = await promisify(execFile)(BUF, [...args, "--list-services", stage().url]);
    for (const service of ["inference.GRPCInferenceService", "driftmesh.v1.Feedback", "driftmesh.v1.Registry"])
      expect(listed.stdout).toContain(service);
    expect(listed.stdout).not.toContain("internal");
    const request = JSON.stringify({ model_name: "flights", id: "x" });
    const method = `${stage().url}/inference.GRPCInferenceService/ModelInfer`;
    const answer = await promisify(execFile)(BUF, args.concat("-d", request, method));
    expect(JSON.parse(answer.stdout)).toMatchObject({ modelName: "flights", id: "x" });
  });

  test("never shows internal services", async () => {
    const path = `${stage().url}/driftmesh.internal.v1.Sync/FollowRoutes`;
    const init = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" };
    expect((await fetch(path, init)).status).toBe(404);
  });

  test("serves a page, metrics and, to listed origins only, browsers", async () => {
    const edge = await gateway(stage().control.address, { origins: ["http://app.example"] });
    stage().open.push(edge);
    const at = `http://${edge.address}`;
    expect(await (await fetch(at)).text()).toContain(`grpcurl -plaintext ${edge.address} list`);
    const path = `${at}/driftmesh.v1.Registry/ListModels`;
    const preflight = await fetch(path, {
      method: "OPTIONS",
      headers: { origin: "http://app.example", "access-control-request-method": "POST" },
    });
    expect([preflight.status, preflight.headers.get("access-control-allow-origin")]).toEqual([
      204,
      "http://app.example",
    ]);
    const post = (origin: string) =>
      fetch(path, { method: "POST", headers: { origin, "content-type": "application/json" }, body: "{}" });
    const good = await post("http://app.example");
    expect([good.status, good.headers.get("access-control-expose-headers")]).toEqual([
      200,
      expect.stringContaining("grpc-status"),
    ]);
    const bad = await post("http://evil.example");
    expect([bad.status, bad.headers.get("access-control-allow-origin")]).toEqual([403, null]);
    const metrics = await (await fetch(`${at}/metrics`)).text();
    expect(metrics).toContain('driftmesh_gateway_requests_total{method="driftmesh.v1.Registry/ListModels",code="0"');
    expect(await (await fetch(`${at}/metrics/control-plane`)).text()).toContain("driftmesh_rpc_requests_total");
    expect((await fetch(`${at}/metrics/drift`)).status).toBe(503);
    const unknown = await fetch(`${at}/metrics/127.0.0.1:1`);
    expect([unknown.status, await unknown.text()]).toEqual([
      404,
      expect.stringMatching(/^metrics are served of control-plane, drift/),
    ]);
  });

  test("drains without failing calls in flight; watchers are told to begin again", async () => {
    const watching = createClient(Deployments, PROTOCOLS["connect on HTTP/1.1"](stage().url)).watchDeployment({
      id: "d",
    });
    const watch = watching[Symbol.asyncIterator]();
    await watch.next();
    const grpcWatch = createClient(Deployments, PROTOCOLS.grpc(stage().url)).watchDeployment({ id: "d" });
    const watch2 = grpcWatch[Symbol.asyncIterator]();
    await watch2.next();
    const calls = Array.from({ length: 4 }, () => stage().oip.modelInfer({ modelName: "flights", id: "wait" }));
    await expect.poll(() => stage().a.served + stage().b.served).toBe(4);
    const drained = stage().edge.drain(20_000);
    expect(fromConnectError(await caught(watch2.next()))).toMatchObject({ fault: "DM-6001" });
    await caught(watch.next());
    stage().a.release();
    stage().b.release();
    expect((await Promise.all(calls)).map(({ id }) => id)).toEqual(["wait", "wait", "wait", "wait"]);
    await drained;
  });

  test("that is taken is named", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => taken.once("listening", resolve));
    const address = taken.address();
    const port = typeof address === "object" ? address?.port : 0;
    await expect(gateway("127.0.0.1:1", { listen: `127.0.0.1:${port}` })).rejects.toMatchObject({
      fault: "DM-6004",
      message: expect.stringContaining(String(port)),
    });
    taken.close();
    await expect(gateway("127.0.0.1:1", { listen: "0.0.0.0:0" })).rejects.toMatchObject({ fault: "DM-6006" });
  });
});
