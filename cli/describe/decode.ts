// From a description file (YAML or JSON) to the message ModelDescription, strictly.
// D1 The message is the only schema: names, types and nesting come from its descriptor.
// D2 All problems are reported at once, each with line, column, field, what was expected and, for names, the nearest known one.
// D3 The paper's ten field names and the lowerCamelCase forms mean the same as ours; giving two is a contradiction.
import {
  create,
  type DescEnum,
  type DescField,
  type DescMessage,
  type JsonObject,
  fromJson,
  type JsonValue,
} from "@bufbuild/protobuf";
import { LineCounter, type Node, type Pair, type YAMLMap, isMap, isScalar, isSeq, parseDocument } from "yaml";
import { type ModelDescription, ModelDescriptionSchema } from "#proto/driftmesh/v1/model_pb.ts";
import { contradictions } from "./contradictions.ts";
import { nearest } from "#kernel/base/nearest.ts";

/** What is wrong at one place of the file. */
export type Problem = { line: number; column: number; field: string; expected: string; suggestion: string };
export type Decoded = { kind: "ok"; description: ModelDescription } | { kind: "wrong"; problems: Problem[] };

/** The paper's names for the fields of a description. */
export const PAPER_NAMES: Readonly<Record<string, string>> = {
  modelname: "name",
  modelkind: "kind",
  traincode: "train_code",
  trainingdata: "training_data",
  modelperform: "performance",
  trainingresource: "training_resources",
  runresource: "run_resources",
  featurelist: "features",
};
/** Short forms inside messages. */
const SHORT_NAMES: Readonly<Record<string, string>> = { memory: "memory_bytes" };

type Walk = { lines: LineCounter; problems: Problem[] };
type Place = { field: string; node: Node };

/** Decodes the text of a description file; unknown names, wrong types and contradictions all come back together. */
export function decodeDescription(text: string): Decoded {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: false, version: "1.2" });
  const walk: Walk = { lines, problems: [] };
  for (const error of document.errors) {
    const { line, col } = lines.linePos(error.pos[0]);
    const expected = `YAML or JSON that can be read (${error.message.split("\n")[0] ?? ""})`;
    walk.problems.push({ line, column: col, field: "(file)", expected, suggestion: "" });
  }
  if (walk.problems.length > 0) return { kind: "wrong", problems: walk.problems };
  if (!isMap(document.contents)) {
    const expected = "a mapping of fields, beginning with `name:`";
    return { kind: "wrong", problems: [{ line: 1, column: 1, field: "(file)", expected, suggestion: "" }] };
  }
  const root: Place = { field: "", node: document.contents };
  const json = messageOf(walk, root, ModelDescriptionSchema);
  const description =
    walk.problems.length > 0 ? create(ModelDescriptionSchema) : fromJson(ModelDescriptionSchema, json as JsonObject);
  if (walk.problems.length === 0) {
    for (const found of contradictions(description))
      problem(walk, { field: found.field, node: placeOf(document.contents, found.field) }, found.expected);
  }
  const problems = walk.problems.sort((a, b) => a.line - b.line || a.column - b.column);
  return problems.length > 0 ? { kind: "wrong", problems } : { kind: "ok", description };
}

function messageOf(walk: Walk, place: Place, schema: DescMessage): JsonValue {
  if (!isMap(place.node)) return problem(walk, place, `a mapping with ${namesOf(schema).join(", ")}`);
  const json: Record<string, JsonValue> = {};
  const given = new Map<string, string>();
  for (const pair of place.node.items) {
    const key = keyOf(pair);
    const at: Place = { field: join(place.field, key.name), node: key.node };
    const paper = place.field === "" ? PAPER_NAMES[key.name] : SHORT_NAMES[key.name];
    const name = paper ?? key.name;
    const field = schema.fields.find((f) => f.name === name || f.jsonName === name);
    if (field === undefined) {
      const known = place.field === "" ? [...namesOf(schema), ...Object.keys(PAPER_NAMES)] : namesOf(schema);
      problem(walk, at, `one of ${namesOf(schema).join(", ")}`, nearest(key.name, known));
      continue;
    }
    const before = given.get(field.name);
    if (before !== undefined) problem(walk, at, `it once: ${before} already gave it`);
    given.set(field.name, key.name);
    if (pair.value === null || (isScalar(pair.value) && pair.value.value === null)) {
      problem(walk, at, `${expectedOf(field)}, not nothing`);
      continue;
    }
    json[field.jsonName] = fieldOf(walk, { field: at.field, node: pair.value as Node }, field);
  }
  return json;
}

function fieldOf(walk: Walk, place: Place, field: DescField): JsonValue {
  switch (field.fieldKind) {
    case "message":
      return messageOf(walk, place, field.message);
    case "enum":
      return enumOf(walk, place, field.enum);
    case "scalar":
      return scalarOf(walk, place, field);
    case "list":
      return listOf(walk, place, field);
    case "map":
      return mapOf(walk, place, field);
    default:
      return null;
  }
}

function listOf(walk: Walk, place: Place, field: DescField & { fieldKind: "list" }): JsonValue {
  if (!isSeq(place.node)) return problem(walk, place, expectedOf(field));
  return place.node.items.map((item, i) => {
    const at: Place = { field: `${place.field}[${i}]`, node: item as Node };
    if (field.listKind === "message") return messageOf(walk, at, field.message);
    if (field.listKind === "enum") return enumOf(walk, at, field.enum);
    return scalarOf(walk, at, field);
  });
}

function mapOf(walk: Walk, place: Place, field: DescField & { fieldKind: "map" }): JsonValue {
  if (!isMap(place.node)) return problem(walk, place, expectedOf(field));
  const json: Record<string, JsonValue> = {};
  for (const pair of place.node.items) {
    const key = keyOf(pair);
    const at: Place = { field: join(place.field, key.name), node: pair.value as Node };
    json[key.name] = field.mapKind === "scalar" ? scalarOf(walk, at, field) : valueOf(walk, at);
  }
  return json;
}

/** google.protobuf.Value in a description: a number, a text or a boolean. */
function valueOf(walk: Walk, place: Place): JsonValue {
  const value = isScalar(place.node) ? place.node.value : undefined;
  if (typeof value === "number" || typeof value === "string" || typeof value === "boolean") return value;
  return problem(walk, place, "a number, a text, true or false");
}

const WHOLE = new Set(["int32", "int64", "uint32", "uint64"]);

function scalarOf(walk: Walk, place: Place, field: DescField): JsonValue {
  const type = scalarName(field);
  const value = isScalar(place.node) ? place.node.value : undefined;
  if (field.name === "memory_bytes" && typeof value === "string") {
    const bytes = bytesOf(value);
    return bytes ?? problem(walk, place, "bytes, or a number with Ki, Mi or Gi, e.g. 512Mi");
  }
  if (type === "string") return typeof value === "string" ? value : problem(walk, place, expectedOf(field));
  if (type === "bool") return typeof value === "boolean" ? value : problem(walk, place, expectedOf(field));
  if (typeof value !== "number" || !Number.isFinite(value)) return problem(walk, place, expectedOf(field));
  if (WHOLE.has(type) && !Number.isSafeInteger(value)) return problem(walk, place, "a whole number");
  if (type.startsWith("u") && value < 0) return problem(walk, place, "a number that is not negative");
  return type.endsWith("64") ? String(value) : value;
}

function enumOf(walk: Walk, place: Place, desc: DescEnum): JsonValue {
  const names = enumNames(desc);
  const value = isScalar(place.node) ? place.node.value : undefined;
  const name = typeof value === "string" ? names.get(value.toLowerCase().replaceAll("_", "-")) : undefined;
  if (name !== undefined) return name;
  const suggestion = typeof value === "string" ? nearest(value, [...names.keys()]) : "";
  return problem(walk, place, `one of ${[...names.keys()].join(", ")}`, suggestion);
}

/** The words of an enum (lower case, -) and their names on the wire; the unspecified value has no word. */
function enumNames(desc: DescEnum): Map<string, string> {
  const prefix = desc.sharedPrefix ?? "";
  const word = (name: string): string => name.toLowerCase().slice(prefix.length).replaceAll("_", "-");
  return new Map(desc.values.slice(1).map((v) => [word(v.name), v.name]));
}

function bytesOf(text: string): string | undefined {
  const match = /^(\d+(?:\.\d+)?)(Ki|Mi|Gi|)$/.exec(text.trim());
  if (match === null) return undefined;
  const unit = { "": 1, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30 }[match[2] ?? ""] ?? 1;
  return String(Math.round(Number(match[1]) * unit));
}

const SCALAR_NAMES = [
  "",
  "double",
  "float",
  "int64",
  "uint64",
  "int32",
  "fixed64",
  "fixed32",
  "bool",
  "string",
  "",
  "",
  "bytes",
  "uint32",
];

function scalarName(field: DescField): string {
  const scalar = "scalar" in field ? field.scalar : undefined;
  return SCALAR_NAMES[scalar ?? 0] ?? "";
}

/** What a field wants, in words. */
export function expectedOf(field: DescField): string {
  if (field.fieldKind === "list")
    return field.listKind === "message" ? "a list of mappings" : `a list of ${words(field)}s`;
  if (field.fieldKind === "map") return "a mapping from names to values";
  if (field.fieldKind === "message") return "a mapping";
  if (field.fieldKind === "enum") return `one of ${[...enumNames(field.enum).keys()].join(", ")}`;
  return `a ${words(field)}`;
}

function words(field: DescField): string {
  const type = scalarName(field);
  if (type === "string") return "text";
  if (type === "bool") return "true or false value";
  return WHOLE.has(type) ? "whole number" : "number";
}

function problem(walk: Walk, place: Place, expected: string, suggestion = ""): null {
  const offset = place.node?.range?.[0] ?? 0;
  const { line, col } = walk.lines.linePos(offset);
  walk.problems.push({ line, column: col, field: place.field, expected, suggestion });
  return null;
}

function keyOf(pair: Pair): { name: string; node: Node } {
  const node = pair.key as Node;
  return { name: isScalar(node) ? String(node.value) : "", node };
}

/** The node of a dotted field path, as deep as the file goes. */
function placeOf(root: YAMLMap, field: string): Node {
  let node: Node = root;
  for (const part of field.split(/[.[\]]+/).filter((p) => p !== "")) {
    const step: Node | undefined = isMap(node)
      ? pairOf(node, part)
      : isSeq(node)
        ? (node.items[Number(part)] as Node | undefined)
        : undefined;
    if (step === undefined) return node;
    node = step;
  }
  return node;
}

function pairOf(map: YAMLMap, name: string): Node | undefined {
  const pair = map.items.find((item) => {
    const key = keyOf(item).name;
    return key === name || PAPER_NAMES[key] === name || SHORT_NAMES[key] === name;
  });
  return pair === undefined ? undefined : ((pair.value ?? pair.key) as Node);
}

const join = (path: string, name: string): string => (path === "" ? name : `${path}.${name}`);
const namesOf = (schema: DescMessage): string[] => schema.fields.map((f) => f.name);
