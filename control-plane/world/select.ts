// Questions that several stages and the API ask of a view. Pure.
import type { Description, Scope } from "#kernel/domain/model.ts";
import type {
  DeploymentSpec,
  DeploymentStatus,
  ReplicaState,
  RolloutState,
  RunState,
  TrackState,
  VersionState,
  WorkloadState,
} from "#kernel/domain/state.ts";
import { KEYS, scopeToken } from "#kernel/domain/state.ts";
import { aliasParts, type ClaimMark, OWN_KEYS } from "./tables.ts";
import type { Held, View } from "./world.ts";

/** A deployment, from its four keys. */
export type Deployment = {
  spec: DeploymentSpec;
  ack: Held<ClaimMark> | undefined;
  end: Held<ClaimMark> | undefined;
  status: DeploymentStatus | undefined;
};

export function deploymentOf(view: View, id: string): Deployment | undefined {
  const spec = view.get("spec", KEYS.deploymentSpec(id));
  if (spec === undefined) return undefined;
  return {
    spec: spec.value,
    ack: view.get("ack", KEYS.deploymentAck(id)),
    end: view.get("end", KEYS.deploymentEnd(id)),
    status: view.get("status", KEYS.deploymentStatus(id))?.value,
  };
}

type Listing = { stamp: number; deployments: readonly Deployment[] };
const listings = new WeakMap<View, Listing>();

/** All deployments, in no order. Put together once for each state of their tables. */
export function deployments(view: View): readonly Deployment[] {
  const stampOf = (v: View): number => v.stamp("spec") + v.stamp("ack") + v.stamp("end") + v.stamp("status");
  const stamp = stampOf(view);
  if (view.base !== undefined && stampOf(view.base) === stamp) return deployments(view.base);
  const known = listings.get(view);
  if (known?.stamp === stamp) return known.deployments;
  const found = view.all("spec").flatMap(({ value }) => deploymentOf(view, value.id) ?? []);
  listings.set(view, { stamp, deployments: found });
  return found;
}

/** States in which a deployment holds or wants a place. */
const CLAIMING: ReadonlySet<string> = new Set(["Pending", "Starting", "Ready", "Degraded"]);
export const claims = ({ status, end }: Deployment): boolean =>
  end === undefined && status !== undefined && CLAIMING.has(status.state);

/** The deployments in the queue, first come first. */
export function queue(view: View): Deployment[] {
  return deployments(view)
    .filter((d) => d.status?.state === "Pending" && d.end === undefined)
    .sort((a, b) => (a.ack?.revision ?? 0) - (b.ack?.revision ?? 0) || (a.spec.id < b.spec.id ? -1 : 1));
}

export const scopeOf = (spec: Pick<DeploymentSpec, "mode" | "node">): Scope =>
  spec.mode === "strict" ? `node/${spec.node}` : "open";

export function descriptionOf(view: View, model: string): Description | undefined {
  return view.get("model", KEYS.model(model))?.value.description;
}

export function aliasVersion(view: View, model: string, scope: Scope, alias: string): number {
  return view.get("alias", KEYS.alias(model, scope, alias))?.value.version ?? 0;
}

export const championOf = (view: View, model: string, scope: Scope): number =>
  aliasVersion(view, model, scope, "champion");

export function aliasesOf(
  view: View,
  model: string,
): { scope: Scope; alias: string; version: number; previous: number; reason: string }[] {
  return view
    .of("alias", model)
    .map(({ key, value }) => ({ ...aliasParts(key), ...value }))
    .sort((a, b) => (`${a.scope} ${a.alias}` < `${b.scope} ${b.alias}` ? -1 : 1));
}

export function versionOf(view: View, model: string, version: number): VersionState | undefined {
  return view.get("version", KEYS.version(model, version))?.value;
}

/** Versions of a model, oldest first. */
export function versionsOf(view: View, model: string): VersionState[] {
  return view
    .of("version", model)
    .map(({ value }) => value)
    .sort((a, b) => a.version - b.version);
}

export function trackOf(view: View, model: string, scope: Scope): Held<TrackState> | undefined {
  return view.get("track", KEYS.track(model, scope));
}

export function runsOf(view: View, model: string): RunState[] {
  return view
    .of("run", model)
    .map(({ value }) => value)
    .sort((a, b) => a.createdMs - b.createdMs || (a.id < b.id ? -1 : 1));
}

export const RUN_ENDED: ReadonlySet<string> = new Set(["Succeeded", "Failed", "Cancelled"]);
export const ROLLOUT_ENDED: ReadonlySet<string> = new Set(["Promoted", "Rejected", "RolledBack"]);

/** The rollout of a track that has not ended. */
export function liveRollout(view: View, model: string, scope: Scope): Held<RolloutState> | undefined {
  return view.of("rollout", model).find(({ value }) => value.scope === scope && !ROLLOUT_ENDED.has(value.stage));
}

/** The track's event clock: the watermark of its newest verdict, or 0. */
export function eventClock(view: View, ordinal: number): number {
  return view.get("verdict", `verdict.${ordinal}`)?.value.watermarkMs ?? 0;
}

export const workloadId = (model: string, version: number, scope: Scope): string =>
  `wl_${model}_${version}_${scopeToken(scope)}`;

export function workloadOf(view: View, id: string): Held<WorkloadState> | undefined {
  return view.get("workload", KEYS.workload(id));
}

/** Phases in which a replica takes room on its node. */
export const REPLICA_ACTIVE: ReadonlySet<string> = new Set(["Wanted", "Starting", "Probing", "Ready"]);
export const REPLICA_ENDED: ReadonlySet<string> = new Set(["Gone", "Lost"]);

/** Replicas of a workload that are wanted or running, oldest boot first. */
export function replicasOf(view: View, workload: string): Held<ReplicaState>[] {
  return view
    .of("replica", workload)
    .filter(({ value }) => !REPLICA_ENDED.has(value.phase))
    .sort((a, b) => a.value.boot - b.value.boot);
}

export const readyOf = (view: View, workload: string): ReplicaState[] =>
  replicasOf(view, workload).flatMap(({ value }) => (value.phase === "Ready" ? [value] : []));

/** The first boot of this epoch. */
export const bootFloor = (view: View): number => view.get("boot", OWN_KEYS.boot)?.value.floor ?? 0;

/** Keys that make inference ids verify, newest epoch first: the first one makes ids. */
export function macKeys(view: View): Uint8Array[] {
  return view
    .all("mac")
    .sort((a, b) => epochOf(b.key) - epochOf(a.key))
    .map(({ value }) => new Uint8Array(Buffer.from(value.key, "base64")));
}
const epochOf = (key: string): number => Number(key.split(".")[2] ?? 0);
