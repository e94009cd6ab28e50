// Being written.
import type { Command, Context } from "../terminal/door.ts";

export function describe(command: Command): void {
  command.addHelpText("after", "");
}

export async function run(context: Context, command: Command): Promise<number> {
  context.terminal.out(`${context.data} ${command.name()}\n`);
  return Promise.resolve(0);
}
