// `driftmesh retrain MODEL`: orders a run by hand.
import { toJson } from "@bufbuild/protobuf";
import { Retraining, RunSchema } from "#proto/driftmesh/v1/retraining_pb.ts";
import { awaitRun } from "../client/door.ts";
import { type Command, type Context, printObject, wholeNumber } from "../terminal/door.ts";

type Options = { scope?: string; reason?: string; shadowDays?: number; wait: boolean; requestId?: string };

export function describe(command: Command): void {
  command
    .argument("<model>", "the model")
    .option("--scope <scope>", "open (default) or node/NAME")
    .option("--reason <text>", "why, for the record")
    .option("--shadow-days <n>", "days its challenger may stay in shadow (default: the policy's)", wholeNumber(1, 365))
    .option("--wait", "wait for the run (the default)", true)
    .option("--no-wait", "do not wait for the run")
    .option("--request-id <id>", "makes a repeat harmless")
    .addHelpText("after", "\nExample:\n  driftmesh retrain flight-delay --reason 'new fleet'");
}

export async function run(context: Context, command: Command): Promise<void> {
  const options = command.opts<Options>();
  const retraining = await context.connect(Retraining);
  let ordered = await retraining.orderRun({
    model: command.args[0] ?? "",
    scope: options.scope ?? "",
    reason: options.reason ?? "by hand",
    shadowDays: options.shadowDays ?? 0,
    requestId: options.requestId ?? "",
  });
  const wait = { signal: context.signal, step: (text: string) => context.terminal.talk(`${text}\n`) };
  if (options.wait) ordered = await awaitRun(retraining, ordered.id, wait);
  const text = options.wait ? `run ${ordered.id} made version ${ordered.version}` : `run ${ordered.id} ordered`;
  await printObject(context, { text, json: toJson(RunSchema, ordered), name: `run/${ordered.id}` });
}
