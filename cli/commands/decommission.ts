// `driftmesh decommission ID`: releases a claim.
import { toJson } from "@bufbuild/protobuf";
import { DeploymentSchema, Deployments, DeploymentStateSchema } from "#proto/driftmesh/v1/deployments_pb.ts";
import { awaitReleased, wordOf } from "../client/door.ts";
import { type Command, type Context, printObject } from "../terminal/door.ts";

export function describe(command: Command): void {
  command
    .argument("<deployment>", "its id, dep_...")
    .option("--wait", "wait until it is Released (the default)", true)
    .option("--no-wait", "do not wait until it is Released")
    .addHelpText("after", "\nExample:\n  driftmesh decommission dep_abc");
}

export async function run(context: Context, command: Command): Promise<void> {
  const deployments = await context.connect(Deployments);
  const id = command.args[0] ?? "";
  let deployment = await deployments.decommissionDeployment({ id });
  const wait = { signal: context.signal, step: (text: string) => context.terminal.talk(`${text}\n`) };
  if (command.opts<{ wait: boolean }>().wait) deployment = await awaitReleased(deployments, id, wait);
  await printObject(context, {
    text: `deployment ${id} ${wordOf(DeploymentStateSchema, deployment.state)}`,
    json: toJson(DeploymentSchema, deployment),
    name: `deployment/${id}`,
  });
}
