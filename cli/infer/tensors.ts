// From rows of feature values to a ModelInferRequest, and from an answer back to rows.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { MeshError } from "#kernel/fault/error.ts";
import type { TensorSpec } from "#proto/driftmesh/v1/model_pb.ts";
import {
  type ModelInferRequest,
  ModelInferRequestSchema,
  type ModelInferResponse,
} from "#proto/inference/grpc_service_pb.ts";

export type Cell = number | string | boolean;
export type Row = Readonly<Record<string, Cell>>;
type Contents = NonNullable<MessageInitShape<typeof ModelInferRequestSchema>["inputs"]>[number]["contents"];

/** A request with typed contents for rows of named values; `features` names the columns of a single input [-1, d]. */
export function requestOf(
  modelName: string,
  rows: readonly Row[],
  signature: { inputs: readonly TensorSpec[]; features: readonly string[] },
): ModelInferRequest {
  const only = signature.inputs[0];
  const columns =
    signature.inputs.length === 1 && only !== undefined && !(only.name in (rows[0] ?? {}))
      ? signature.features
      : undefined;
  refuseStrangers(rows, columns ?? signature.inputs.map((spec) => spec.name));
  const inputs = signature.inputs.map((spec) => {
    const width = columns?.length ?? 1;
    const values = rows.flatMap((row) => (columns ?? [spec.name]).map((name) => cellOf(row, name)));
    const shape = spec.shape.length <= 1 ? [BigInt(rows.length)] : [BigInt(rows.length), BigInt(width)];
    return { name: spec.name, datatype: spec.datatype, shape, contents: contentsOf(spec, values) };
  });
  return create(ModelInferRequestSchema, { modelName, inputs });
}

/** A name that the model does not know is a slip of the pen: said with all that are missing. */
function refuseStrangers(rows: readonly Row[], known: readonly string[]): void {
  const strangers = new Set(rows.flatMap((row) => Object.keys(row)).filter((name) => !known.includes(name)));
  if (strangers.size === 0) return;
  const violations = Array.from(strangers, (field) => ({ field, description: `the model has no such feature` }));
  const names = Array.from(strangers, (name) => `"${name}"`).join(", ");
  throw new MeshError("DM-3001", `rows: ${names} is not among ${known.join(", ")}`, { violations });
}

function cellOf(row: Row, name: string): Cell {
  const value = row[name];
  if (value === undefined) {
    const description = `a value for "${name}" in every row`;
    throw new MeshError("DM-3001", `rows: ${description}`, { violations: [{ field: name, description }] });
  }
  return value;
}

function contentsOf(spec: TensorSpec, values: readonly Cell[]): Contents {
  const numbers = (): number[] =>
    values.map((value) => {
      if (typeof value === "number") return value;
      throw new MeshError("DM-3001", `tensor "${spec.name}" is ${spec.datatype}: "${String(value)}" is no number`);
    });
  switch (spec.datatype) {
    case "BYTES":
      return { bytesContents: values.map((value) => new TextEncoder().encode(String(value))) };
    case "BOOL":
      return { boolContents: values.map((value) => value === true || value === 1) };
    case "FP64":
      return { fp64Contents: numbers() };
    case "INT64":
      return { int64Contents: numbers().map((n) => BigInt(Math.trunc(n))) };
    case "UINT64":
      return { uint64Contents: numbers().map((n) => BigInt(Math.trunc(n))) };
    case "INT8":
    case "INT16":
    case "INT32":
      return { intContents: numbers() };
    case "UINT8":
    case "UINT16":
    case "UINT32":
      return { uintContents: numbers() };
    case "FP32":
      return { fp32Contents: numbers() };
    default:
      throw new MeshError("DM-3001", `tensor "${spec.name}": ${spec.datatype} cannot be typed in; send it raw`);
  }
}

/** An answer as plain values: each output by name, and the mesh's id. */
export function answerOf(response: ModelInferResponse): {
  inferenceId: string;
  model: string;
  version: string;
  outputs: Record<string, unknown>;
} {
  const id = response.parameters["driftmesh_inference_id"]?.parameterChoice;
  const outputs: Record<string, unknown> = {};
  response.outputs.forEach((output, i) => {
    const raw = response.rawOutputContents[i];
    const flat = raw === undefined ? typedOf(output.contents) : rawOf(output.datatype, raw);
    outputs[output.name] = nest(flat, output.shape.map(Number));
  });
  return {
    inferenceId: id?.case === "stringParam" ? id.value : "",
    model: response.modelName,
    version: response.modelVersion,
    outputs,
  };
}

type Typed = ModelInferResponse["outputs"][number]["contents"];

function typedOf(contents: Typed): Cell[] {
  if (contents === undefined) return [];
  const text = new TextDecoder();
  const lists: Cell[][] = [
    contents.fp32Contents,
    contents.fp64Contents,
    contents.intContents,
    contents.uintContents,
    contents.boolContents,
    contents.int64Contents.map(String),
    contents.uint64Contents.map(String),
    contents.bytesContents.map((b) => text.decode(b)),
  ];
  return lists.find((list) => list.length > 0) ?? [];
}

function rawOf(datatype: string, raw: Uint8Array): Cell[] {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  const every = (size: number, read: (at: number) => Cell): Cell[] =>
    Array.from({ length: Math.floor(raw.byteLength / size) }, (_, i) => read(i * size));
  switch (datatype) {
    case "FP32":
      return every(4, (at) => view.getFloat32(at, true));
    case "FP64":
      return every(8, (at) => view.getFloat64(at, true));
    case "INT64":
      return every(8, (at) => String(view.getBigInt64(at, true)));
    case "INT32":
      return every(4, (at) => view.getInt32(at, true));
    case "BOOL":
      return every(1, (at) => view.getUint8(at) !== 0);
    default:
      return [`${raw.byteLength} raw bytes of ${datatype}`];
  }
}

function nest(flat: readonly Cell[], shape: readonly number[]): unknown {
  const [rows, ...rest] = shape;
  if (rows === undefined || rest.length === 0) return flat;
  const width = rest.reduce((a, b) => a * b, 1);
  return Array.from({ length: rows }, (_, i) => nest(flat.slice(i * width, (i + 1) * width), rest));
}
