// The protocol over a real gRPC connection, in process.
import { afterAll, expect, test } from "vitest";
import { systemClock } from "#kernel/base/clock.ts";
import { silentLogger } from "#kernel/process/log.ts";
import { grpcClient, grpcServer } from "#kernel/rpc/grpcjs.ts";
import { Health } from "#proto/grpc/health/v1/health_pb.ts";
import { ServerReflection } from "#proto/grpc/reflection/v1/reflection_pb.ts";
import { GRPCInferenceService } from "#proto/inference/grpc_service_pb.ts";
import { loadOnnx } from "../runtime/door.ts";
import { brittleModel, echoModel, logisticModel, mixedModel } from "../runtime/testing/onnx.ts";
import { Admission } from "./admission.ts";
import { EventTime } from "./event-time.ts";
import { inferenceService, type Inference } from "./oip.ts";

const KEY = new Uint8Array(32);
const open = new AsyncDisposableStack();
afterAll(() => open.disposeAsync());

async function serve(model: Uint8Array, options: { strict?: boolean; calls?: number } = {}) {
  const stack = new AsyncDisposableStack();
  const recorded: Inference[] = [];
  const runtime = stack.use(await loadOnnx(model));
  const { service, lastNumber } = inferenceService({
    identity: {
      model: "m",
      version: 3,
      track: 1,
      boot: 2,
      scoreOutput: "",
      strict: options.strict ?? false,
      clientEventTime: true,
    },
    runtime,
    macKeys: () => [KEY],
    clock: systemClock,
    eventTime: new EventTime(true),
    ready: () => true,
    observed: () => undefined,
    admission: new Admission({
      calls: options.calls ?? 10,
      bytes: 1 << 20,
    }),
    record: (call) => recorded.push(call),
  });
  const server = stack.use(await grpcServer({ listen: "127.0.0.1:0", services: [service], log: silentLogger() }));
  const client = stack.use(grpcClient(GRPCInferenceService, server.address));
  open.use(stack);
  return { client, recorded, lastNumber, address: server.address };
}

const row = (x: number[]) => ({
  name: "x",
  datatype: "FP32",
  shape: [1n, BigInt(x.length)],
  contents: { fp32Contents: x },
});

test("the id is the client's or ours; the mesh's id travels in header and parameter; numbers are dense", async () => {
  const { client, recorded, lastNumber } = await serve(logisticModel([1]));
  let header: string | undefined;
  const first = await client.modelInfer(
    { modelName: "m", inputs: [row([0])] },
    { onHeaders: (get) => (header = get("driftmesh_inference_id")) },
  );
  const id = first.parameters["driftmesh_inference_id"]?.parameterChoice.value;
  expect([first.id, header]).toEqual([id, id]);
  expect(first).toMatchObject({ modelName: "m", modelVersion: "3" });
  expect(first.outputs[0]?.contents?.fp32Contents).toEqual([0.5]);
  const second = await client.modelInfer({ modelName: "dep_1", id: "mine", inputs: [row([0])] });
  expect(second.id).toBe("mine");
  expect(second.parameters["driftmesh_inference_id"]?.parameterChoice.value).not.toBe(id);
  expect(recorded.map(({ first: number, rows }) => [number, rows])).toEqual([
    [1, 1],
    [2, 1],
  ]);
  expect(lastNumber()).toBe(2);
});

test("names and versions that are not served are NOT_FOUND; metadata is what infer accepts", async () => {
  const { client } = await serve(mixedModel({ red: 1 }));
  await expect(client.modelInfer({ modelName: "other" })).rejects.toMatchObject({ fault: "DM-3002" });
  await expect(client.modelInfer({ modelName: "m", modelVersion: "4" })).rejects.toMatchObject({ fault: "DM-3002" });
  await expect(client.modelReady({ name: "other" })).rejects.toMatchObject({ fault: "DM-3002" });
  expect(await client.modelReady({ name: "m", version: "3" })).toMatchObject({ ready: true });
  const metadata = await client.modelMetadata({ name: "m" });
  expect(metadata.versions).toEqual(["3"]);
  expect(metadata.inputs.map(({ name, datatype, shape }) => [name, datatype, shape.map(Number)])).toEqual([
    ["amount", "FP32", [-1, 1]],
    ["colour", "BYTES", [-1, 1]],
  ]);
});

test("what the model cannot take is INVALID_ARGUMENT with the field, and takes no number", async () => {
  const { client, lastNumber } = await serve(logisticModel([1, 2]));
  const call = client.modelInfer({ modelName: "m", inputs: [row([1])] });
  await expect(call).rejects.toMatchObject({ fault: "DM-3001", violations: [{ field: "inputs[0].shape" }] });
  const parameters = {
    driftmesh_event_time: { parameterChoice: { case: "stringParam" as const, value: "yesterday" } },
  };
  await expect(client.modelInfer({ modelName: "m", inputs: [row([1, 2])], parameters })).rejects.toMatchObject({
    fault: "DM-3001",
  });
  expect(lastNumber()).toBe(0);
});

test("a failure of the model is DM-3006 and is recorded without a score; in strict mode it quotes nothing", async () => {
  const input = { name: "index", datatype: "INT64", shape: [1n], contents: { int64Contents: [4711n] } };
  const plain = await serve(brittleModel());
  await expect(plain.client.modelInfer({ modelName: "m", inputs: [input] })).rejects.toMatchObject({
    fault: "DM-3006",
    message: expect.stringContaining("4711"),
  });
  expect(plain.recorded[0]?.scores[0]).toBeNaN();
  const strict = await serve(brittleModel(), { strict: true });
  await expect(strict.client.modelInfer({ modelName: "m", inputs: [input] })).rejects.toMatchObject({
    fault: "DM-3006",
    message: expect.not.stringContaining("4711"),
  });
});

test("over the bound a call is refused at once, to be tried later", async () => {
  const { client } = await serve(logisticModel([1]), { calls: 0 });
  await expect(client.modelInfer({ modelName: "m", inputs: [row([0])] })).rejects.toMatchObject({ fault: "DM-3004" });
});

test("methods that are not served say what to do instead", async () => {
  const { client } = await serve(echoModel("FP32"));
  await expect(client.repositoryIndex({})).rejects.toMatchObject({ fault: "DM-7001" });
  await expect(client.repositoryModelLoad({})).rejects.toThrow("control plane");
  const stream = client.modelStreamInfer((async function* () {})());
  await expect(stream[Symbol.asyncIterator]().next()).rejects.toThrow("ModelInfer");
});

test("health and reflection know the service", async () => {
  const { address } = await serve(echoModel("FP32"));
  using health = grpcClient(Health, address);
  expect(await health.check({ service: "inference.GRPCInferenceService" })).toMatchObject({ status: 1 });
  using reflection = grpcClient(ServerReflection, address);
  const request = { messageRequest: { case: "listServices" as const, value: "" } };
  for await (const answer of reflection.serverReflectionInfo(
    (async function* () {
      yield request;
    })(),
  )) {
    const { messageResponse } = answer;
    expect(
      messageResponse.case === "listServicesResponse" && messageResponse.value.service.map(({ name }) => name),
    ).toContain("inference.GRPCInferenceService");
  }
});
