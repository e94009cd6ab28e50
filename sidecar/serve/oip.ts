// The Open Inference Protocol of one replica: one version of one model.
// O1 n rows of a request are n inferences: they take n consecutive numbers of this boot, in the order in which calls are answered.
// O2 The mesh's id always travels, in header and parameter `driftmesh_inference_id`; the client's `id` is echoed and never kept.
// O3 Recording happens after the answer and can neither delay nor fail it.
// O4 In strict mode no error quotes what the runtime said: it may hold values.
import { MeshError, messageOf } from "#kernel/fault/error.ts";
import type { Clock } from "#kernel/base/clock.ts";
import { inferenceId } from "#kernel/domain/ids.ts";
import { startSpan } from "#kernel/process/trace.ts";
import { grpcService, type GrpcCall, type GrpcService } from "#kernel/rpc/grpcjs.ts";
import { GRPCInferenceService, type ModelInferRequest } from "#proto/inference/grpc_service_pb.ts";
import { scoresOf, type Runtime, type Tensor } from "../runtime/door.ts";
import type { Admission } from "./admission.ts";
import { statedTimes, type EventTime } from "./event-time.ts";
import { readInputs, readOutputs, weightOf } from "./read.ts";
import { writeOutputs } from "./write.ts";

/** What a call leaves behind for the recorder; its tensors are not touched again by anybody else. */
export type Inference = {
  first: number;
  rows: number;
  inputs: readonly Tensor[];
  /** NaN where the call failed. */
  scores: Float32Array;
  eventMs: Float64Array;
  weight: number;
};

export type ServeDeps = {
  identity: {
    model: string;
    version: number;
    track: number;
    boot: number;
    scoreOutput: string;
    strict: boolean;
    clientEventTime: boolean;
  };
  runtime: Runtime;
  /** The newest MAC keys; the first makes. */
  macKeys: () => readonly Uint8Array[];
  admission: Admission;
  eventTime: EventTime;
  record: (inference: Inference) => void;
  ready: () => boolean;
  clock: Clock;
  observed: (outcome: "answered" | "refused" | "failed", rows: number, ms: number) => void;
};

const NAME = "driftmesh";
const HEADER = "driftmesh_inference_id";
const EVENT_TIME = "driftmesh_event_time";
/** Faults of ours, not of the caller. */
const FAILURES: readonly string[] = ["DM-3006", "DM-6008"];
const ELSEWHERE = "a replica serves one version; the control plane loads and unloads models";

/** The service, and the highest number given so far. */
export function inferenceService(deps: ServeDeps): { service: GrpcService; lastNumber: () => number } {
  const { identity, runtime } = deps;
  const numbers = { last: 0 };
  const version = String(identity.version);
  const meta = {
    versions: [version],
    platform: "onnxruntime_onnx",
    inputs: runtime.signature.inputs.map(wireSpec),
    outputs: runtime.signature.outputs.map(wireSpec),
  };
  const service = grpcService(GRPCInferenceService, {
    serverLive: () => ({ live: true }),
    serverReady: () => ({ ready: deps.ready() }),
    serverMetadata: () => ({ name: NAME, version: "0.1.0", extensions: [] }),
    modelReady: (request) => {
      checkName(identity, request.name, request.version);
      return { ready: deps.ready() };
    },
    modelMetadata: (request) => {
      checkName(identity, request.name, request.version);
      return { name: request.name, ...meta };
    },
    modelInfer: (request, call) => infer(deps, numbers, request, call),
    modelStreamInfer: () => refuseMethod("ModelStreamInfer: streams of inferences are not built yet; call ModelInfer"),
    repositoryIndex: () => refuseMethod(`RepositoryIndex: ${ELSEWHERE}`),
    repositoryModelLoad: () => refuseMethod(`RepositoryModelLoad: ${ELSEWHERE}`),
    repositoryModelUnload: () => refuseMethod(`RepositoryModelUnload: ${ELSEWHERE}`),
  });
  return { service, lastNumber: () => numbers.last };
}

/** One call: admitted, answered, seen by metrics and trace. */
async function infer(deps: ServeDeps, numbers: { last: number }, request: ModelInferRequest, call: GrpcCall) {
  const { admission, clock, observed } = deps;
  const startMs = clock.monotonicMs();
  const weight = weightOf(request);
  const span = startSpan("sidecar.ModelInfer", call.metadata.get("traceparent"));
  let admitted = false;
  try {
    checkName(deps.identity, request.modelName, request.modelVersion);
    admission.enter(weight);
    admitted = true;
    const { rows, response } = await answer(deps, numbers, request, { call, weight });
    span.set("rows", rows);
    observed("answered", rows, clock.monotonicMs() - startMs);
    return response;
  } catch (thrown) {
    const fault = thrown instanceof MeshError ? thrown.fault : "DM-6008";
    span.fail(fault);
    observed(FAILURES.includes(fault) ? "failed" : "refused", 0, 0);
    throw thrown;
  } finally {
    span.end();
    if (admitted) admission.leave(weight);
  }
}

type Admitted = { call: GrpcCall; weight: number };

async function answer(
  deps: ServeDeps,
  numbers: { last: number },
  request: ModelInferRequest,
  { call, weight }: Admitted,
) {
  const { identity, runtime } = deps;
  const read = readInputs(request, runtime.signature.inputs);
  const wanted = readOutputs(request.outputs, runtime.signature.outputs);
  const stated = timesOf(request, identity.clientEventTime, read.rows);
  if ((call.deadlineMs ?? 1) <= 0) throw new MeshError("DM-3007", "the deadline passed before the model was asked");
  const { tensors, first } = await run(deps, numbers, { ...read, weight, stated });
  const id = inferenceId({ ...identity, number: first }, firstKey(deps));
  call.setHeader(HEADER, id);
  const outputs = wanted.flatMap((place) => tensors[place] ?? []);
  const response = {
    modelName: request.modelName,
    modelVersion: String(identity.version),
    id: request.id === "" ? id : request.id,
    parameters: { [HEADER]: { parameterChoice: { case: "stringParam" as const, value: id } } },
    ...writeOutputs(outputs, request.rawInputContents.length > 0),
  };
  return { rows: read.rows, response };
}

type Work = { inputs: readonly Tensor[]; rows: number; weight: number; stated: (row: number) => number | undefined };

/** Runs the model and leaves the rows to the recorder, scored or, when it failed, without a score (O1). */
async function run(
  deps: ServeDeps,
  numbers: { last: number },
  work: Work,
): Promise<{ tensors: Tensor[]; first: number }> {
  let tensors: Tensor[];
  try {
    tensors = await deps.runtime.infer(work.inputs);
  } catch (thrown) {
    leave(deps, numbers, work, new Float32Array(work.rows).fill(Number.NaN));
    const said = deps.identity.strict ? "its runtime refused this input" : messageOf(thrown);
    throw new MeshError(
      "DM-3006",
      `the model failed on this input: ${said}`,
      deps.identity.strict ? {} : { cause: thrown },
    );
  }
  const first = leave(deps, numbers, work, scoresOf(tensors, deps.identity.scoreOutput, work.rows));
  return { tensors, first };
}

function leave(
  deps: ServeDeps,
  numbers: { last: number },
  { inputs, rows, weight, stated }: Work,
  scores: Float32Array,
): number {
  const first = numbers.last + 1;
  numbers.last += rows;
  const nowMs = deps.clock.wallMs();
  const eventMs = new Float64Array(rows);
  for (let row = 0; row < rows; row++) eventMs[row] = deps.eventTime.accept(stated(row), nowMs);
  deps.record({ first, rows, inputs, scores, eventMs, weight });
  return first;
}

function timesOf(request: ModelInferRequest, honoured: boolean, rows: number): (row: number) => number | undefined {
  const none = (): undefined => undefined;
  if (!honoured) return none;
  const stated = statedTimes(request.parameters[EVENT_TIME], rows);
  if (stated.kind === "none") return none;
  if (stated.kind === "times") return stated.of;
  const message = `parameter ${EVENT_TIME} is not a time; expected ${stated.expected}`;
  throw new MeshError("DM-3001", message, {
    violations: [{ field: `parameters.${EVENT_TIME}`, description: message }],
  });
}

function checkName(identity: ServeDeps["identity"], name: string, version: string): void {
  // Whether a deployment id is ours is known to whoever routed the call here.
  if (name !== identity.model && !name.startsWith("dep_")) {
    throw new MeshError(
      "DM-3002",
      `this replica serves model "${identity.model}" and its deployments, not what was asked for`,
    );
  }
  if (version !== "" && version !== String(identity.version)) {
    throw new MeshError(
      "DM-3002",
      `this replica serves version ${identity.version} of "${identity.model}", not the version that was asked for`,
    );
  }
}

function firstKey(deps: ServeDeps): Uint8Array {
  const key = deps.macKeys()[0];
  if (key === undefined) throw new MeshError("DM-6008", "the replica has no key to make inference ids with");
  return key;
}

function refuseMethod(says: string): never {
  throw new MeshError("DM-7001", says);
}

const wireSpec = ({ name, datatype, shape }: { name: string; datatype: string; shape: readonly number[] }) => ({
  name,
  datatype,
  shape: shape.map(BigInt),
});
