// `driftmesh register FILE`: a description, or an ONNX file as it is.
import { basename, resolve } from "node:path";
import { readFile } from "node:fs/promises";
import { create, toJson } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { MeshError } from "#kernel/fault/error.ts";
import { Deployments, DeploymentState } from "#proto/driftmesh/v1/deployments_pb.ts";
import { type ModelDescription, ModelDescriptionSchema, ModelKind, Mode } from "#proto/driftmesh/v1/model_pb.ts";
import { Registry, RegisterModelResponseSchema } from "#proto/driftmesh/v1/registry_pb.ts";
import { Retraining, RunSchema } from "#proto/driftmesh/v1/retraining_pb.ts";
import { awaitReady, awaitRun, uploadParts } from "../client/door.ts";
import { decodeDescription } from "../describe/door.ts";
import { type Command, type Context, printObject, UsageError } from "../terminal/door.ts";

type Options = { name?: string; deploy?: boolean; wait: boolean; requestId?: string };

export function describe(command: Command): void {
  command
    .argument("<file>", "a description (.yaml, .yml, .json) or a model (.onnx)")
    .option("--name <name>", "name of a model without a description (default: from the file's name)")
    .option("--deploy", "deploy it too (default for a model without a description)")
    .option("--no-deploy", "only register")
    .option("--wait", "wait for the run and the deployment (the default)", true)
    .option("--no-wait", "do not wait for the run and the deployment")
    .option("--request-id <id>", "makes a repeat harmless")
    .addHelpText("after", "\nExample:\n  driftmesh register my.onnx\n  driftmesh register examples/flights/model.yaml");
}

export async function run(context: Context, command: Command): Promise<void> {
  const options = command.opts<Options>();
  const file = resolve(context.cwd, command.args[0] ?? "");
  const bare = file.endsWith(".onnx");
  const description = bare ? bareDescription(file, options.name) : await readDescription(file);
  if (!bare && options.name !== undefined) throw new UsageError("--name is for a model without a description");
  const registry = await context.connect(Registry);
  await uploadParts(registry, description, file);
  const registered = await registry.registerModel({ description, requestId: options.requestId ?? "" });
  const json = { registered: toJson(RegisterModelResponseSchema, registered) };
  const lines = [`model ${description.name} registered`];
  const wait = { signal: context.signal, step: (text: string) => context.terminal.talk(`${text}\n`) };
  if (options.wait) {
    const made = await awaitRun(await context.connect(Retraining), registered.run, wait);
    Object.assign(json, { run: toJson(RunSchema, made) });
    const metrics = Object.entries(made.metrics).map(([name, value]) => `${name} ${Number(value.toFixed(4))}`);
    lines.push(`version ${made.version} is ready${metrics.length > 0 ? `: ${metrics.join(", ")}` : ""}`);
  }
  if ((options.deploy ?? bare) && options.wait) {
    const deployments = await context.connect(Deployments);
    const id = await deploymentOf(deployments, description.name, options.requestId ?? "");
    const ready = await awaitReady(deployments, id, wait);
    Object.assign(json, { deployment: ready.id, endpoint: ready.instructions?.endpoint ?? "" });
    lines.push(`deployment ${ready.id} is ready at ${ready.instructions?.endpoint ?? ""}`);
    lines.push(`try: driftmesh infer ${description.name} --example`, `     driftmesh drift ${description.name}`);
  }
  await printObject(context, { text: lines.join("\n"), json, name: `model/${description.name}` });
}

/** The deployment that follows the model's champion: the one that is there, so that registering twice changes nothing, or a new one. */
async function deploymentOf(client: Client<typeof Deployments>, model: string, requestId: string): Promise<string> {
  const { deployments } = await client.listDeployments({ model });
  const living = deployments.find((d) => !d.pinned && d.mode === Mode.OPEN && CLAIMING.has(d.state));
  if (living !== undefined && requestId === "") return living.id;
  const offer = await client.requestDeployment({ model, requestId });
  return (await client.acknowledgeDeployment({ id: offer.id })).id;
}

const CLAIMING: ReadonlySet<DeploymentState> = new Set([
  DeploymentState.PENDING,
  DeploymentState.STARTING,
  DeploymentState.READY,
  DeploymentState.DEGRADED,
]);

function bareDescription(file: string, name: string | undefined): ModelDescription {
  const stem = basename(file, ".onnx")
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, "-");
  return create(ModelDescriptionSchema, {
    name: name ?? stem.replace(/^[^a-z]+|-+$/g, "").slice(0, 48),
    kind: ModelKind.OTHER,
    summary: `registered from ${basename(file)}`,
    inference: { runtime: "onnx", artifact: basename(file) },
  });
}

async function readDescription(file: string): Promise<ModelDescription> {
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new MeshError("DM-1004", `${file} cannot be read`, { cause });
  });
  const decoded = decodeDescription(text);
  if (decoded.kind === "ok") return decoded.description;
  const violations = decoded.problems.map((problem) => ({
    field: `${basename(file)}:${problem.line}:${problem.column} ${problem.field}`,
    description: `expected ${problem.expected}${problem.suggestion === "" ? "" : `; did you mean ${problem.suggestion}?`}`,
  }));
  const count = `${violations.length} mistake${violations.length === 1 ? "" : "s"}`;
  throw new MeshError("DM-1001", `${basename(file)} has ${count}`, { violations });
}
