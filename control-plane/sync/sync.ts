// driftmesh.internal.v1.Sync: what sidecars and gateways follow. The newest state, then each change; a slow reader may miss states, never the newest.
// Y1 Changes are gathered for GATHER_MS, so that a pass that touches many keys is one message.
import type { Clock } from "#kernel/base/clock.ts";
import { KEYS } from "#kernel/domain/state.ts";
import { MeshError } from "#kernel/fault/error.ts";
import type { ServiceImpl } from "#kernel/rpc/connect.ts";
import type { Sync } from "#proto/driftmesh/internal/v1/sync_pb.ts";
import { modelMessage } from "../backend/door.ts";
import { followsChampion, targetVersion } from "../deployments/door.ts";
import { loadSpec } from "../leader/door.ts";
import {
  alike,
  claims,
  deployments,
  macKeys,
  readyOf,
  scopeOf,
  versionOf,
  type View,
  workloadId,
  workloadOf,
  type World,
} from "../world/door.ts";

const GATHER_MS = 20;

export type SyncDeps = { world: World; clock: Clock };

export function syncService({ world, clock }: SyncDeps): ServiceImpl<typeof Sync> {
  return {
    followReplica({ replica, boot }, { signal }) {
      const known = world.get("replica", KEYS.replica(replica))?.value;
      if (known !== undefined && known.boot !== boot)
        throw new MeshError("DM-2007", `replica ${replica} has boot ${known.boot}, not ${boot}`);
      return follow({ world, clock }, signal, {
        stamp: () => replicaStamp(world, replica),
        look: () => replicaOrders(world, replica),
      });
    },
    followRoutes: (_request, { signal }) =>
      follow({ world, clock }, signal, {
        stamp: () => ROUTE_TABLES.map((table) => world.stamp(table)).join(" "),
        look: () => routesOf(world),
      }),
  };
}

/** `look` is taken when `stamp` has changed, and told when it says something new. */
type Source<T> = { stamp: () => string; look: () => T };

async function* follow<T>(
  { world, clock }: SyncDeps,
  signal: AbortSignal,
  { stamp, look }: Source<T>,
): AsyncGenerator<T> {
  let told: T | undefined;
  let stamped: string | undefined;
  while (!signal.aborted) {
    const { version } = world.changes.get();
    const now = world.synced ? stamp() : stamped;
    if (now !== stamped) {
      stamped = now;
      const message = look();
      if (!alike(told, message)) {
        told = message;
        yield message;
      }
    }
    await world.changes.changed(version, signal);
    await clock.sleep(GATHER_MS, signal).catch(() => undefined);
  }
}

const ROUTE_TABLES = [
  "epoch",
  "mac",
  "track",
  "route",
  "replica",
  "alias",
  "version",
  "spec",
  "ack",
  "end",
  "status",
] as const;

/** Of everything that the orders of a replica are made of. */
function replicaStamp(view: View, id: string): string {
  const workload = workloadOf(view, view.get("replica", KEYS.replica(id))?.value.workload ?? "")?.value;
  const route = workload === undefined ? undefined : view.get("route", KEYS.route(workload.model, workload.scope));
  return `${workload?.id ?? ""} ${route?.revision ?? 0} ${view.stamp("mac")}`;
}

function keysOf(view: View): Uint8Array<ArrayBuffer>[] {
  return macKeys(view).map((key) => new Uint8Array(key));
}

function replicaOrders(view: View, id: string) {
  const base = { macKeys: keysOf(view) };
  const workload = workloadOf(view, view.get("replica", KEYS.replica(id))?.value.workload ?? "")?.value;
  if (workload === undefined) return base;
  const route = view.get("route", KEYS.route(workload.model, workload.scope))?.value;
  const serves = route?.arms.some(({ version }) => version === workload.version) === true;
  const other =
    route?.shadow === null || route === undefined ? undefined : versionOf(view, workload.model, route.shadow.version);
  if (!serves || route.shadow === null || other === undefined || other.version === workload.version) return base;
  return {
    ...base,
    shadow: { rollout: route.shadow.rollout, rate: route.shadow.rate, model: modelMessage(loadSpec(other)) },
  };
}

function routesOf(view: View) {
  const endpoints = (workload: string): string[] => readyOf(view, workload).map(({ address }) => address);
  const open = view.all("route").flatMap(({ value }) => (value.scope === "open" ? [value] : []));
  return {
    epoch: BigInt(view.get("epoch", KEYS.epoch)?.value.epoch ?? 0),
    routes: open.map(({ model, arms, validUntilMs }) => ({
      model,
      arms: arms.map(({ version, weight }) => ({
        version,
        weight,
        endpoints: endpoints(workloadId(model, version, "open")),
      })),
      validUntilMs: BigInt(validUntilMs),
    })),
    deployments: deployments(view)
      .filter((d) => claims(d))
      .map((d) => {
        const { spec, status } = d;
        const follows = spec.mode === "open" && followsChampion(d);
        const workload = workloadId(spec.model, targetVersion(view, d), scopeOf(spec));
        return {
          id: spec.id,
          model: spec.model,
          follows,
          endpoints: follows || spec.mode === "strict" ? [] : endpoints(workload),
          strictNode: spec.mode === "strict" ? spec.node : "",
          state: status?.state ?? "Offered",
        };
      }),
    macKeys: keysOf(view),
    tracks: view.all("track").map(({ value: { ordinal, model, scope } }) => ({ ordinal, model, scope })),
  };
}
