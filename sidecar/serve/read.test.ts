import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { MeshError } from "#kernel/fault/error.ts";
import { DATATYPES, type Datatype, type TensorSpec } from "#kernel/domain/model.ts";
import { ModelInferRequestSchema, type InferTensorContents } from "#proto/inference/grpc_service_pb.ts";
import { bytesOf, ELEMENTS, isTexts, type Tensor } from "../runtime/door.ts";
import { readInputs, readOutputs } from "./read.ts";
import { writeOutputs } from "./write.ts";

type Init = Exclude<MessageInitShape<typeof ModelInferRequestSchema>, { $typeName: string }>;
const read = (init: Init, specs: readonly TensorSpec[]) => readInputs(create(ModelInferRequestSchema, init), specs);

function refusal(init: Init, specs: readonly TensorSpec[]): string {
  try {
    read(init, specs);
  } catch (error) {
    expect(error).toBeInstanceOf(MeshError);
    expect((error as MeshError).fault).toBe("DM-3001");
    return (error as MeshError).message;
  }
  throw new Error("it was taken");
}

const X: TensorSpec = { name: "x", datatype: "FP32", shape: [-1, 2] };
const Y: TensorSpec = { name: "y", datatype: "BYTES", shape: [-1] };

/** Values that show truncation, sign and precision. */
const EXTREMES: Readonly<Partial<Record<Datatype, readonly (number | bigint | string | boolean)[]>>> = {
  BOOL: [true, false],
  UINT8: [0, 255],
  UINT16: [0, 65_535],
  UINT32: [0, 4_294_967_295],
  UINT64: [0n, 18_446_744_073_709_551_615n],
  INT8: [-128, 127],
  INT16: [-32_768, 32_767],
  INT32: [-2_147_483_648, 2_147_483_647],
  INT64: [-9_223_372_036_854_775_808n, 9_223_372_036_854_775_807n],
  FP32: [Number.NaN, -0],
  FP64: [Number.NEGATIVE_INFINITY, 5e-324],
  BYTES: ["", "Grüße 🙂"],
};
const FIELDS: Readonly<Partial<Record<Datatype, keyof InferTensorContents>>> = {
  BOOL: "boolContents",
  UINT8: "uintContents",
  UINT16: "uintContents",
  UINT32: "uintContents",
  UINT64: "uint64Contents",
  INT8: "intContents",
  INT16: "intContents",
  INT32: "intContents",
  INT64: "int64Contents",
  FP32: "fp32Contents",
  FP64: "fp64Contents",
  BYTES: "bytesContents",
};

test.each(Object.keys(EXTREMES) as Datatype[])("%s comes back as it came, typed and raw", (datatype) => {
  const spec: TensorSpec = { name: "t", datatype, shape: [-1, 1] };
  const values = EXTREMES[datatype] ?? [];
  const wire = values.map((value) => (typeof value === "string" ? Buffer.from(value) : value));
  const field = FIELDS[datatype] ?? "fp32Contents";
  const typed = read({ inputs: [{ name: "t", datatype, shape: [2n, 1n], contents: { [field]: wire } }] }, [spec]);
  expect(typed.rows).toBe(2);
  const answer = writeOutputs(typed.inputs, false);
  expect(answer.rawOutputContents).toEqual([]);
  const contents = answer.outputs[0]?.contents as InferTensorContents;
  expect(contents[field]).toEqual(wire);

  const raw = writeOutputs(typed.inputs, true);
  expect(raw.outputs[0]?.contents).toBeUndefined();
  // An odd offset: the view must not assume alignment.
  const shifted = Buffer.concat([Buffer.from([1]), raw.rawOutputContents[0] ?? Buffer.alloc(0)]).subarray(1);
  const again = read({ inputs: [{ name: "t", datatype, shape: [2n, 1n] }], rawInputContents: [shifted] }, [spec]);
  expect(again.inputs[0]?.values).toEqual(typed.inputs[0]?.values);
});

test("half precision travels raw only, and an answer with it is raw", () => {
  const spec: TensorSpec = { name: "t", datatype: "FP16", shape: [-1] };
  const bytes = Buffer.from(Uint16Array.of(0x3c00, 0xfc00).buffer);
  const { inputs } = read({ inputs: [{ name: "t", datatype: "FP16", shape: [2n] }], rawInputContents: [bytes] }, [
    spec,
  ]);
  expect(inputs[0]?.values).toEqual(Uint16Array.of(0x3c00, 0xfc00));
  expect(Buffer.from(writeOutputs(inputs, false).rawOutputContents[0] ?? []).equals(bytes)).toBe(true);
  expect(
    refusal({ inputs: [{ name: "t", datatype: "FP16", shape: [1n], contents: { fp32Contents: [1] } }] }, [spec]),
  ).toContain("raw_input_contents");
});

test("raw contents stay views on the received bytes where they lie aligned", () => {
  const received = new Uint8Array(16);
  const { inputs } = read(
    { inputs: [{ name: "x", datatype: "FP32", shape: [2n, 2n] }], rawInputContents: [received] },
    [X],
  );
  const values = inputs[0]?.values;
  expect(values !== undefined && !isTexts(values) && values.buffer === received.buffer).toBe(true);
});

const ok = { name: "x", datatype: "FP32", shape: [1n, 2n], contents: { fp32Contents: [1, 2] } };
const text = (...texts: string[]) => ({
  name: "y",
  datatype: "BYTES",
  shape: [BigInt(texts.length)],
  contents: { bytesContents: texts.map((t) => Buffer.from(t)) },
});

test.each<[string, Init, readonly TensorSpec[], string]>([
  ["no inputs", { inputs: [] }, [X], 'input "x" is missing; expected FP32 of shape [-1,2]'],
  ["a missing input", { inputs: [ok] }, [X, Y], 'input "y" is missing; expected BYTES of shape [-1]'],
  ["an unknown name", { inputs: [{ ...ok, name: "z" }] }, [X], 'expected "x"'],
  ["a name given twice", { inputs: [ok, ok] }, [X], 'input "x" is given twice'],
  ["another datatype", { inputs: [{ ...ok, datatype: "FP64" }] }, [X], 'input "x" has datatype FP64; expected FP32'],
  ["a datatype nobody knows", { inputs: [{ ...ok, datatype: "FLOAT32" }] }, [X], "does not know; expected FP32"],
  [
    "too few dimensions",
    { inputs: [{ ...ok, shape: [2n] }] },
    [X],
    'input "x" has shape [2]: 1 dimensions; expected [-1,2]',
  ],
  ["a wrong fixed size", { inputs: [{ ...ok, shape: [1n, 3n] }] }, [X], "size 3 in place 1; expected [-1,2]"],
  ["a size below zero", { inputs: [{ ...ok, shape: [-1n, 2n] }] }, [X], "a size below zero"],
  ["an enormous shape", { inputs: [{ ...ok, shape: [1n << 60n, 2n] }] }, [X], "more than"],
  ["no rows", { inputs: [{ ...ok, shape: [0n, 2n], contents: {} }] }, [X], 'input "x" has no rows'],
  [
    "typed contents that are short",
    { inputs: [{ ...ok, contents: { fp32Contents: [1] } }] },
    [X],
    'input "x" has 1 elements in fp32_contents; expected 2',
  ],
  [
    "contents of another field",
    { inputs: [{ ...ok, contents: { fp64Contents: [1, 2] } }] },
    [X],
    "has fp64_contents; expected fp32_contents",
  ],
  [
    "contents and raw for one input",
    { inputs: [ok], rawInputContents: [new Uint8Array(8)] },
    [X],
    "although raw_input_contents is used",
  ],
  [
    "raw for one of two inputs",
    { inputs: [{ ...ok, contents: undefined as never }, text("a")], rawInputContents: [new Uint8Array(8)] },
    [X, Y],
    "1 entries for 2 inputs",
  ],
  [
    "raw for two of one input",
    {
      inputs: [{ name: "x", datatype: "FP32", shape: [1n, 2n] }],
      rawInputContents: [new Uint8Array(8), new Uint8Array(8)],
    },
    [X],
    "2 entries for 1 inputs",
  ],
  [
    "raw bytes that are short",
    { inputs: [{ name: "x", datatype: "FP32", shape: [1n, 2n] }], rawInputContents: [new Uint8Array(7)] },
    [X],
    'input "x" has 7 raw bytes; expected 8 (2 elements of FP32)',
  ],
  [
    "raw text that is short",
    { inputs: [{ name: "y", datatype: "BYTES", shape: [2n] }], rawInputContents: [Buffer.from("\u0001\0\0\0a")] },
    [Y],
    "exactly 2 elements of BYTES",
  ],
  [
    "raw text with a rest",
    { inputs: [{ name: "y", datatype: "BYTES", shape: [1n] }], rawInputContents: [Buffer.from("\u0001\0\0\0abc")] },
    [Y],
    "exactly 1 elements of BYTES",
  ],
  [
    "text that is not UTF-8",
    { inputs: [{ ...text("a"), contents: { bytesContents: [Uint8Array.of(0xff)] } }] },
    [Y],
    'input "y" is not UTF-8 at element 0',
  ],
  ["text with a zero byte", { inputs: [text("a\0b")] }, [Y], 'input "y" has a zero byte at element 0'],
  ["inputs of different rows", { inputs: [ok, text("a", "b")] }, [X, Y], 'input "y" has 2 rows and input "x" has 1'],
  [
    "a value the datatype cannot hold",
    { inputs: [{ name: "i", datatype: "INT8", shape: [1n], contents: { intContents: [300] } }] },
    [{ name: "i", datatype: "INT8", shape: [-1] }],
    "element 0 that INT8 cannot hold",
  ],
])("refuses %s, naming the tensor and what was expected", (_, init, specs, says) => {
  expect(refusal(init, specs)).toContain(says);
});

test("no refusal quotes a value or a name that only the client knows", () => {
  const marker = "PLANTED-4711";
  const cases: [Init, readonly TensorSpec[]][] = [
    [{ inputs: [{ ...ok, name: marker }] }, [X]],
    [{ inputs: [{ ...ok, datatype: marker }] }, [X]],
    [{ inputs: [text(`${marker}\0`)] }, [Y]],
  ];
  for (const [init, specs] of cases) expect(refusal(init, specs)).not.toContain(marker);
});

test("requested outputs select and order; unknown and repeated ones are refused", () => {
  const specs = [{ name: "a" }, { name: "b" }].map(({ name }) => ({ ...X, name }));
  const wanted = (...names: string[]) =>
    create(ModelInferRequestSchema, { outputs: names.map((name) => ({ name })) }).outputs;
  expect(readOutputs([], specs)).toEqual([0, 1]);
  expect(readOutputs(wanted("b", "a"), specs)).toEqual([1, 0]);
  expect(readOutputs(wanted("b"), specs)).toEqual([1]);
  expect(() => readOutputs(wanted("c"), specs)).toThrow('expected "a", "b"');
  expect(() => readOutputs(wanted("a", "a"), specs)).toThrow("twice");
});

test("every datatype of the protocol but BF16 has a place in memory", () => {
  const held = DATATYPES.filter((datatype) => datatype === "BYTES" || ELEMENTS[datatype] !== undefined);
  expect(DATATYPES.filter((datatype) => !held.includes(datatype))).toEqual(["BF16"]);
  const tensor: Tensor = { name: "t", datatype: "INT16", shape: [2], values: Int16Array.of(1, -1) };
  expect(isTexts(tensor.values) ? [] : [...bytesOf(tensor.values)]).toEqual([1, 0, 255, 255]);
});
