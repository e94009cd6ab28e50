// Inferences through the edge over real sockets: routing, bytes, refusals, cancellation, replicas that come and go.
import { createClient } from "@connectrpc/connect";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import { describe, expect, test } from "vitest";
import { Cell } from "#kernel/base/queue.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { Code, fromConnectError } from "#kernel/rpc/connect.ts";
import { grpcCodeOf } from "#kernel/rpc/grpcjs.ts";
import { methodDefinition } from "#kernel/rpc/grpcjs-wire.ts";
import { GRPCInferenceService } from "#proto/inference/grpc_service_pb.ts";
import { caught, EACH, eachOnAStage, PROTOCOLS, routesTo } from "./testing/protocols.ts";
import { controlPlane, replica, type RoutesInit } from "./testing/stage.ts";

const stage = eachOnAStage();
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
      answers.push(await stage().oip.modelInfer({ modelName, id: "x", rawInputContents: raw(8) }, options));
    }
    expect(
      answers.map(({ id, modelName, rawOutputContents }) => [modelName, id, rawOutputContents[0]?.length]),
    ).toEqual([
      ["flights", "x", 8],
      ["dep_f", "x", 8],
    ]);
    expect(seen).toEqual(["inf_x", "inf_x"]);
    expect([...stage().a.headers, ...stage().b.headers]).toEqual([parent, parent]);
  });

  test("of several MiB arrive whole, many at once", async () => {
    const sizes = [0, 1, 70_000, 3 << 20, 9 << 20];
    const calls = Array.from({ length: 20 }, (_, i) => sizes[i % sizes.length] ?? 0).map(async (size) => {
      const answer = await stage().oip.modelInfer({ modelName: "flights", rawInputContents: raw(size) });
      const [content] = answer.rawOutputContents;
      return content?.length === size && content.every((byte) => byte === 7);
    });
    expect(new Set(await Promise.all(calls))).toEqual(new Set([true]));
    expect(Math.min(stage().a.served, stage().b.served)).toBeGreaterThan(0);
  });

  test("may be compressed", async () => {
    const client = new Client(stage().edge.address, credentials.createInsecure(), {
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
    for await (const { inferResponse } of stage().oip.modelStreamInfer(requests())) seen.push(inferResponse);
    expect(seen.map((answer) => answer?.id)).toEqual(["1", "2", "3"]);
    expect(new Set(seen.map((answer) => answer?.modelVersion)).size).toBe(1);
  });

  test("that the replica refuses come back with its code, sentence and fields", async () => {
    const error = await caught(stage().oip.modelInfer({ modelName: "flights", id: "fail" }));
    expect(error).toMatchObject({
      fault: "DM-3001",
      message: "tensor “x” has a wrong shape",
      violations: [{ field: "inputs[0].shape" }],
    });
  });

  test.each([
    ["nobody", "DM-3002", "nobody"],
    ["dep_s", "DM-3005", "clinic"],
    ["dep_w", "DM-3003", "no ready replica"],
    ["", "DM-1002", "names no model"],
  ])("of the model %j are refused by the gateway at once", async (modelName, fault, says) => {
    const error = await caught(stage().oip.modelInfer({ modelName }));
    expect(error).toMatchObject({ fault, message: expect.stringContaining(says) });
  });

  test("of a model without a ready replica: it is not ready, which is no error", async () => {
    expect((await stage().oip.modelReady({ name: "dep_w" })).ready).toBe(false);
    expect((await stage().oip.modelReady({ name: "flights" })).ready).toBe(true);
    expect(await caught(stage().oip.modelReady({ name: "nobody" }))).toMatchObject({ fault: "DM-3002" });
  });

  test("larger than 64 MiB are refused with the limit in the sentence", async () => {
    const client = new Client(stage().edge.address, credentials.createInsecure());
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
      caught(stage().oip.modelInfer({ modelName: "flights", id: "wait" }, { signal: leaving.signal })),
    );
    await expect.poll(() => stage().a.served + stage().b.served).toBe(3);
    leaving.abort();
    await Promise.all(calls);
    await expect.poll(() => stage().a.cancelled + stage().b.cancelled).toBe(3);
  });

  test("end at their deadline, at the caller and at the replica", async () => {
    const call = stage().oip.modelInfer({ modelName: "flights", id: "wait" }, { deadlineMs: 100 });
    expect(grpcCodeOf(await caught(call))).toBe(Code.DeadlineExceeded);
    await expect.poll(() => stage().a.cancelled + stage().b.cancelled).toBe(1);
  });

  test("go on while replicas drain one after the other and come back", async () => {
    let failed = 0;
    let running = true;
    const load = Array.from({ length: 8 }, async () => {
      while (running)
        await stage()
          .oip.modelInfer({ modelName: "flights" })
          .catch(() => (failed += 1));
    });
    for (const leaving of [stage().a, stage().b]) {
      const fresh = await replica("fresh");
      stage().open.push(fresh.server);
      const servedBefore = fresh.served;
      stage().routes.set(routesTo([leaving.server.address, fresh.server.address]));
      await expect.poll(() => fresh.served).toBeGreaterThan(servedBefore + 20);
      stage().routes.set(routesTo([fresh.server.address]));
      await leaving.server.drain(5_000);
    }
    running = false;
    await Promise.all(load);
    expect(failed).toBe(0);
  });

  test("find the living replica when an address in the route answers no connection", async () => {
    const dead = await replica("dead");
    await dead.server[Symbol.asyncDispose]();
    stage().routes.set(routesTo([dead.server.address, stage().a.server.address]));
    await expect.poll(() => stage().b.served).toBe(0);
    const answers = await Promise.all(
      Array.from({ length: 40 }, () => stage().oip.modelInfer({ modelName: "flights" })),
    );
    expect(answers).toHaveLength(40);
    stage().routes.set(routesTo([dead.server.address]));
    await expect
      .poll(async () => {
        const error = await stage()
          .oip.modelInfer({ modelName: "flights" })
          .then(
            () => undefined,
            (e: unknown) => e,
          );
        return error instanceof MeshError ? error.fault : undefined;
      })
      .toBe("DM-3003");
  });

  test("in flight at a replica that dies end with UNAVAILABLE, and the next one is served elsewhere", async () => {
    stage().routes.set(routesTo([stage().a.server.address]));
    await expect.poll(async () => (await stage().oip.modelInfer({ modelName: "flights" })).modelVersion).toBe("a");
    const call = caught(stage().oip.modelInfer({ modelName: "flights", id: "wait" }));
    const before = stage().a.served;
    await expect.poll(() => stage().a.served).toBeGreaterThanOrEqual(before);
    await expect.poll(() => stage().a.served).toBeGreaterThan(1);
    stage().routes.set(routesTo([stage().a.server.address, stage().b.server.address]));
    await stage().a.server[Symbol.asyncDispose]();
    expect(grpcCodeOf(await call)).toBe(Code.Unavailable);
    expect((await stage().oip.modelInfer({ modelName: "flights" })).modelVersion).toBe("b");
  });

  test("go on while the control plane is away, and new routes arrive when it is back", async () => {
    await stage().control[Symbol.asyncDispose]();
    expect((await stage().oip.modelInfer({ modelName: "flights" })).modelName).toBe("flights");
    const routes = new Cell<RoutesInit>({ ...routesTo([]), routes: [] });
    stage().open.push(await controlPlane(routes, stage().control.address));
    await expect
      .poll(
        async () => {
          const error = await stage()
            .oip.modelInfer({ modelName: "flights" })
            .then(
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
    const client = createClient(GRPCInferenceService, PROTOCOLS[protocol](stage().url));
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
