// `driftmesh stop`: ends the mesh of a data folder, children first.
import type { Command, Context } from "../terminal/door.ts";
import { stopMesh } from "../local/door.ts";

export function describe(command: Command): void {
  command.addHelpText("after", "\nExample:\n  driftmesh stop --data /srv/mesh");
}

export async function run(context: Context): Promise<number> {
  const stopped = await stopMesh(context);
  context.terminal.talk(stopped ? `stopped the mesh in ${context.data}\n` : `no mesh runs in ${context.data}\n`);
  return 0;
}
