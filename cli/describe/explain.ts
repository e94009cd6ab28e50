// `driftmesh explain`: the documentation of a field, or of an error code, from the schema and the table themselves.
import { readFileSync } from "node:fs";
import { type DescField, type DescMessage, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { FAULTS, type FaultCode } from "#kernel/fault/table.ts";
import { ModelDescriptionSchema } from "#proto/driftmesh/v1/model_pb.ts";
import { PAPER_NAMES, expectedOf } from "./decode.ts";
import { nearest } from "#kernel/base/nearest.ts";

/** Text for `model[.field[.field]]` or `DM-nnnn`; the nearest name when there is none. */
export function explain(topic: string): { kind: "ok"; text: string } | { kind: "unknown"; suggestion: string } {
  const code = topic.toUpperCase();
  if (code in FAULTS) return { kind: "ok", text: faultText(code as FaultCode) };
  if (/^DM-?\d*$/.test(code)) return { kind: "unknown", suggestion: nearest(code, Object.keys(FAULTS)) };
  const parts = topic.split(".").filter((p) => p !== "");
  if (parts[0] === "model") parts.shift();
  let message: DescMessage = ModelDescriptionSchema;
  let text = messageText(message, "model");
  let path = "model";
  for (const part of parts) {
    const name = PAPER_NAMES[part] ?? part;
    const field = message.fields.find((f) => f.name === name);
    if (field === undefined) {
      const known = message.fields.map((f) => f.name);
      const near = nearest(part, known);
      return { kind: "unknown", suggestion: near === "" ? "" : `${path}.${near}` };
    }
    path = `${path}.${field.name}`;
    text = fieldText(field, path);
    const inner = "message" in field ? field.message : undefined;
    if (inner === undefined || inner.typeName.startsWith("google.")) continue;
    message = inner;
    text += `\n${messageText(inner, path)}`;
  }
  return { kind: "ok", text };
}

function faultText(code: FaultCode): string {
  const row = FAULTS[code];
  return `${code}: ${row.says}.\nWhat to do: ${row.fix}.\nRetry: ${row.retry}.\n`;
}

function fieldText(field: DescField, path: string): string {
  return `${path}: ${expectedOf(field)}\n  ${commentOf(field)}\n`;
}

function messageText(message: DescMessage, path: string): string {
  const lines = message.fields.map((f) => `  ${f.name.padEnd(20)} ${expectedOf(f)}. ${commentOf(f)}`);
  return [`Fields of ${path}:`, ...lines, ""].join("\n");
}

let comments: Map<string, string> | undefined;

function commentOf(field: DescField): string {
  comments ??= readComments();
  return comments.get(`${field.parent.typeName}.${field.name}`) ?? "";
}

/** Leading comments of all fields of model.proto, by `package.Message.field`. */
function readComments(): Map<string, string> {
  const bytes = readFileSync(new URL("../../proto/gen/descriptors.binpb", import.meta.url));
  const file = fromBinary(FileDescriptorSetSchema, bytes).file.find((f) => f.name === "driftmesh/v1/model.proto");
  const found = new Map<string, string>();
  for (const location of file?.sourceCodeInfo?.location ?? []) {
    const [kind, message, inner, field] = location.path;
    if (location.path.length !== 4 || kind !== 4 || inner !== 2) continue;
    const desc = file?.messageType[message ?? -1];
    const name = `driftmesh.v1.${desc?.name ?? ""}.${desc?.field[field ?? -1]?.name ?? ""}`;
    found.set(name, location.leadingComments.trim().replaceAll(/\s*\n\s*/g, " "));
  }
  return found;
}
