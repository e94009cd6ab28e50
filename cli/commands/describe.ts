// `driftmesh describe KIND NAME`: everything the mesh knows of one thing.
import { MeshError } from "#kernel/fault/error.ts";
import type { FaultCode } from "#kernel/fault/table.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import { nearest } from "#kernel/base/nearest.ts";
import { type Kind, kindOf, KINDS } from "../resources/door.ts";
import { type Command, type Context, printObject, UsageError } from "../terminal/door.ts";

export function describe(command: Command): void {
  command
    .argument("<kind>", KINDS.map((kind) => kind.name.replace(/s$/, "")).join(", "))
    .argument("[name]", "its name or id; a version is model:number; `kind/name` is taken too")
    .addHelpText("after", "\nExample:\n  driftmesh describe model flight-delay\n  driftmesh describe run run_abc");
}

export async function run(context: Context, command: Command): Promise<void> {
  const [first = "", ...rest] = command.args;
  const [kindName = "", name] = rest.length > 0 ? [first, rest[0]] : first.split("/", 2);
  const kind = kindOf(kindName);
  if (name === undefined || name === "") throw new UsageError(`give the name of the ${kindName} too`);
  const listing = await kind.list(context, { all: true, model: "" });
  const at = listing.rows.findIndex((row) => listing.name(row).endsWith(`/${name}`));
  if (at < 0)
    throw missing(
      kind,
      name,
      listing.rows.map((row) => listing.name(row).split("/")[1] ?? ""),
    );
  const found = (listing.json as Record<string, unknown[]>)[kind.name]?.[at];
  const { stringify } = await import("yaml");
  const log = kind.name === "runs" ? await runLog(context, found as { logSha256?: string }) : "";
  await printObject(context, {
    text: stringify(found) + log,
    json: found,
    name: `${kind.name.replace(/s$/, "")}/${name}`,
  });
}

/** Code of a thing that is not there, by its kind. */
const MISSING: Readonly<Record<string, FaultCode>> = {
  models: "DM-2001",
  versions: "DM-2002",
  deployments: "DM-2003",
  nodes: "DM-2004",
};

function missing(kind: Kind, name: string, known: readonly string[]): MeshError {
  const near = nearest(name, known);
  const meant = near === "" ? "" : `; did you mean ${near}?`;
  return new MeshError(
    MISSING[kind.name] ?? "DM-2005",
    `no ${kind.name.replace(/s$/, "")} is called "${name}"${meant}`,
  );
}

/** The end of a run's log, at most 8 KiB. */
async function runLog(context: Context, run: { logSha256?: string }): Promise<string> {
  if (run.logSha256 === undefined || run.logSha256 === "") return "";
  const registry = await context.connect(Registry);
  const chunks: Uint8Array[] = [];
  for await (const { chunk } of registry.downloadBlob({ sha256: run.logSha256 })) chunks.push(chunk);
  return `log: |\n${Buffer.concat(chunks).toString("utf8").slice(-8192).replaceAll(/^/gm, "  ")}\n`;
}
