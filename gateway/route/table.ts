// The routes as the gateway uses them, and the decision for one name. Pure: time and chance are arguments.
// T1 After `valid_until_ms` everything goes to the first arm. T2 An arm without replicas gives its share to the first arm that has some.
// T3 A strict deployment, and a model that lives on strict nodes only, is refused naming the node.
import type { Rand } from "#kernel/base/rand.ts";
import { MeshError } from "#kernel/fault/error.ts";
import type { Routes } from "#proto/driftmesh/internal/v1/sync_pb.ts";

export type Decision =
  | { kind: "endpoints"; model: string; endpoints: readonly string[] }
  /** `model` is set when the name is known: a bounded metric label. */
  | { kind: "refused"; model: string | undefined; error: MeshError };

/** Where labels of a track go: its model, and the node when it is strict. */
export type TrackPlace = { model: string; strictNode: string | undefined };

export type RouteTable = {
  decide(name: string, nowMs: number, rand: Rand): Decision;
  track(ordinal: number): TrackPlace | undefined;
  readonly macKeys: readonly Uint8Array[];
  /** Every address in use: what is not among them can be forgotten. */
  readonly endpoints: ReadonlySet<string>;
};

type Arm = { weight: number; endpoints: readonly string[] };
type ModelRoute = { arms: readonly Arm[]; validUntilMs: number };
type DeploymentRoute = Routes["deployments"][number];

const STRICT = "node/";

/** Indexes what the control plane pushed. */
export function routeTable(routes: Routes): RouteTable {
  const models = new Map<string, ModelRoute>(
    routes.routes.map(({ model, arms, validUntilMs }) => [model, { arms, validUntilMs: Number(validUntilMs) }]),
  );
  const deployments = new Map(routes.deployments.map((deployment) => [deployment.id, deployment]));
  const tracks = new Map<number, TrackPlace>(
    routes.tracks.map(({ ordinal, model, scope }) => [ordinal, { model, strictNode: strictNodeOf(scope) }]),
  );
  const strictNodes = new Map<string, string[]>();
  for (const { model, strictNode } of tracks.values()) {
    if (strictNode !== undefined) strictNodes.set(model, [...(strictNodes.get(model) ?? []), strictNode]);
  }
  const endpoints = new Set(
    [...routes.routes.flatMap(({ arms }) => arms), ...routes.deployments].flatMap((place) => place.endpoints),
  );

  function decide(name: string, nowMs: number, rand: Rand): Decision {
    const deployment = deployments.get(name);
    if (deployment !== undefined) return ofDeployment(deployment, nowMs, rand);
    const route = models.get(name);
    if (route !== undefined) return ofModel(name, route, nowMs, rand);
    const nodes = strictNodes.get(name);
    if (nodes === undefined) return refused(undefined, "DM-3002", `nothing called "${name}" is served here`);
    const where = nodes.map((node) => `"${node}"`).join(", ");
    return refused(name, "DM-3005", `"${name}" is served on strict node ${where} only, at its own endpoint`);
  }

  function ofDeployment(deployment: DeploymentRoute, nowMs: number, rand: Rand): Decision {
    const { id, model, strictNode, state } = deployment;
    if (strictNode !== "")
      return refused(model, "DM-3005", `deployment ${id} is strict: call its own endpoint on node "${strictNode}"`);
    const route = models.get(model);
    if (deployment.follows && route !== undefined) return ofModel(model, route, nowMs, rand);
    if (deployment.endpoints.length > 0) return { kind: "endpoints", model, endpoints: deployment.endpoints };
    return refused(
      model,
      "DM-3003",
      `deployment ${id} of "${model}" is ${state || "waiting"}: it has no ready replica`,
    );
  }

  return { decide, track: (ordinal) => tracks.get(ordinal), macKeys: routes.macKeys, endpoints };
}

function ofModel(model: string, route: ModelRoute, nowMs: number, rand: Rand): Decision {
  const arm = armOf(route, nowMs, rand);
  if (arm === undefined) return refused(model, "DM-3003", `model "${model}" has no ready replica at the moment`);
  return { kind: "endpoints", model, endpoints: arm.endpoints };
}

function armOf({ arms, validUntilMs }: ModelRoute, nowMs: number, rand: Rand): Arm | undefined {
  const live = (arm: Arm | undefined): boolean => arm !== undefined && arm.endpoints.length > 0;
  const fallback = arms.find(live);
  if (arms.length <= 1 || nowMs > validUntilMs) return fallback;
  const total = arms.reduce((sum, arm) => sum + arm.weight, 0);
  let left = total > 0 ? rand.below(total) : 0;
  for (const arm of arms) {
    if (left < arm.weight || total === 0) return live(arm) ? arm : fallback;
    left -= arm.weight;
  }
  return fallback;
}

function refused(model: string | undefined, code: "DM-3002" | "DM-3003" | "DM-3005", says: string): Decision {
  return { kind: "refused", model, error: new MeshError(code, says) };
}

function strictNodeOf(scope: string): string | undefined {
  return scope.startsWith(STRICT) ? scope.slice(STRICT.length) : undefined;
}
