// `driftmesh explain TOPIC`: what a field of a description or an error code means.
import { explain } from "../describe/door.ts";
import { type Command, type Context, printObject, UsageError } from "../terminal/door.ts";

export function describe(command: Command): void {
  command
    .argument("[topic]", "model, model.FIELD.FIELD, or an error code (DM-1234)", "model")
    .addHelpText("after", "\nExample:\n  driftmesh explain model.policy\n  driftmesh explain DM-2001");
}

export async function run(context: Context, command: Command): Promise<void> {
  const topic = command.args[0] ?? "model";
  const found = explain(topic);
  if (found.kind === "unknown")
    throw new UsageError(
      `nothing is called "${topic}"`,
      `${found.suggestion === "" ? "" : `did you mean ${found.suggestion}? `}\`driftmesh explain model\` lists the fields, docs/errors.md the codes`,
    );
  await printObject(context, { text: found.text, json: { topic, text: found.text }, name: topic });
}
