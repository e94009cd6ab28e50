// The edge over real sockets: inferences as bytes, control APIs in every protocol, feedback, browsers, draining.
import { execFile } from "node:child_process";
import { createServer } from "node:net";
import { promisify } from "node:util";
import { fromBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cell } from "#kernel/base/queue.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { closeConnections, Code, fromConnectError } from "#kernel/rpc/connect.ts";
import { grpcClient, grpcCodeOf, type GrpcClient } from "#kernel/rpc/grpcjs.ts";
import { methodDefinition } from "#kernel/rpc/grpcjs-wire.ts";
import { LabelBatchSchema } from "#proto/driftmesh/internal/v1/telemetry_pb.ts";
import { Deployments } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Drift } from "#proto/driftmesh/v1/drift_pb.ts";
import { Feedback } from "#proto/driftmesh/v1/feedback_pb.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import { GRPCInferenceService } from "#proto/inference/grpc_service_pb.ts";
import { controlPlane, gateway, idOf, KEY, replica, type Replica, type RoutesInit } from "./testing/stage.ts";

const BUF = new URL("../node_modules/.bin/buf", import.meta.url).pathname;
const PROTOCOLS = {
  grpc: (url: string) => createGrpcTransport({ baseUrl: url }),
  "grpc-web on HTTP/1.1": (url: string) => createGrpcWebTransport({ baseUrl: url, httpVersion: "1.1" }),
  "grpc-web on HTTP/2": (url: string) => createGrpcWebTransport({ baseUrl: url, httpVersion: "2" }),
  "connect on HTTP/1.1": (url: string) => createConnectTransport({ baseUrl: url, httpVersion: "1.1" }),
  "connect JSON on HTTP/1.1": (url: string) =>
    createConnectTransport({ baseUrl: url, httpVersion: "1.1", useBinaryFormat: false }),
  "connect on HTTP/2": (url: string) => createConnectTransport({ baseUrl: url, httpVersion: "2" }),
};
const EACH = Object.keys(PROTOCOLS) as (keyof typeof PROTOCOLS)[];

type Stage = {
  routes: Cell<RoutesInit>;
  control: Awaited<ReturnType<typeof controlPlane>>;
  edge: Awaited<ReturnType<typeof gateway>>;
  a: Replica;
  b: Replica;
  oip: GrpcClient<typeof GRPCInferenceService>;
};
let stage: Stage;
const open: (AsyncDisposable | Disposable)[] = [];

function routesTo(endpoints: readonly string[]): RoutesInit {
  return {
    routes: [{ model: "flights", arms: [{ version: 1, weight: 100, endpoints: [...endpoints] }] }],
    deployments: [
      { id: "dep_f", model: "flights", follows: true },
      { id: "dep_s", model: "scans", strictNode: "clinic" },
      { id: "dep_w", model: "flights", state: "Pending" },
    ],
    macKeys: [KEY],
    tracks: [
      { ordinal: 1, model: "flights", scope: "open" },
      { ordinal: 2, model: "planes", scope: "open" },
      { ordinal: 3, model: "scans", scope: "node/clinic" },
    ],
  };
}

beforeEach(async () => {
  const [a, b] = await Promise.all([replica("a"), replica("b")]);
  const routes = new Cell<RoutesInit>(routesTo([a.server.address, b.server.address]));
  const control = await controlPlane(routes);
  const edge = await gateway(control.address);
  const oip = grpcClient(GRPCInferenceService, edge.address);
  stage = { routes, control, edge, a, b, oip };
  open.push(oip, edge, control, a.server, b.server);
  await expect.poll(async () => (await oip.serverReady({})).ready).toBe(true);
});
afterEach(async () => {
  closeConnections();
  for (const one of open.splice(0)) {
    if (Symbol.asyncDispose in one) await one[Symbol.asyncDispose]();
    else one[Symbol.dispose]();
  }
});

const url = (): string => `http://${stage.edge.address}`;
async function caught(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.unreachable("expected an error"),
    (error: unknown) => error,
  );
}
const raw = (bytes: number): Uint8Array[] => [new Uint8Array(bytes).fill(7)];

describe("inferences", () => {
  test("reach a replica by model and by deployment; headers, trailers and trace go through", async () => {
    const seen: (string | undefined)[] = [];
    const parent = `00-${"a1".repeat(16)}-${"b2".repeat(8)}-01`;
    const answers = [];
    for (const modelName of ["flights", "dep_f"]) {
      const options = {
        headers: { traceparent: parent },
        onHeaders: (get: (name: string) => string | undefined) => seen.push(get("driftmesh_inference_id")),
      };
      answers.push(await stage.oip.modelInfer({ modelName, id: "x", rawInputContents: raw(8) }, options));
    }
    expect(
      answers.map(({ id, modelName, rawOutputContents }) => [modelName, id, rawOutputContents[0]?.length]),
    ).toEqual([
      ["flights", "x", 8],
      ["dep_f", "x", 8],
    ]);
    expect(seen).toEqual(["inf_x", "inf_x"]);
    expect([...stage.a.headers, ...stage.b.headers]).toEqual([parent, parent]);
  });

  test("of several MiB arrive whole, many at once", async () => {
    const sizes = [0, 1, 70_000, 3 << 20, 9 << 20];
    const calls = Array.from({ length: 20 }, (_, i) => sizes[i % sizes.length] ?? 0).map(async (size) => {
      const answer = await stage.oip.modelInfer({ modelName: "flights", rawInputContents: raw(size) });
      const [content] = answer.rawOutputContents;
      return content?.length === size && content.every((byte) => byte === 7);
    });
    expect(new Set(await Promise.all(calls))).toEqual(new Set([true]));
    expect(Math.min(stage.a.served, stage.b.served)).toBeGreaterThan(0);
  });

  test("may be compressed", async () => {
    const client = new Client(stage.edge.address, credentials.createInsecure(), {
      "grpc.default_compression_algorithm": 2,
    });
    const { path, requestSerialize, responseDeserialize } = methodDefinition(
      GRPCInferenceService,
      GRPCInferenceService.method.modelInfer,
    );
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const request = { modelName: "flights", rawInputContents: raw(5_000) };
    client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, new Metadata(), (error, value) =>
      error === null ? resolve(value) : reject(error),
    );
    expect(await promise).toMatchObject({ modelName: "flights" });
    client.close();
  });

  test("stream both ways through one replica", async () => {
    async function* requests() {
      for (const id of ["1", "2", "3"]) yield { modelName: "flights", id };
    }
    const seen = [];
    for await (const { inferResponse } of stage.oip.modelStreamInfer(requests())) seen.push(inferResponse);
    expect(seen.map((answer) => answer?.id)).toEqual(["1", "2", "3"]);
    expect(new Set(seen.map((answer) => answer?.modelVersion)).size).toBe(1);
  });

  test("that the replica refuses come back with its code, sentence and fields", async () => {
    const error = await caught(stage.oip.modelInfer({ modelName: "flights", id: "fail" }));
    expect(error).toMatchObject({
      fault: "DM-3001",
      message: "tensor “x” has a wrong shape",
      violations: [{ field: "inputs[0].shape" }],
    });
  });

  test.each([
    ["nobody", "DM-3002", "nobody"],
    ["dep_s", "DM-3005", "clinic"],
    ["dep_w", "DM-1002", undefined],
    ["", "DM-1002", "names no model"],
  ])("of the model %j are refused by the gateway at once", async (modelName, fault, says) => {
    if (modelName === "dep_w") {
      // Follows nothing and has no replicas of its own.
      expect(await caught(stage.oip.modelInfer({ modelName }))).toMatchObject({ fault: "DM-3003" });
      expect((await stage.oip.modelReady({ name: modelName })).ready).toBe(false);
      return;
    }
    const error = await caught(stage.oip.modelInfer({ modelName }));
    expect(error).toMatchObject({ fault, message: expect.stringContaining(String(says)) });
  });

  test("larger than 64 MiB are refused with the limit in the sentence", async () => {
    const client = new Client(stage.edge.address, credentials.createInsecure());
    const { path } = methodDefinition(GRPCInferenceService, GRPCInferenceService.method.modelInfer);
    const { promise, resolve } = Promise.withResolvers<unknown>();
    const big = Buffer.alloc((64 << 20) + 1);
    client.makeUnaryRequest(
      path,
      () => big,
      (bytes) => bytes,
      {},
      new Metadata(),
      (error) => resolve(error),
    );
    const error = await promise;
    expect(error).toMatchObject({ code: Code.ResourceExhausted, details: expect.stringContaining("67108864") });
    client.close();
  });

  test("that the caller cancels are cancelled at the replica", async () => {
    const leaving = new AbortController();
    const calls = Array.from({ length: 3 }, () =>
      caught(stage.oip.modelInfer({ modelName: "flights", id: "wait" }, { signal: leaving.signal })),
    );
    await expect.poll(() => stage.a.served + stage.b.served).toBe(3);
    leaving.abort();
    await Promise.all(calls);
    await expect.poll(() => stage.a.cancelled + stage.b.cancelled).toBe(3);
  });

  test("end at their deadline, at the caller and at the replica", async () => {
    const call = stage.oip.modelInfer({ modelName: "flights", id: "wait" }, { deadlineMs: 100 });
    expect(grpcCodeOf(await caught(call))).toBe(Code.DeadlineExceeded);
    await expect.poll(() => stage.a.cancelled + stage.b.cancelled).toBe(1);
  });

  test("go on while replicas drain one after the other and come back", async () => {
    let failed = 0;
    let running = true;
    const load = Array.from({ length: 8 }, async () => {
      while (running) await stage.oip.modelInfer({ modelName: "flights" }).catch(() => (failed += 1));
    });
    for (const leaving of [stage.a, stage.b]) {
      const fresh = await replica("fresh");
      open.push(fresh.server);
      const servedBefore = fresh.served;
      stage.routes.set(routesTo([leaving.server.address, fresh.server.address]));
      await expect.poll(() => fresh.served).toBeGreaterThan(servedBefore + 20);
      stage.routes.set(routesTo([fresh.server.address]));
      await leaving.server.drain(5_000);
    }
    running = false;
    await Promise.all(load);
    expect(failed).toBe(0);
  });

  test("find the living replica when an address in the route answers no connection", async () => {
    const dead = await replica("dead");
    await dead.server[Symbol.asyncDispose]();
    stage.routes.set(routesTo([dead.server.address, stage.a.server.address]));
    await expect.poll(() => stage.b.served).toBe(0);
    const answers = await Promise.all(Array.from({ length: 40 }, () => stage.oip.modelInfer({ modelName: "flights" })));
    expect(answers).toHaveLength(40);
    stage.routes.set(routesTo([dead.server.address]));
    await expect
      .poll(async () => {
        const error = await stage.oip.modelInfer({ modelName: "flights" }).then(
          () => undefined,
          (e: unknown) => e,
        );
        return error instanceof MeshError ? error.fault : undefined;
      })
      .toBe("DM-3003");
  });

  test("in flight at a replica that dies end with UNAVAILABLE, and the next one is served elsewhere", async () => {
    stage.routes.set(routesTo([stage.a.server.address]));
    await expect.poll(async () => (await stage.oip.modelInfer({ modelName: "flights" })).modelVersion).toBe("a");
    const call = caught(stage.oip.modelInfer({ modelName: "flights", id: "wait" }));
    const before = stage.a.served;
    await expect.poll(() => stage.a.served).toBeGreaterThanOrEqual(before);
    await expect.poll(() => stage.a.served).toBeGreaterThan(1);
    stage.routes.set(routesTo([stage.a.server.address, stage.b.server.address]));
    await stage.a.server[Symbol.asyncDispose]();
    expect(grpcCodeOf(await call)).toBe(Code.Unavailable);
    expect((await stage.oip.modelInfer({ modelName: "flights" })).modelVersion).toBe("b");
  });

  test("go on while the control plane is away, and new routes arrive when it is back", async () => {
    await stage.control[Symbol.asyncDispose]();
    expect((await stage.oip.modelInfer({ modelName: "flights" })).modelName).toBe("flights");
    const routes = new Cell<RoutesInit>({ ...routesTo([]), routes: [] });
    open.push(await controlPlane(routes, stage.control.address));
    await expect
      .poll(
        async () => {
          const error = await stage.oip.modelInfer({ modelName: "flights" }).then(
            () => undefined,
            (e: unknown) => e,
          );
          return error instanceof MeshError ? error.fault : undefined;
        },
        { timeout: 10_000 },
      )
      .toBe("DM-3002");
  });

  test.each(EACH)("work over %s", async (protocol) => {
    const client = createClient(GRPCInferenceService, PROTOCOLS[protocol](url()));
    let id: string | null = null;
    const answer = await client.modelInfer(
      { modelName: "flights", id: "x", rawInputContents: raw(3) },
      { onHeader: (headers) => (id = headers.get("driftmesh_inference_id")) },
    );
    expect([answer.id, answer.rawOutputContents[0]?.length, id]).toEqual(["x", 3, "inf_x"]);
    const refused = fromConnectError(await caught(client.modelInfer({ modelName: "nobody" })));
    expect(refused).toMatchObject({ fault: "DM-3002" });
    const failed = fromConnectError(await caught(client.modelInfer({ modelName: "flights", id: "fail" })));
    expect(failed).toMatchObject({ fault: "DM-3001", violations: [{ field: "inputs[0].shape" }] });
  });
});

describe.each(EACH)("the control APIs over %s", (protocol) => {
  test("answer, refuse with details, and stream", async () => {
    const transport = PROTOCOLS[protocol](url());
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
    const error = fromConnectError(await caught(createClient(Drift, PROTOCOLS[protocol](url())).listEpisodes({})));
    expect(error).toMatchObject({ fault: "DM-6001", message: expect.stringContaining("drift service") });
  });

  test("take labels durably, once, and refuse a foreign id without taking anything", async () => {
    const feedback = createClient(Feedback, PROTOCOLS[protocol](url()));
    const labels = [
      { inferenceId: idOf(1, 10), row: 1, value: 1 },
      { inferenceId: idOf(2, 5), row: 0, value: 0 },
    ];
    for (let i = 0; i < 2; i++) expect((await feedback.sendLabels({ labels })).accepted).toBe(2);
    const bad = [...labels, { inferenceId: "inf_nonsense", row: 0, value: 1 }];
    const error = fromConnectError(await caught(feedback.sendLabels({ labels: bad })));
    expect(error).toMatchObject({ fault: "DM-4001", violations: [{ field: "labels[2].inference_id" }] });
    expect((await stage.edge.labels.info()).lastSeq).toBe(2);
  });
});

describe("feedback", () => {
  test("is published under its track with boot and number of each row", async () => {
    using feedback = grpcClient(Feedback, stage.edge.address);
    await feedback.sendLabels({ labels: [{ inferenceId: idOf(2, 5), row: 3, value: 1, eventTimeMs: 9n }] });
    const reading = new AbortController();
    for await (const event of stage.edge.labels.read({ filter: "mesh.fb.>", fromSeq: 1 }, reading.signal)) {
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
    using feedback = grpcClient(Feedback, stage.edge.address);
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
    expect((await stage.edge.labels.info()).lastSeq).toBe(2);
  });

  test("is UNAVAILABLE while the store is away", async () => {
    const edge = await gateway(stage.control.address, { log: () => undefined });
    open.push(edge);
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
    const listed = await promisify(execFile)(BUF, [...args, "--list-services", url()]);
    for (const service of ["inference.GRPCInferenceService", "driftmesh.v1.Feedback", "driftmesh.v1.Registry"])
      expect(listed.stdout).toContain(service);
    expect(listed.stdout).not.toContain("internal");
    const request = JSON.stringify({ model_name: "flights", id: "x" });
    const method = `${url()}/inference.GRPCInferenceService/ModelInfer`;
    const answer = await promisify(execFile)(BUF, args.concat("-d", request, method));
    expect(JSON.parse(answer.stdout)).toMatchObject({ modelName: "flights", id: "x" });
  });

  test("never shows internal services", async () => {
    const path = `${url()}/driftmesh.internal.v1.Sync/FollowRoutes`;
    const init = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" };
    expect((await fetch(path, init)).status).toBe(404);
  });

  test("serves a page, metrics and, to listed origins only, browsers", async () => {
    const edge = await gateway(stage.control.address, { origins: ["http://app.example"] });
    open.push(edge);
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
  });

  test("drains without failing calls in flight; watchers are told to begin again", async () => {
    const watching = createClient(Deployments, PROTOCOLS["connect on HTTP/1.1"](url())).watchDeployment({ id: "d" });
    const watch = watching[Symbol.asyncIterator]();
    await watch.next();
    const grpcWatch = createClient(Deployments, PROTOCOLS.grpc(url())).watchDeployment({ id: "d" });
    const watch2 = grpcWatch[Symbol.asyncIterator]();
    await watch2.next();
    const calls = Array.from({ length: 4 }, () => stage.oip.modelInfer({ modelName: "flights", id: "wait" }));
    await expect.poll(() => stage.a.served + stage.b.served).toBe(4);
    const drained = stage.edge.drain(20_000);
    expect(fromConnectError(await caught(watch2.next()))).toMatchObject({ fault: "DM-6001" });
    await caught(watch.next());
    stage.a.release();
    stage.b.release();
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
