// driftmesh.v1.Mesh: nodes, workloads, replicas and the state of the whole.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { KEYS, type ReplicaState } from "#kernel/domain/state.ts";
import type { ServiceImpl } from "#kernel/rpc/connect.ts";
import { encodeBackup } from "#kernel/store/backup/format.ts";
import { takeBackup } from "#kernel/store/backup/take.ts";
import type { Mesh } from "#proto/driftmesh/v1/mesh_pb.ts";
import { resourcesMessage } from "../registry/door.ts";
import { claims, deployments, REPLICA_ENDED, type View, workloadOf } from "../world/door.ts";
import { claimsOf } from "../deployments/door.ts";
import type { ApiDeps } from "./access.ts";

export function meshService(deps: ApiDeps): ServiceImpl<typeof Mesh> {
  const { world, settings, clock, leaseTtlMs } = deps;
  return {
    async *backup(_, { signal }) {
      const { state, drift, panes, blobs } = deps;
      const items = takeBackup({ state, drift, panes, blobs, clock, version: settings.version }, signal);
      for await (const content of encodeBackup(items)) yield { content: new Uint8Array(content) };
    },
    getStatus() {
      const lease = world.lease;
      const heard = lease !== undefined && lease.holder !== "" && clock.monotonicMs() - lease.seenMs < leaseTtlMs;
      return {
        version: settings.version,
        epoch: world.get("epoch", KEYS.epoch)?.value.epoch ?? 0,
        term: BigInt(lease?.term ?? 0),
        hasLeader: heard,
        models: world.all("model").length,
        deployments: deployments(world).filter(claims).length,
        replicasReady: world.all("replica").filter(({ value }) => value.phase === "Ready").length,
        dataFolder: settings.dataFolder,
      };
    },
    listNodes() {
      const nodes = world.all("node").map(({ value: { name, shares, free, alive, changedMs } }) => ({
        name,
        shares: resourcesMessage(shares),
        free: resourcesMessage(free),
        alive,
        changeTime: timestampFromMs(changedMs),
      }));
      return { nodes: nodes.sort(byName) };
    },
    listReplicas({ all }) {
      const shown = world.all("replica").filter(({ value }) => all || !REPLICA_ENDED.has(value.phase));
      return { replicas: shown.map(({ value }) => replicaMessage(world, value)).sort((a, b) => a.boot - b.boot) };
    },
    listWorkloads({ all }) {
      const counts = new Map(claimsOf(world).map((claim) => [claim.workload, claim.deployments.length]));
      const shown = world.all("workload").filter(({ value }) => all || value.phase !== "Destroyed");
      const workloads = shown.map(({ value: w }) => ({
        id: w.id,
        model: w.model,
        version: w.version,
        scope: w.scope,
        replicas: w.replicas,
        phase: w.phase,
        ...(w.cachedUntilMs === 0 ? {} : { cachedUntil: timestampFromMs(w.cachedUntilMs) }),
        reason: w.reason,
        claims: counts.get(w.id) ?? 0,
      }));
      return { workloads: workloads.sort((a, b) => (a.id < b.id ? -1 : 1)) };
    },
  };
}

const byName = (a: { name: string }, b: { name: string }): number => (a.name < b.name ? -1 : 1);

function replicaMessage(view: View, r: ReplicaState) {
  const workload = workloadOf(view, r.workload)?.value;
  return {
    id: r.id,
    workload: r.workload,
    model: workload?.model ?? "",
    version: workload?.version ?? 0,
    scope: workload?.scope ?? "",
    node: r.node,
    boot: r.boot,
    address: r.address,
    phase: r.phase,
    reason: r.reason,
    changeTime: timestampFromMs(r.changedMs),
  };
}
