// Who claims which workload: deployments, live rollouts, and routes that have not moved yet. Counted from the records, never stored (D8).
import type { Scope } from "#kernel/domain/model.ts";
import { KEYS } from "#kernel/domain/state.ts";
import {
  championOf,
  claims as claiming,
  type Deployment,
  deployments,
  liveRollout,
  aliasVersion,
  scopeOf,
  versionOf,
  type View,
  workloadId,
} from "../world/door.ts";

export type Claim = {
  workload: string;
  model: string;
  version: number;
  scope: Scope;
  /** The most that any claim asks for. */
  replicas: number;
  deployments: string[];
  /** Revision of the first acknowledgement among them: who came first is placed first. */
  since: number;
};

/** The version a deployment wants now; 0 when there is none yet. */
export function targetVersion(view: View, { spec }: Pick<Deployment, "spec">): number {
  const { target, model } = spec;
  const version = target.kind === "version" ? target.version : aliasVersion(view, model, scopeOf(spec), target.alias);
  return versionOf(view, model, version) === undefined ? 0 : version;
}

export const followsChampion = ({ spec }: Pick<Deployment, "spec">): boolean =>
  spec.target.kind === "alias" && spec.target.alias === "champion";

/** All claims, first come first. */
export function claimsOf(view: View): Claim[] {
  const found = new Map<string, Claim>();
  const add = (claim: Omit<Claim, "workload" | "deployments">, deployment?: string): void => {
    const workload = workloadId(claim.model, claim.version, claim.scope);
    const known = found.get(workload) ?? { ...claim, workload, deployments: [] };
    if (deployment !== undefined) known.deployments.push(deployment);
    known.replicas = Math.max(known.replicas, claim.replicas);
    known.since = Math.min(known.since, claim.since);
    found.set(workload, known);
  };
  /** Replicas that the followers of a track ask for. */
  const followed = new Map<string, { model: string; scope: Scope; replicas: number; since: number }>();
  for (const deployment of deployments(view)) {
    if (!claiming(deployment)) continue;
    const { spec } = deployment;
    const scope = scopeOf(spec);
    const version = targetVersion(view, deployment);
    const since = deployment.ack?.revision ?? 0;
    if (version > 0) add({ model: spec.model, version, scope, replicas: spec.replicas, since }, spec.id);
    if (!followsChampion(deployment)) continue;
    const key = `${spec.model} ${scope}`;
    const known = followed.get(key) ?? { model: spec.model, scope, replicas: 0, since };
    followed.set(key, {
      ...known,
      replicas: Math.max(known.replicas, spec.replicas),
      since: Math.min(known.since, since),
    });
  }
  for (const { model, scope, replicas, since } of followed.values()) {
    const rollout = liveRollout(view, model, scope)?.value;
    if (rollout !== undefined) {
      add({ model, version: rollout.champion, scope, replicas: 1, since });
      add({ model, version: rollout.challenger, scope, replicas: 1, since: Number.MAX_SAFE_INTEGER });
    }
    for (const { version } of routeArms(view, model, scope))
      if (version !== championOf(view, model, scope)) add({ model, version, scope, replicas, since });
  }
  return [...found.values()].sort((a, b) => a.since - b.since || (a.workload < b.workload ? -1 : 1));
}

function routeArms(view: View, model: string, scope: Scope): readonly { version: number }[] {
  return view.get("route", KEYS.route(model, scope))?.value.arms ?? [];
}
