// Chapters 1-3: register (the mesh trains version 1), discover by requirements, deploy twice.
import { cpSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { writeHistory } from "../../history.ts";
import { DeploymentState, DeploymentStateSchema } from "#proto/driftmesh/v1/deployments_pb.ts";
import { type Json, wordOf } from "../mesh.ts";
import { MODEL, numberAt, textAt, type World } from "../world.ts";

const EXAMPLES = fileURLToPath(new URL("../../..", import.meta.url));

export async function register(world: World): Promise<void> {
  const { print, mesh, options } = world;
  print.chapter("Register: a description with ten fields; the mesh trains version 1 on days 0-27");
  const folder = join(mkdtempSync(join(tmpdir(), "driftmesh-flights-")), "flights");
  cpSync(join(EXAMPLES, "flights"), folder, {
    recursive: true,
    filter: (path) => !/\/(story|\.cache|node_modules)$/.test(path),
  });
  const rows = await writeHistory(join(folder, ".cache/history.parquet"), options);
  const registered = await mesh.cli("register", join(folder, "model.yaml"), "--request-id", "story-flights");
  const metric = (name: string): number => numberAt(registered, "run", "metrics", name);
  print.line(`${rows} flights of history; version ${numberAt(registered, "run", "version")} by the first run`);
  print.table(
    ["judged on days 21-27", "Brier", "AUC"],
    [
      ["the model", figure(metric("brier")), figure(metric("auc"))],
      ["the constant", figure(metric("brier_constant")), figure(metric("auc_constant"))],
      ["an hourly table", figure(metric("brier_hourly")), figure(metric("auc_hourly"))],
    ],
  );
  const beats = (name: string): boolean =>
    metric("brier") < metric(`brier_${name}`) && metric("auc") > metric(`auc_${name}`);
  print.holds(beats("constant") && beats("hourly"), "the model beats the constant and the hourly table");
  const second = await mesh.cli(
    "register",
    join(EXAMPLES, "flight-minutes/model.yaml"),
    "--request-id",
    "story-minutes",
  );
  print.line(`second model: flight-minutes, version ${numberAt(second, "run", "version")}, from a file`);
}

export async function discover(world: World): Promise<void> {
  const { print, mesh } = world;
  print.chapter("Discover: what do I need, who does it, and why not the others");
  const found = await mesh.cli(
    "find",
    "--kind",
    "binary-classification",
    "--metric",
    "auc=0.65",
    "--memory",
    "512Mi",
    "--cpu",
    "1",
    "--explain",
    "occlusion",
    ...["hour", "weekday", "distance", "late_everywhere", "late_at_origin", "late_into_origin"].flatMap((f) => [
      "--feature",
      `${f}:number`,
    ]),
    ...["origin", "destination"].flatMap((f) => ["--feature", `${f}:category`]),
  );
  const list = (name: string): Json[] => (Array.isArray(found[name]) ? (found[name] as Json[]) : []);
  for (const match of list("matches"))
    print.line(
      `match ${textAt(match, "model")}:${numberAt(match, "version")} (${numberAt(match, "score").toFixed(2)}): ${(match["reasons"] as string[]).join("; ")}`,
    );
  for (const other of list("nonMatches"))
    print.line(`no match ${textAt(other, "model")}: ${(other["reasons"] as string[]).join("; ")}`);
  print.holds(textAt(list("matches")[0] ?? {}, "model") === MODEL, "the best match is flight-delay");
  const reasons = (list("nonMatches")[0]?.["reasons"] as string[] | undefined) ?? [];
  print.holds(reasons.length > 0, "the other model is named with the reason why it does not fit");
}

export async function deploy(world: World): Promise<void> {
  const { print, mesh, nowMs } = world;
  print.chapter("Deploy: one deployment follows the champion, one is pinned to version 1");
  const offer = await mesh.deployments.requestDeployment({ model: MODEL, requestId: "story-follows" });
  print.line(`offer ${offer.id}: endpoint ${offer.instructions?.endpoint ?? ""}, expires, asks for an acknowledgement`);
  print.line(`inputs ${offer.instructions?.inputs.map((t) => `${t.name} ${t.datatype}`).join(", ") ?? ""}`);
  const startMs = nowMs();
  await mesh.deployments.acknowledgeDeployment({ id: offer.id });
  const states: string[] = [];
  const left = new AbortController();
  const watch = { timeoutMs: 60_000, signal: left.signal };
  for await (const { state } of mesh.deployments.watchDeployment({ id: offer.id }, watch)) {
    states.push(wordOf(DeploymentStateSchema, state));
    if (state === DeploymentState.READY) break;
  }
  left.abort();
  print.line(`${states.join(", ")} after ${((nowMs() - startMs) / 1000).toFixed(2)} s`);
  world.follows = offer.id;
  const pinned = await mesh.cli("deploy", `${MODEL}:1`, "--request-id", "story-pinned");
  world.pinned = textAt(pinned, "id");
  print.holds(
    world.follows !== world.pinned && world.pinned !== "",
    `both are Ready: ${world.follows}, ${world.pinned} (pinned)`,
  );
}

const figure = (value: number): string => value.toFixed(4);
