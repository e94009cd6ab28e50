// From the wire to tensors. Hot path: raw contents stay views on the received bytes.
// W1 Whatever does not fit the model is INVALID_ARGUMENT DM-3001: the message names the tensor and what was expected, never a value.
// W2 Inputs come out in the order of the signature, complete, with one number of rows.
import { isUtf8 } from "node:buffer";
import { MeshError } from "#kernel/fault/error.ts";
import { DATATYPES, type Datatype, type TensorSpec } from "#kernel/domain/model.ts";
import type { InferTensorContents, ModelInferRequest } from "#proto/inference/grpc_service_pb.ts";
import { ELEMENTS, numericValues, overBytes, rowsOf, sizeOf, type Tensor, type TensorValues } from "../runtime/door.ts";

type WireInput = ModelInferRequest["inputs"][number];
type ContentsField = Exclude<keyof InferTensorContents, "$typeName" | "$unknown">;

const CONTENTS: Readonly<Partial<Record<Datatype, ContentsField>>> = {
  BOOL: "boolContents",
  INT8: "intContents",
  INT16: "intContents",
  INT32: "intContents",
  INT64: "int64Contents",
  UINT8: "uintContents",
  UINT16: "uintContents",
  UINT32: "uintContents",
  UINT64: "uint64Contents",
  FP32: "fp32Contents",
  FP64: "fp64Contents",
  BYTES: "bytesContents",
};
const FIELDS = [...new Set(Object.values(CONTENTS))];
const RANGE: Readonly<Partial<Record<Datatype, readonly [number, number]>>> = {
  INT8: [-128, 127],
  INT16: [-32_768, 32_767],
  UINT8: [0, 255],
  UINT16: [0, 65_535],
};
const ELEMENTS_MAX = 2 ** 28;

/** The inputs of a call, checked against the signature (W1, W2). */
export function readInputs(
  request: Pick<ModelInferRequest, "inputs" | "rawInputContents">,
  specs: readonly TensorSpec[],
): { inputs: Tensor[]; rows: number } {
  const { inputs: wire, rawInputContents: raw } = request;
  if (raw.length > 0 && raw.length !== wire.length) {
    throw misfit(
      "raw_input_contents",
      `raw_input_contents has ${raw.length} entries for ${wire.length} inputs; expected one per input, in order`,
    );
  }
  const given = new Map<string, { tensor: WireInput; place: number }>();
  wire.forEach((tensor, place) => {
    if (!specs.some(({ name }) => name === tensor.name)) {
      throw misfit(
        `inputs[${place}].name`,
        `input ${place} has a name the model does not know; expected ${namesOf(specs)}`,
      );
    }
    if (given.has(tensor.name)) throw misfit(`inputs[${place}].name`, `input "${tensor.name}" is given twice`);
    given.set(tensor.name, { tensor, place });
  });
  const inputs = specs.map((spec) => {
    const found = given.get(spec.name);
    if (found === undefined) {
      throw misfit(
        "inputs",
        `input "${spec.name}" is missing; expected ${spec.datatype} of shape ${shapeText(spec.shape)} (${wire.length} of ${specs.length} inputs given)`,
      );
    }
    return readInput(spec, found, raw);
  });
  return { inputs, rows: commonRows(inputs, specs) };
}

function readInput(
  spec: TensorSpec,
  { tensor, place }: { tensor: WireInput; place: number },
  raw: readonly Uint8Array[],
): Tensor {
  const { name } = spec;
  if (tensor.datatype !== spec.datatype) {
    const known = (DATATYPES as readonly string[]).includes(tensor.datatype);
    const says = known ? `has datatype ${tensor.datatype}` : "has a datatype that the protocol does not know";
    throw misfit(`inputs[${place}].datatype`, `input "${name}" ${says}; expected ${spec.datatype}`);
  }
  const shape = checkedShape(spec, tensor.shape, place);
  const bytes = raw[place];
  if (bytes !== undefined && tensor.contents !== undefined) {
    throw misfit(
      `inputs[${place}].contents`,
      `input "${name}" has contents although raw_input_contents is used; expected one of the two`,
    );
  }
  const count = sizeOf(shape);
  const values =
    bytes === undefined ? typedValues(spec, tensor, { place, count }) : rawValues(spec, bytes, { place, count });
  return { name, datatype: spec.datatype, shape, values };
}

function checkedShape(spec: TensorSpec, wire: readonly bigint[], place: number): number[] {
  const shape = wire.map(Number);
  const refuse = (why: string): MeshError =>
    misfit(
      `inputs[${place}].shape`,
      `input "${spec.name}" has shape ${shapeText(shape)}: ${why}; expected ${shapeText(spec.shape)}`,
    );
  // A model file may leave the shape out; then any is taken.
  if (spec.shape.length > 0 && shape.length !== spec.shape.length) throw refuse(`${shape.length} dimensions`);
  shape.forEach((dim, i) => {
    const want = spec.shape[i] ?? -1;
    if (dim < 0) throw refuse("a size below zero");
    if (want >= 0 && dim !== want) throw refuse(`size ${dim} in place ${i}`);
  });
  if (sizeOf(shape) > ELEMENTS_MAX) throw refuse(`more than ${ELEMENTS_MAX} elements`);
  return shape;
}

function commonRows(inputs: readonly Tensor[], specs: readonly TensorSpec[]): number {
  const free = inputs.filter((_, i) => specs[i]?.shape[0] === -1);
  const first = free[0] ?? inputs[0];
  const rows = first === undefined ? 1 : rowsOf(first);
  const other = free.find((tensor) => rowsOf(tensor) !== rows);
  if (other !== undefined && first !== undefined) {
    throw misfit(
      "inputs",
      `input "${other.name}" has ${rowsOf(other)} rows and input "${first.name}" has ${rows}; expected the same number`,
    );
  }
  if (rows === 0) throw misfit("inputs", `input "${first?.name ?? ""}" has no rows; expected at least one`);
  return rows;
}

type Place = { place: number; count: number };

function rawValues(spec: TensorSpec, bytes: Uint8Array, { place, count }: Place): TensorValues {
  if (spec.datatype === "BYTES") return rawTexts(spec.name, bytes, { place, count });
  const element = ELEMENTS[spec.datatype];
  if (element === undefined)
    throw misfit(
      `inputs[${place}].datatype`,
      `input "${spec.name}" has datatype ${spec.datatype}, which is not served`,
    );
  const expected = count * element.bytes;
  if (bytes.byteLength !== expected) {
    throw misfit(
      `raw_input_contents[${place}]`,
      `input "${spec.name}" has ${bytes.byteLength} raw bytes; expected ${expected} (${count} elements of ${spec.datatype})`,
    );
  }
  return overBytes(element, bytes, count);
}

/** Each element is preceded by its length in four bytes, least significant first. */
function rawTexts(name: string, bytes: Uint8Array, { place, count }: Place): string[] {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const texts: string[] = [];
  let at = 0;
  while (at + 4 <= buffer.length && texts.length < count) {
    const end = at + 4 + buffer.readUInt32LE(at);
    if (end > buffer.length) break;
    texts.push(text(name, buffer.subarray(at + 4, end), { place, index: texts.length }));
    at = end;
  }
  if (texts.length !== count || at !== buffer.length) {
    throw misfit(
      `raw_input_contents[${place}]`,
      `input "${name}" has raw bytes that do not hold exactly ${count} elements of BYTES; expected each after its length in 4 little-endian bytes`,
    );
  }
  return texts;
}

function typedValues(spec: TensorSpec, { contents }: WireInput, { place, count }: Place): TensorValues {
  const { name, datatype } = spec;
  const path = `inputs[${place}].contents`;
  const field = CONTENTS[datatype];
  if (field === undefined)
    throw misfit(path, `input "${name}" is ${datatype}, which has no typed contents; expected raw_input_contents`);
  for (const other of FIELDS) {
    if (other !== field && (contents?.[other].length ?? 0) > 0) {
      throw misfit(path, `input "${name}" has ${wireName(other)}; expected ${wireName(field)} for ${datatype}`);
    }
  }
  const given = contents?.[field] ?? [];
  if (given.length !== count) {
    throw misfit(path, `input "${name}" has ${given.length} elements in ${wireName(field)}; expected ${count}`);
  }
  return field === "bytesContents"
    ? (contents?.bytesContents ?? []).map((bytes, index) => text(name, bytes, { place, index }))
    : typedNumbers(spec, given, path);
}

function typedNumbers({ name, datatype }: TensorSpec, given: readonly unknown[], path: string): TensorValues {
  if (datatype === "INT64") return BigInt64Array.from(given as bigint[]);
  if (datatype === "UINT64") return BigUint64Array.from(given as bigint[]);
  const numbers = given as number[];
  const range = RANGE[datatype];
  const outside = range === undefined ? -1 : numbers.findIndex((value) => value < range[0] || value > range[1]);
  if (outside >= 0)
    throw misfit(path, `input "${name}" has a value at element ${outside} that ${datatype} cannot hold`);
  if (datatype === "FP32") return Float32Array.from(numbers);
  return numericValues({ datatype }, numbers);
}

/** The runtime holds texts as C strings of UTF-8: it would cut one at a zero byte, silently. */
function text(name: string, bytes: Uint8Array, { place, index }: { place: number; index: number }): string {
  if (!isUtf8(bytes))
    throw misfit(`inputs[${place}]`, `input "${name}" is not UTF-8 at element ${index}; expected text`);
  if (bytes.includes(0))
    throw misfit(`inputs[${place}]`, `input "${name}" has a zero byte at element ${index}; expected text without`);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
}

/** The wanted outputs by place in the signature, in the order asked; all when none is asked. */
export function readOutputs(wanted: ModelInferRequest["outputs"], specs: readonly TensorSpec[]): number[] {
  if (wanted.length === 0) return specs.map((_, i) => i);
  const places = wanted.map(({ name }, at) => {
    const place = specs.findIndex((spec) => spec.name === name);
    if (place < 0)
      throw misfit(
        `outputs[${at}].name`,
        `requested output ${at} has a name the model does not know; expected ${namesOf(specs)}`,
      );
    return place;
  });
  const twice = places.findIndex((place, at) => places.indexOf(place) !== at);
  if (twice >= 0) throw misfit(`outputs[${twice}].name`, `output "${wanted[twice]?.name ?? ""}" is requested twice`);
  return places;
}

/** Bytes that a call holds while it runs, about. */
export function weightOf({ inputs, rawInputContents }: ModelInferRequest): number {
  let bytes = 512;
  for (const raw of rawInputContents) bytes += raw.byteLength;
  for (const { contents } of inputs) {
    if (contents === undefined) continue;
    for (const field of FIELDS) bytes += contents[field].length * 16;
    for (const text of contents.bytesContents) bytes += text.byteLength;
  }
  return bytes;
}

function misfit(field: string, message: string): MeshError {
  return new MeshError("DM-3001", message, { violations: [{ field, description: message }] });
}

const wireName = (field: string): string => field.replace(/[A-Z]/, (letter) => `_${letter.toLowerCase()}`);
const namesOf = (specs: readonly TensorSpec[]): string => specs.map(({ name }) => `"${name}"`).join(", ");
const shapeText = (shape: readonly number[]): string => `[${shape.join(",")}]`;
