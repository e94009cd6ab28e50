// `driftmesh describe KIND NAME`: everything the mesh knows of one thing.
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import { kindOf, KINDS } from "../resources/door.ts";
import { type Command, type Context, printObject, UsageError } from "../terminal/door.ts";

export function describe(command: Command): void {
  command
    .argument("<kind>", KINDS.map((kind) => kind.name.replace(/s$/, "")).join(", "))
    .argument("<name>", "its name or id; a version is model:number")
    .addHelpText("after", "\nExample:\n  driftmesh describe model flight-delay\n  driftmesh describe run run_abc");
}

export async function run(context: Context, command: Command): Promise<void> {
  const [kindName = "", name = ""] = command.args;
  const kind = kindOf(kindName);
  if (kind === undefined)
    throw new UsageError(`nothing is called "${kindName}"`, `one of ${KINDS.map((k) => k.name).join(", ")}`);
  const listing = await kind.list(context, { all: true, model: "" });
  const at = listing.rows.findIndex((row) => listing.name(row).endsWith(`/${name}`));
  if (at < 0) throw new UsageError(`no ${kindName} is called "${name}"`, `\`driftmesh get ${kind.name}\` lists them`);
  const found = (listing.json as Record<string, unknown[]>)[kind.name]?.[at];
  const { stringify } = await import("yaml");
  const log = kind.name === "runs" ? await runLog(context, found as { logSha256?: string }) : "";
  await printObject(context, { text: stringify(found) + log, json: found, name: `${kindName}/${name}` });
}

/** The end of a run's log, at most 8 KiB. */
async function runLog(context: Context, run: { logSha256?: string }): Promise<string> {
  if (run.logSha256 === undefined || run.logSha256 === "") return "";
  const registry = await context.connect(Registry);
  const chunks: Uint8Array[] = [];
  for await (const { chunk } of registry.downloadBlob({ sha256: run.logSha256 })) chunks.push(chunk);
  return `log: |\n${Buffer.concat(chunks).toString("utf8").slice(-8192).replaceAll(/^/gm, "  ")}\n`;
}
