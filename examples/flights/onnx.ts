// Owns writing ONNX files: as much of onnx.proto as these examples need (protobuf by hand), and a forest as a graph.
// O1 One input per feature, [-1, 1]: FP32 for numbers, text for categories; outputs `label` [-1] and `probabilities` [-1, 2].
// O2 Same forest, same bytes.
import type { Forest, Tree } from "./boosting.ts";

/** opset 17 with ai.onnx.ml 3: read by every onnxruntime since 1.12 (2022). */
const OPSETS = { "": 17, "ai.onnx.ml": 3 } as const;
const IR_VERSION = 8n;

/** Element types of onnx.proto. */
export const ELEMENT = { float: 1, int64: 7, string: 8 } as const;
export type Value = { name: string; element: keyof typeof ELEMENT; shape: readonly number[] };
export type Attribute = number | { int: number } | string | Float32Array | Int32Array | readonly string[];
export type Node = {
  op: string;
  domain: keyof typeof OPSETS;
  inputs: readonly string[];
  outputs: readonly string[];
  attributes: Readonly<Record<string, Attribute>>;
};
export type Constant = { name: string; shape: readonly number[]; values: Float32Array };
export type Graph = {
  name: string;
  inputs: readonly Value[];
  outputs: readonly Value[];
  nodes: readonly Node[];
  constants: readonly Constant[];
};

/** The forest as a model: LabelEncoder for each category, Concat, TreeEnsembleClassifier (O1). */
export function forestToOnnx(forest: Forest, name: string): Uint8Array {
  const nodes: Node[] = [];
  const parts: string[] = [];
  for (const input of forest.inputs) {
    if (input.type === "number") {
      parts.push(input.name);
      continue;
    }
    const code = `${input.name}_code`;
    parts.push(code);
    nodes.push({
      op: "LabelEncoder",
      domain: "ai.onnx.ml",
      inputs: [input.name],
      outputs: [code],
      attributes: {
        keys_strings: [...input.codes.keys()],
        values_floats: Float32Array.from(input.codes.values()),
        default_float: input.unknown,
      },
    });
  }
  nodes.push({ op: "Concat", domain: "", inputs: parts, outputs: ["features"], attributes: { axis: { int: 1 } } });
  nodes.push({
    op: "TreeEnsembleClassifier",
    domain: "ai.onnx.ml",
    inputs: ["features"],
    outputs: ["label", "probabilities"],
    attributes: treeAttributes(forest),
  });
  return writeModel({
    name,
    inputs: forest.inputs.map((input) => ({
      name: input.name,
      element: input.type === "number" ? "float" : "string",
      shape: [-1, 1],
    })),
    outputs: [
      { name: "label", element: "int64", shape: [-1] },
      { name: "probabilities", element: "float", shape: [-1, 2] },
    ],
    nodes,
    constants: [],
  });
}

/** All trees' nodes in one list per attribute, as the operator wants them. */
function treeAttributes({ base, trees }: Forest): Node["attributes"] {
  const each = (read: (tree: Tree, node: number, treeId: number) => number, leavesOnly = false): number[] =>
    trees.flatMap((tree, treeId) =>
      [...tree.feature.keys()]
        .filter((node) => !leavesOnly || isLeaf(tree, node))
        .map((node) => read(tree, node, treeId)),
    );
  const leaves = each((_, node) => node, true);
  return {
    nodes_treeids: Int32Array.from(each((_tree, _node, treeId) => treeId)),
    nodes_nodeids: Int32Array.from(each((_, node) => node)),
    nodes_featureids: Int32Array.from(each((tree, node) => Math.max(0, tree.feature[node] ?? 0))),
    nodes_modes: trees.flatMap((tree) =>
      [...tree.feature.keys()].map((node) => (isLeaf(tree, node) ? "LEAF" : "BRANCH_LEQ")),
    ),
    nodes_values: Float32Array.from(each((tree, node) => (isLeaf(tree, node) ? 0 : (tree.value[node] ?? 0)))),
    nodes_truenodeids: Int32Array.from(each((tree, node) => tree.left[node] ?? 0)),
    nodes_falsenodeids: Int32Array.from(each((tree, node) => tree.right[node] ?? 0)),
    class_treeids: Int32Array.from(each((_tree, _node, treeId) => treeId, true)),
    class_nodeids: Int32Array.from(leaves),
    class_ids: new Int32Array(leaves.length),
    class_weights: Float32Array.from(each((tree, node) => tree.value[node] ?? 0, true)),
    classlabels_int64s: Int32Array.of(0, 1),
    base_values: Float32Array.of(base),
    post_transform: "LOGISTIC",
  };
}

const isLeaf = (tree: Tree, node: number): boolean => (tree.feature[node] ?? -1) < 0;

/** A ModelProto. */
export function writeModel(graph: Graph): Uint8Array {
  const model = new Message();
  model.int(1, IR_VERSION);
  model.text(2, "driftmesh examples");
  model.message(7, graphProto(graph));
  for (const [domain, version] of Object.entries(OPSETS)) {
    const opset = new Message();
    opset.text(1, domain);
    opset.int(2, BigInt(version));
    model.message(8, opset);
  }
  return model.bytes();
}

function graphProto({ name, inputs, outputs, nodes, constants }: Graph): Message {
  const graph = new Message();
  for (const node of nodes) graph.message(1, nodeProto(node));
  graph.text(2, name);
  for (const { name: constant, shape, values } of constants) {
    const tensor = new Message();
    for (const size of shape) tensor.int(1, BigInt(size));
    tensor.int(2, BigInt(ELEMENT.float));
    tensor.floats(4, values);
    tensor.text(8, constant);
    graph.message(5, tensor);
  }
  for (const input of inputs) graph.message(11, valueProto(input));
  for (const output of outputs) graph.message(12, valueProto(output));
  return graph;
}

function nodeProto({ op, domain, inputs, outputs, attributes }: Node): Message {
  const node = new Message();
  for (const input of inputs) node.text(1, input);
  for (const output of outputs) node.text(2, output);
  node.text(3, outputs[0] ?? op);
  node.text(4, op);
  for (const [name, value] of Object.entries(attributes)) node.message(5, attributeProto(name, value));
  node.text(7, domain);
  return node;
}

/** AttributeProto; field 20 says which of the others is meant. */
function attributeProto(name: string, value: Attribute): Message {
  const attribute = new Message();
  attribute.text(1, name);
  if (typeof value === "number") {
    attribute.float(2, value);
    attribute.int(20, 1n);
  } else if (typeof value === "string") {
    attribute.text(4, value);
    attribute.int(20, 3n);
  } else if (value instanceof Float32Array) {
    attribute.floats(7, value);
    attribute.int(20, 6n);
  } else if (value instanceof Int32Array) {
    for (const int of value) attribute.int(8, BigInt(int));
    attribute.int(20, 7n);
  } else if ("int" in value) {
    attribute.int(3, BigInt(value.int));
    attribute.int(20, 2n);
  } else {
    for (const text of value) attribute.text(9, text);
    attribute.int(20, 8n);
  }
  return attribute;
}

/** ValueInfoProto of a tensor; a size of -1 is the batch `n`. */
function valueProto({ name, element, shape }: Value): Message {
  const dimensions = new Message();
  for (const size of shape) {
    const dimension = new Message();
    if (size < 0) dimension.text(2, "n");
    else dimension.int(1, BigInt(size));
    dimensions.message(1, dimension);
  }
  const tensor = new Message();
  tensor.int(1, BigInt(ELEMENT[element]));
  tensor.message(2, dimensions);
  const type = new Message();
  type.message(1, tensor);
  const value = new Message();
  value.text(1, name);
  value.message(2, type);
  return value;
}

/** A protobuf message under construction; integers must not be negative. */
class Message {
  readonly #chunks: Uint8Array[] = [];

  int(field: number, value: bigint): void {
    this.#chunks.push(varint(BigInt(field) << 3n), varint(value));
  }

  float(field: number, value: number): void {
    this.#chunks.push(varint((BigInt(field) << 3n) | 5n), littleEndian(Float32Array.of(value)));
  }

  /** Packed. */
  floats(field: number, values: Float32Array): void {
    this.#delimited(field, littleEndian(values));
  }

  text(field: number, value: string): void {
    this.#delimited(field, new TextEncoder().encode(value));
  }

  message(field: number, value: Message): void {
    this.#delimited(field, value.bytes());
  }

  bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#chunks));
  }

  #delimited(field: number, content: Uint8Array): void {
    this.#chunks.push(varint((BigInt(field) << 3n) | 2n), varint(BigInt(content.length)), content);
  }
}

function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  while (rest > 127n) {
    bytes.push(Number(rest & 127n) | 128);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

function littleEndian(values: Float32Array): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  values.forEach((value, at) => view.setFloat32(at * 4, value, true));
  return bytes;
}
