// What the agent asks of a check, and what the check answers. Two JSON files.
import { fromJson, type JsonValue } from "@bufbuild/protobuf";
import { MeshError } from "#kernel/fault/error.ts";
import { ModelSpecSchema, type ModelSpec } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import type { ExampleRow } from "../runtime/door.ts";

export type Order = {
  model: ModelSpec;
  /** A ModelKind, or empty where nobody said. */
  kind: string;
  artifact: string;
  /** Paths, or empty. */
  manifest: string;
  ancestorProfile: string;
  /** An object of features and values, a list of such, either as JSON in a text, or nothing. */
  example: JsonValue | undefined;
  /** Folder of the answer. */
  out: string;
};

export type Check = {
  ok: boolean;
  /** Why not, with its code. */
  problem?: string;
  code?: string;
  signature?: { inputs: WireTensor[]; outputs: WireTensor[] };
  scoreOutput?: string;
  scoreKind?: "probability" | "value";
  features?: { name: string; type: "number" | "category" }[];
  metrics?: Record<string, number>;
  rows?: number;
};
type WireTensor = { name: string; datatype: string; shape: number[] };

export function parseOrder(text: string): Order {
  const order = JSON.parse(text) as Record<string, JsonValue | undefined>;
  const word = (name: string): string => {
    const value = order[name];
    return typeof value === "string" ? value : "";
  };
  return {
    model: fromJson(ModelSpecSchema, order["model"] ?? {}, { ignoreUnknownFields: true }),
    kind: word("kind"),
    artifact: word("artifact"),
    manifest: word("manifest"),
    ancestorProfile: word("ancestorProfile"),
    out: word("out"),
    example: order["example"],
  };
}

/** The rows of an order's example; DM-1001 when it is something else. */
export function examplesOf(given: JsonValue | undefined): ExampleRow[] {
  if (given === undefined || given === null || given === "") return [];
  let value: unknown = given;
  if (typeof given === "string") {
    try {
      value = JSON.parse(given);
    } catch (cause) {
      throw new MeshError("DM-1001", "the example is not JSON", { cause });
    }
  }
  if (value === null) return [];
  const rows: unknown[] = Array.isArray(value) ? value : [value];
  if (rows.every(isRow)) return rows;
  throw new MeshError("DM-1001", "the example is not an object of features and values, nor a list of such objects");
}

const isRow = (value: unknown): value is ExampleRow =>
  typeof value === "object" && value !== null && !Array.isArray(value);
