// Stage: where each claiming deployment stands, and why.
// V1 Pending says what is missing. V2 A deployment that follows an alias is judged by what its route serves, so a promotion does not interrupt it.
import { type DeploymentStatus, KEYS } from "#kernel/domain/state.ts";
import type { Pass } from "../pass/door.ts";
import {
  claims,
  type Deployment,
  deployments,
  queue,
  readyOf,
  replicasOf,
  runsOf,
  scopeOf,
  versionOf,
  workloadId,
  workloadOf,
} from "../world/door.ts";
import { followsChampion, targetVersion } from "./claims.ts";
import type { Missing } from "./workloads.ts";

export function status(pass: Pass, missing: Missing, endpoint: string): void {
  const { draft } = pass;
  const claiming = new Map(queue(draft).map((d, i) => [d.spec.id, i + 1]));
  for (const deployment of deployments(draft)) {
    if (draft.full) return;
    if (claims(deployment))
      judge(pass, deployment, { missing, endpoint, position: claiming.get(deployment.spec.id) ?? 0 });
  }
}

type Around = { missing: Missing; endpoint: string; position: number };

function judge(pass: Pass, deployment: Deployment, around: Around): void {
  const { draft, nowMs } = pass;
  const { spec, status: old } = deployment;
  const key = KEYS.deploymentStatus(spec.id);
  if (old === undefined || draft.hasMoved(key)) return;
  const place = placeOf(pass, deployment);
  const { state, reason } = nextState(pass, deployment, place, around);
  const step = { model: spec.model, scope: scopeOf(spec), from: old.state, to: state, reason };
  if (!draft.arrow("deployment", key, step)) return;
  const served = state === "Ready" || state === "Degraded";
  const next: DeploymentStatus = {
    state,
    reason,
    // Positions behind it move with every departure; the API counts them live, what is stored is where it stood when it came.
    queuePosition: state === "Pending" ? old.queuePosition || around.position : 0,
    version: place.version,
    workload: place.workload,
    endpoint: spec.mode === "open" ? (served ? around.endpoint : "") : (place.address ?? (served ? old.endpoint : "")),
    changedMs: old.state === state ? old.changedMs : nowMs,
  };
  draft.put("status", key, next);
}

type Place = { version: number; workload: string; active: number; ready: number; address: string | undefined };

/** What serves it: its version's workload, or that of its route while the route has not moved (V2). */
function placeOf({ draft }: Pass, deployment: Deployment): Place {
  const { spec } = deployment;
  const scope = scopeOf(spec);
  const target = targetVersion(draft, deployment);
  const arm = followsChampion(deployment)
    ? draft.get("route", KEYS.route(spec.model, scope))?.value.arms[0]?.version
    : undefined;
  const armReady = arm === undefined ? 0 : readyOf(draft, workloadId(spec.model, arm, scope)).length;
  const version = arm !== undefined && armReady > 0 ? arm : target;
  if (version === 0) return { version: 0, workload: "", active: 0, ready: 0, address: undefined };
  const workload = workloadId(spec.model, version, scope);
  const ready = readyOf(draft, workload);
  const active = replicasOf(draft, workload).filter(({ value }) => value.phase !== "Draining").length;
  return { version, workload, active, ready: ready.length, address: ready[0]?.address };
}

function nextState(
  pass: Pass,
  { spec, status: old }: Deployment,
  place: Place,
  around: Around,
): Pick<DeploymentStatus, "state" | "reason"> {
  const enough = place.ready >= spec.replicas;
  switch (old?.state) {
    case "Pending": {
      const live = workloadOf(pass.draft, place.workload)?.value.phase;
      const placed = place.active > 0 && live !== undefined && live !== "Destroying" && live !== "Destroyed";
      return placed
        ? { state: "Starting", reason: startingReason(pass, place) }
        : { state: "Pending", reason: pendingReason(pass, spec, place, around) };
    }
    case "Starting":
      if (enough) return { state: "Ready", reason: "" };
      if (place.active === 0) return { state: "Pending", reason: pendingReason(pass, spec, place, around) };
      return { state: "Starting", reason: around.missing.get(place.workload) ?? startingReason(pass, place) };
    case "Ready":
    case "Degraded": {
      if (enough) return { state: "Ready", reason: "" };
      const why = around.missing.get(place.workload) ?? lastLoss(pass, place.workload);
      return {
        state: "Degraded",
        reason: `${place.ready} of ${spec.replicas} replicas are ready${why === "" ? "" : `: ${why}`}`,
      };
    }
    default:
      return { state: old?.state ?? "Offered", reason: old?.reason ?? "" };
  }
}

function startingReason({ draft }: Pass, { workload }: Place): string {
  const nodes = [...new Set(replicasOf(draft, workload).map(({ value }) => value.node))];
  return nodes.length === 0 ? "starting" : `starting on node ${nodes.join(", ")}`;
}

/** What is missing (V1). */
function pendingReason(pass: Pass, spec: Deployment["spec"], place: Place, { missing }: Around): string {
  const { draft } = pass;
  if (place.version === 0) return versionReason(pass, spec);
  const why = missing.get(place.workload) ?? lastLoss(pass, place.workload);
  if (why !== "") return why;
  if (pass.observed?.connected !== true) return "no agent answers";
  const refused = pass.refuses({
    runtime: draft.get("model", KEYS.model(spec.model))?.value.description.inference.runtime ?? "",
  });
  return refused ?? "in the queue";
}

function versionReason({ draft }: Pass, spec: Deployment["spec"]): string {
  const { target, model } = spec;
  if (target.kind === "version" && versionOf(draft, model, target.version) === undefined)
    return `version ${target.version} of ${model} does not exist yet`;
  const run = runsOf(draft, model).at(-1);
  const what = target.kind === "alias" ? `${model}@${target.alias}` : model;
  if (run === undefined) return `${what} names no version yet`;
  return `${what} names no version yet: run ${run.id} is ${run.phase}${run.reason === "" ? "" : ` (${run.reason})`}`;
}

function lastLoss({ draft }: Pass, workload: string): string {
  const lost = draft
    .of("replica", workload)
    .flatMap(({ value }) => (value.phase === "Lost" ? [value] : []))
    .sort((a, b) => b.changedMs - a.changedMs)[0];
  return lost === undefined ? "" : `replica ${lost.id} was lost: ${lost.reason || "no reason given"}`;
}
