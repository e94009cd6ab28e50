// What a caller needs to use a deployment: endpoint, an example that works as it is, and where the truth goes.
import { create, type MessageInitShape, toJsonString } from "@bufbuild/protobuf";
import type { Datatype, Feature, Signature, TensorSpec } from "#kernel/domain/model.ts";
import type { DeploymentSpec, DeploymentStatus } from "#kernel/domain/state.ts";
import { type InferTensorContentsSchema, ModelInferRequestSchema } from "#proto/inference/grpc_service_pb.ts";
import { descriptionOf, type View, versionOf } from "../world/door.ts";

export type Instructions = {
  endpoint: string;
  modelName: string;
  inputs: readonly TensorSpec[];
  outputs: readonly TensorSpec[];
  exampleRequest: string;
  exampleCall: string;
  resources: { cpu: number; memoryBytes: number };
  feedbackEndpoint: string;
  feedbackExample: string;
  labelHorizonHours: number;
};

type Example = Readonly<Record<string, number | string>>;

/** Instructions of a deployment whose version is `version`; undefined as long as there is none. */
export function instructionsOf(
  view: View,
  spec: DeploymentSpec,
  status: Pick<DeploymentStatus, "endpoint"> | undefined,
  about: { version: number; endpoint: string },
): Instructions | undefined {
  const version = versionOf(view, spec.model, about.version);
  const description = descriptionOf(view, spec.model);
  if (version === undefined || description === undefined) return undefined;
  // A strict deployment is served at its replica's own address, known once it is Ready.
  const endpoint = spec.mode === "strict" ? (status?.endpoint ?? "") : about.endpoint;
  const at = endpoint === "" ? "<endpoint, once it is Ready>" : endpoint;
  const exampleRequest = exampleJson(
    spec.id,
    version.signature,
    version.features,
    description.inference.example?.[0] ?? {},
  );
  const feedbackExample = `{"labels":[{"inferenceId":"<driftmesh_inference_id of the answer>","row":0,"value":1}]}`;
  return {
    endpoint,
    modelName: spec.id,
    inputs: version.signature.inputs,
    outputs: version.signature.outputs,
    exampleRequest,
    exampleCall: `grpcurl -plaintext -d ${quoted(exampleRequest)} ${at} inference.GRPCInferenceService/ModelInfer`,
    resources: description.runResources,
    feedbackEndpoint: `${at} driftmesh.v1.Feedback/SendLabels`,
    feedbackExample,
    labelHorizonHours: description.policy.labelHorizonHours,
  };
}

/** For a POSIX shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

function exampleJson(modelName: string, signature: Signature, features: readonly Feature[], example: Example): string {
  const inputs = signature.inputs.map((input) => {
    const shape = input.shape.map((size, i) =>
      size > 0 ? size : i > 0 && signature.inputs.length === 1 && features.length > 1 ? features.length : 1,
    );
    const { name, datatype } = input;
    return {
      name,
      datatype,
      shape: shape.map(BigInt),
      contents: contentsOf(datatype, valuesOf(input, shape, signature, features, example)),
    };
  });
  return toJsonString(ModelInferRequestSchema, create(ModelInferRequestSchema, { modelName, inputs }));
}

/** One value per element: the feature of the tensor's name, or the features in order of the columns, or zeros. */
function valuesOf(
  input: TensorSpec,
  shape: readonly number[],
  signature: Signature,
  features: readonly Feature[],
  example: Example,
): (number | string)[] {
  const size = shape.reduce((product, length) => product * length, 1);
  const nothing = input.datatype === "BYTES" ? "" : 0;
  const own = features.find(({ name }) => name === input.name);
  if (own !== undefined) return new Array<number | string>(size).fill(example[own.name] ?? nothing);
  const matrix = signature.inputs.length === 1 && features.length === size;
  if (matrix) return features.map(({ name }) => example[name] ?? nothing);
  return new Array<number | string>(size).fill(nothing);
}

type Contents = MessageInitShape<typeof InferTensorContentsSchema>;

function contentsOf(datatype: Datatype, values: readonly (number | string)[]): Contents {
  const numbers = values.map(Number);
  const whole = numbers.map((value) => Math.trunc(value));
  switch (datatype) {
    case "BOOL":
      return { boolContents: numbers.map((value) => value !== 0) };
    case "INT8":
    case "INT16":
    case "INT32":
      return { intContents: whole };
    case "INT64":
      return { int64Contents: whole.map(BigInt) };
    case "UINT8":
    case "UINT16":
    case "UINT32":
      return { uintContents: whole.map((value) => Math.max(0, value)) };
    case "UINT64":
      return { uint64Contents: whole.map((value) => BigInt(Math.max(0, value))) };
    case "FP64":
      return { fp64Contents: numbers };
    case "BYTES":
      return { bytesContents: values.map((value) => new TextEncoder().encode(String(value))) };
    case "FP32":
    case "FP16":
    case "BF16":
      return { fp32Contents: numbers };
  }
}
