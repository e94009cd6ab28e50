// `driftmesh restore FILE --data NEW`: a data folder from a backup, for the next `driftmesh dev`.
import { resolve } from "node:path";
import type { NodeState } from "#kernel/domain/state.ts";
import { bytes, type Command, type Context, printObject } from "../terminal/door.ts";
import { backupFacts, restoreFolder } from "../local/door.ts";

export function describe(command: Command): void {
  command
    .argument("<file>", "a file that `driftmesh backup` wrote")
    .addHelpText(
      "after",
      "\nExample:\n  driftmesh restore mesh-monday.backup --data ./restored\nThe folder must not exist yet, or be empty. Nothing runs afterwards: start it with `driftmesh dev`.",
    );
}

export async function run(context: Context, command: Command): Promise<number> {
  const file = resolve(context.cwd, command.args[0] ?? "");
  const { header, end, nodes } = await restoreFolder(context, file);
  const dev = ["driftmesh dev", `--data ${context.data}`, ...nodes.map((node) => `--node ${shareText(node)}`)];
  const made = new Date(header.madeMs).toISOString();
  await printObject(context, {
    text: `restored ${end.entries} keys and ${end.blobs} blobs (${bytes(end.bytes)}) of epoch ${header.epoch}, made ${made}, into ${context.data}
Start it, with the nodes it had:
  ${dev.join(" ")}`,
    json: { data: context.data, nodes: nodes.map(({ name }) => name), ...backupFacts({ header, end }) },
    name: context.data,
  });
  return 0;
}

const MIB = 2 ** 20;
function shareText({ name, shares: { cpu, memoryBytes } }: NodeState): string {
  const memory = memoryBytes % MIB === 0 ? `${memoryBytes / MIB}Mi` : String(memoryBytes);
  return `${name}:cpu=${cpu},memory=${memory}`;
}
