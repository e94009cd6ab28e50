// ONNX models by onnxruntime-node, on the calling thread: a run of a small model costs 25 us, less than handing it to another.
// X1 The runtime logs nothing: its messages quote values, and a strict node's logs must not.
// X2 Only datatypes that the binding can hold are served; a model with another does not load.
import { env, InferenceSession, Tensor as OrtTensor } from "onnxruntime-node";
import { MeshError, messageOf } from "#kernel/fault/error.ts";
import type { Datatype, Signature, TensorSpec } from "#kernel/domain/model.ts";
import type { Runtime } from "./runtime.ts";
import type { Tensor } from "./tensor.ts";

const DATATYPE_OF: Readonly<Record<string, Datatype>> = {
  bool: "BOOL",
  uint8: "UINT8",
  uint16: "UINT16",
  uint32: "UINT32",
  uint64: "UINT64",
  int8: "INT8",
  int16: "INT16",
  int32: "INT32",
  int64: "INT64",
  float16: "FP16",
  float32: "FP32",
  float64: "FP64",
  string: "BYTES",
};
type OrtType = OrtTensor.Type;
const ORT_TYPE: Readonly<Record<string, string>> = Object.fromEntries(
  Object.entries(DATATYPE_OF).map(([ort, datatype]) => [datatype, ort]),
);
/** 4 is fatal only (X1). */
const SILENT = 4;

/** Loads a model; DM-5001 with a sentence when the content is not one. `cpu` is the replica's share. */
export async function loadOnnx(content: Uint8Array, cpu = 1): Promise<Runtime> {
  prepare();
  const threads = Math.max(1, Math.floor(cpu));
  let session: InferenceSession;
  try {
    session = await InferenceSession.create(content, {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: "sequential",
      enableCpuMemArena: false,
      logSeverityLevel: SILENT,
    });
  } catch (thrown) {
    throw new MeshError("DM-5001", `the file is not an ONNX model that can be loaded: ${messageOf(thrown)}`, {
      cause: thrown,
    });
  }
  const signature: Signature = {
    inputs: session.inputMetadata.map(specOf),
    outputs: session.outputMetadata.map(specOf),
  };
  return new OnnxRuntime(session, signature);
}

class OnnxRuntime implements Runtime {
  readonly signature: Signature;
  readonly #session: InferenceSession;

  constructor(session: InferenceSession, signature: Signature) {
    this.#session = session;
    this.signature = signature;
  }

  async infer(inputs: readonly Tensor[]): Promise<Tensor[]> {
    const feeds: Record<string, OrtTensor> = {};
    for (const input of inputs) feeds[input.name] = ortTensor(input);
    const answers = await this.#session.run(feeds, { logSeverityLevel: SILENT });
    return this.signature.outputs.map(({ name, datatype }) => {
      const answer = answers[name];
      if (answer === undefined) throw new Error(`the model gave no output ${name}`);
      return { name, datatype, shape: answer.dims, values: answer.data };
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#session.release();
  }
}

function ortTensor({ datatype, values, shape }: Tensor): OrtTensor {
  return new OrtTensor(ORT_TYPE[datatype] as OrtType, values, shape);
}

function specOf(metadata: InferenceSession.ValueMetadata): TensorSpec {
  if (!metadata.isTensor) {
    throw new MeshError(
      "DM-5001",
      `${metadata.name} is a sequence or a map; the mesh serves tensors only (skl2onnx: options={"zipmap": False})`,
    );
  }
  const datatype = DATATYPE_OF[metadata.type];
  if (datatype === undefined)
    throw new MeshError("DM-5001", `${metadata.name} has datatype ${metadata.type}, which is not served`);
  return { name: metadata.name, datatype, shape: metadata.shape.map((dim) => (typeof dim === "number" ? dim : -1)) };
}

let prepared = false;

/**
 * The binding of 1.30 cannot read Float16Array (it sees no bytes), yet the library prefers it where it exists. It decides when the
 * first tensor is made: with the class out of sight it takes Uint16Array, which works.
 */
function prepare(): void {
  if (prepared) return;
  prepared = true;
  env.logLevel = "fatal";
  const world: { Float16Array?: unknown } = globalThis;
  const half = Object.getOwnPropertyDescriptor(world, "Float16Array");
  delete world.Float16Array;
  void new OrtTensor("float32", Float32Array.of(0), [1]);
  if (half !== undefined) Object.defineProperty(world, "Float16Array", half);
}
