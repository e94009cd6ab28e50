// `driftmesh deploy MODEL[@ALIAS|:VERSION]`: request, acknowledge, wait until Ready.
import { toJson } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import { type Deployment, DeploymentSchema, Deployments } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Mode } from "#proto/driftmesh/v1/model_pb.ts";
import { awaitReady } from "../client/door.ts";
import { type Command, type Context, printObject, UsageError, wholeNumber } from "../terminal/door.ts";

type Options = {
  strict?: boolean;
  node?: string;
  replicas?: number;
  acknowledge: boolean;
  wait: boolean;
  offerSeconds?: number;
  requestId?: string;
};

export function describe(command: Command): void {
  command
    .argument(
      "<model>",
      "model (follows the champion), model@alias, model:version (pinned), or the id of an offer to acknowledge",
    )
    .option("--strict", "strict mode: no raw value leaves the node")
    .option("--node <name>", "the node of a strict deployment")
    .option("--replicas <n>", "copies (default 1)", wholeNumber(1, 16))
    .option("--no-acknowledge", "only ask for the offer")
    .option("--wait", "wait until it is Ready (the default)", true)
    .option("--no-wait", "do not wait until it is Ready")
    .option("--offer-seconds <n>", "how long the offer holds (default 600)", wholeNumber(1, 3600))
    .option("--request-id <id>", "makes a repeat harmless")
    .addHelpText(
      "after",
      "\nExample:\n  driftmesh deploy flight-delay\n  driftmesh deploy flight-delay:1 --strict --node clinic",
    );
}

export async function run(context: Context, command: Command): Promise<void> {
  const options = command.opts<Options>();
  const deployments = await context.connect(Deployments);
  const named = command.args[0] ?? "";
  const offer = named.startsWith("dep_")
    ? await deployments.getDeployment({ id: named })
    : await request(deployments, named, options);
  let deployment: Deployment = offer;
  if (options.acknowledge) {
    deployment = await deployments.acknowledgeDeployment({ id: offer.id });
    const wait = { signal: context.signal, step: (text: string) => context.terminal.talk(`${text}\n`) };
    if (options.wait) deployment = await awaitReady(deployments, offer.id, wait);
  }
  await printObject(context, {
    text: instructionsText(deployment, options.acknowledge),
    json: toJson(DeploymentSchema, deployment),
    name: `deployment/${deployment.id}`,
  });
}

async function request(deployments: Client<typeof Deployments>, named: string, options: Options): Promise<Deployment> {
  return await deployments.requestDeployment({
    ...targetOf(named),
    mode: options.strict === true ? Mode.STRICT : Mode.OPEN,
    node: options.node ?? "",
    replicas: options.replicas ?? 1,
    requestId: options.requestId ?? "",
    ...(options.offerSeconds === undefined ? {} : { offerTtl: { seconds: BigInt(options.offerSeconds) } }),
  });
}

/** `m`, `m@a` or `m:3`. */
function targetOf(text: string): { model: string; alias?: string; version?: number } {
  const match = /^([^@:]+)(?:@([^@:]+)|:(\d+))?$/.exec(text);
  if (match === null) throw new UsageError(`"${text}" is not model, model@alias or model:version`);
  const [, model = "", alias, version] = match;
  if (version !== undefined) return { model, version: Number(version) };
  return alias === undefined ? { model } : { model, alias };
}

function instructionsText(d: Deployment, acknowledged: boolean): string {
  const i = d.instructions;
  const lines = [`deployment ${d.id} of ${d.model}${d.pinned ? `:${d.version}` : `@${d.alias || "champion"}`}`];
  if (i !== undefined) {
    lines.push(`  endpoint   ${i.endpoint}  model_name ${i.modelName}`);
    lines.push(`  inputs     ${i.inputs.map((t) => `${t.name} ${t.datatype}[${t.shape.join(",")}]`).join(", ")}`);
    lines.push(`  outputs    ${i.outputs.map((t) => `${t.name} ${t.datatype}[${t.shape.join(",")}]`).join(", ")}`);
    lines.push(`  example    ${i.exampleCall}`);
    lines.push(`  feedback   ${i.feedbackEndpoint} within ${i.labelHorizonHours} h: ${i.feedbackExample}`);
  }
  if (!acknowledged) lines.push(`the offer expires; acknowledge it with: driftmesh deploy ${d.id}`);
  return lines.join("\n");
}
