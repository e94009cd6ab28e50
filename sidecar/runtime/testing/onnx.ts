// Tiny ONNX files for tests: a few operators, written as protobuf by hand.

/** TensorProto.DataType by protocol datatype. */
const ELEMENTS: Readonly<Record<string, number>> = {
  FP32: 1,
  UINT8: 2,
  INT8: 3,
  UINT16: 4,
  INT16: 5,
  INT32: 6,
  INT64: 7,
  BYTES: 8,
  BOOL: 9,
  FP16: 10,
  FP64: 11,
  UINT32: 12,
  UINT64: 13,
  BF16: 16,
};

type ValueInfo = { name: string; datatype: string; shape: readonly number[] };
type Operator = {
  op: string;
  domain?: string;
  inputs: readonly string[];
  outputs: readonly string[];
  ints?: Readonly<Record<string, number>>;
  texts?: Readonly<Record<string, readonly string[]>>;
  floats?: Readonly<Record<string, readonly number[]>>;
};
type Constant = { name: string; shape: readonly number[]; values: readonly number[] };
type TinyModel = {
  inputs: readonly ValueInfo[];
  outputs: readonly ValueInfo[];
  operators: readonly Operator[];
  constants?: readonly Constant[];
};

/** `probability` = sigmoid(x . weights + bias); one input `x` [-1, d]. */
export function logisticModel(weights: readonly number[], bias = 0): Uint8Array {
  return onnxFile({
    inputs: [{ name: "x", datatype: "FP32", shape: [-1, weights.length] }],
    outputs: [{ name: "probability", datatype: "FP32", shape: [-1, 1] }],
    constants: [
      { name: "w", shape: [weights.length, 1], values: weights },
      { name: "b", shape: [1], values: [bias] },
    ],
    operators: [
      { op: "MatMul", inputs: ["x", "w"], outputs: ["xw"] },
      { op: "Add", inputs: ["xw", "b"], outputs: ["z"] },
      { op: "Sigmoid", inputs: ["z"], outputs: ["probability"] },
    ],
  });
}

/** Two inputs, `amount` (FP32 [-1,1]) and `colour` (BYTES [-1,1]); output `probabilities` [-1,2]. */
export function mixedModel(colours: Readonly<Record<string, number>>, weight = 1): Uint8Array {
  return onnxFile({
    inputs: [
      { name: "amount", datatype: "FP32", shape: [-1, 1] },
      { name: "colour", datatype: "BYTES", shape: [-1, 1] },
    ],
    outputs: [{ name: "probabilities", datatype: "FP32", shape: [-1, 2] }],
    constants: [
      { name: "w", shape: [1], values: [weight] },
      { name: "one", shape: [1], values: [1] },
    ],
    operators: [
      {
        op: "LabelEncoder",
        domain: "ai.onnx.ml",
        inputs: ["colour"],
        outputs: ["shade"],
        texts: { keys_strings: Object.keys(colours) },
        floats: { values_floats: Object.values(colours) },
      },
      { op: "Mul", inputs: ["amount", "w"], outputs: ["scaled"] },
      { op: "Add", inputs: ["scaled", "shade"], outputs: ["z"] },
      { op: "Sigmoid", inputs: ["z"], outputs: ["p"] },
      { op: "Sub", inputs: ["one", "p"], outputs: ["q"] },
      { op: "Concat", inputs: ["q", "p"], outputs: ["probabilities"], ints: { axis: 1 } },
    ],
  });
}

/** Answers what it is asked, in any datatype: `in` and `out` of shape [-1, 2]. */
export function echoModel(datatype: string): Uint8Array {
  return onnxFile({
    inputs: [{ name: "in", datatype, shape: [-1, 2] }],
    outputs: [{ name: "out", datatype, shape: [-1, 2] }],
    operators: [{ op: "Identity", inputs: ["in"], outputs: ["out"] }],
  });
}

/** Fails in the runtime for any value of `index` beyond 2; output `value` [-1]. */
export function brittleModel(): Uint8Array {
  return onnxFile({
    inputs: [{ name: "index", datatype: "INT64", shape: [-1] }],
    outputs: [{ name: "value", datatype: "FP32", shape: [-1] }],
    constants: [{ name: "table", shape: [3], values: [10, 20, 30] }],
    operators: [{ op: "Gather", inputs: ["table", "index"], outputs: ["value"] }],
  });
}

/** A ModelProto of opset 17 (and ai.onnx.ml 3). */
function onnxFile(model: TinyModel): Uint8Array {
  const graph = [
    ...model.operators.map((operator) => field(1, operatorProto(operator))),
    field(2, text("tiny")),
    ...(model.constants ?? []).map((constant) => field(5, constantProto(constant))),
    ...model.inputs.map((info) => field(11, valueProto(info))),
    ...model.outputs.map((info) => field(12, valueProto(info))),
  ];
  const opset = (domain: string, version: number): Uint8Array =>
    field(8, join([field(1, text(domain)), number(2, version)]));
  return join([number(1, 8), field(2, text("tests")), field(7, join(graph)), opset("", 17), opset("ai.onnx.ml", 3)]);
}

function operatorProto(operator: Operator): Uint8Array {
  const attribute = (name: string, type: number, values: Uint8Array[]): Uint8Array =>
    field(5, join([field(1, text(name)), ...values, number(20, type)]));
  return join([
    ...operator.inputs.map((name) => field(1, text(name))),
    ...operator.outputs.map((name) => field(2, text(name))),
    field(4, text(operator.op)),
    ...Object.entries(operator.ints ?? {}).map(([name, value]) => attribute(name, 2, [number(3, value)])),
    ...Object.entries(operator.floats ?? {}).map(([name, values]) => attribute(name, 6, [field(7, floats(values))])),
    ...Object.entries(operator.texts ?? {}).map(([name, values]) =>
      attribute(
        name,
        8,
        values.map((value) => field(9, text(value))),
      ),
    ),
    field(7, text(operator.domain ?? "")),
  ]);
}

const constantProto = (constant: Constant): Uint8Array =>
  join([
    ...constant.shape.map((dim) => number(1, dim)),
    number(2, 1),
    field(8, text(constant.name)),
    field(9, floats(constant.values)),
  ]);

function valueProto({ name, datatype, shape }: ValueInfo): Uint8Array {
  const dims = shape.map((dim) => field(1, dim < 0 ? field(2, text("n")) : number(1, dim)));
  const tensor = join([number(1, ELEMENTS[datatype] ?? 0), field(2, join(dims))]);
  return join([field(1, text(name)), field(2, field(1, tensor))]);
}

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const floats = (values: readonly number[]): Uint8Array => new Uint8Array(Float32Array.from(values).buffer);
const join = (parts: readonly Uint8Array[]): Uint8Array => Buffer.concat(parts);
const field = (tag: number, bytes: Uint8Array): Uint8Array => join([varint(tag * 8 + 2), varint(bytes.length), bytes]);
const number = (tag: number, value: number): Uint8Array => join([varint(tag * 8), varint(value)]);

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  bytes.push(rest);
  return Uint8Array.from(bytes);
}
