// `driftmesh infer MODEL`: one call, its answer, or the call in another tongue.
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { fromJsonString } from "@bufbuild/protobuf";
import { MeshError } from "#kernel/fault/error.ts";
import { Deployments } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Mode } from "#proto/driftmesh/v1/model_pb.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import {
  GRPCInferenceService,
  type ModelInferRequest,
  ModelInferRequestSchema,
} from "#proto/inference/grpc_service_pb.ts";
import { answerOf, requestOf, snippetOf, TONGUES, type Row, type Tongue } from "../infer/door.ts";
import { type Command, type Context, printObject, UsageError } from "../terminal/door.ts";

type Options = { example?: boolean; rows?: string; as?: string; endpoint?: string; eventTime?: string };

export function describe(command: Command): void {
  command
    .argument("<model>", "a model, or a deployment id")
    .option("--example", "send the model's own example")
    .option("--rows <json>", "rows to send: a JSON list of objects, or @file")
    .option("--as <tongue>", `print the call instead: ${TONGUES.join(", ")}`)
    .option("--endpoint <host:port>", "endpoint to call (default: the mesh, or the strict deployment's own)")
    .option("--event-time <time>", "event time of the rows, ISO 8601 (where the model's policy allows it)")
    .addHelpText(
      "after",
      "\nExample:\n  driftmesh infer flight-delay --example\n  driftmesh infer flight-delay --example --as grpcurl",
    );
}

export async function run(context: Context, command: Command): Promise<void> {
  const options = command.opts<Options>();
  const name = command.args[0] ?? "";
  const tongue = options.as === undefined ? undefined : tongueOf(options.as);
  if ((options.example === true) === (options.rows !== undefined))
    throw new UsageError(`give ${options.example === true ? "only one of" : "one of"} --example and --rows`);
  const request = options.rows === undefined ? await exampleOf(context, name) : await rowsOf(context, options, name);
  if (options.eventTime !== undefined) {
    const at = Date.parse(options.eventTime);
    if (Number.isNaN(at)) throw new UsageError(`--event-time is ISO 8601, not "${options.eventTime}"`);
    request.parameters["driftmesh_event_time"] = {
      $typeName: "inference.InferParameter",
      parameterChoice: { case: "int64Param", value: BigInt(at) },
    };
  }
  const endpoint = options.endpoint ?? (await strictEndpoint(context, name));
  const server = endpoint ?? context.server;
  if (tongue !== undefined) return context.terminal.out(snippetOf(tongue, server, request));
  const client = await context.connect(GRPCInferenceService, endpoint);
  const answer = answerOf(await client.modelInfer(request));
  const text = [
    ...Object.entries(answer.outputs).map(([output, value]) => `${output}  ${JSON.stringify(value)}`),
    `answered by ${answer.model}:${answer.version} as ${answer.inferenceId}`,
    `tell the truth later: driftmesh feedback ${answer.inferenceId} VALUE`,
  ].join("\n");
  await printObject(context, { text, json: answer, name: answer.inferenceId });
}

function tongueOf(text: string): Tongue {
  const tongue = TONGUES.find((t) => t === text);
  if (tongue === undefined) throw new UsageError(`--as is one of ${TONGUES.join(", ")}, not "${text}"`);
  return tongue;
}

/** Where a strict deployment answers; undefined for all that the gateway serves. */
async function strictEndpoint(context: Context, name: string): Promise<string | undefined> {
  if (!name.startsWith("dep_")) return undefined;
  const deployment = await (await context.connect(Deployments)).getDeployment({ id: name });
  return deployment.mode === Mode.STRICT ? deployment.instructions?.endpoint : undefined;
}

/** The example of a deployment's instructions, or of the model's description. */
async function exampleOf(context: Context, name: string): Promise<ModelInferRequest> {
  if (name.startsWith("dep_")) {
    const deployment = await (await context.connect(Deployments)).getDeployment({ id: name });
    return fromJsonString(ModelInferRequestSchema, deployment.instructions?.exampleRequest ?? "{}");
  }
  const { row, signature } = await modelOf(context, name);
  return requestOf(name, [row], signature);
}

async function rowsOf(context: Context, options: Options, name: string): Promise<ModelInferRequest> {
  const given = options.rows ?? "";
  const text = given.startsWith("@") ? await textOf(resolve(context.cwd, given.slice(1))) : given;
  const rows = parsedRows(text);
  const model = name.startsWith("dep_")
    ? (await (await context.connect(Deployments)).getDeployment({ id: name })).model
    : name;
  return requestOf(name, rows, (await modelOf(context, model)).signature);
}

function textOf(file: string): Promise<string> {
  return readFile(file, "utf8").catch((cause: unknown) => {
    throw new MeshError("DM-1004", `${file} cannot be read`, { cause });
  });
}

function parsedRows(text: string): Row[] {
  const rows = ((): unknown => {
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new MeshError("DM-1004", "--rows is not JSON", { cause });
    }
  })();
  const list = Array.isArray(rows) ? (rows as unknown[]) : [rows];
  if (list.length === 0 || list.some((row) => typeof row !== "object" || row === null))
    throw new MeshError("DM-1004", '--rows is a list of objects, e.g. [{"x": 1}]');
  return list as Row[];
}

/** Signature, feature names and an example row of a model's newest version. */
async function modelOf(context: Context, name: string) {
  const registry = await context.connect(Registry);
  const model = await registry.getModel({ name });
  const newest = Math.max(0, ...model.versions);
  const version = await registry.getVersion({ model: name, version: newest });
  const example = model.description?.inference?.example ?? {};
  const row: Record<string, number | string | boolean> = {};
  for (const feature of version.features) {
    const value = example[feature.name]?.kind;
    row[feature.name] =
      value?.case === "numberValue" || value?.case === "stringValue" || value?.case === "boolValue"
        ? value.value
        : feature.type === 2
          ? "a"
          : 0;
  }
  return { row, signature: { inputs: version.inputs, features: version.features.map((f) => f.name) } };
}
