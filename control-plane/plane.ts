// The control plane without its surroundings: everything it needs comes as an argument, so that a simulation can drive it.
import type { Clock } from "#kernel/base/clock.ts";
import type { Rand } from "#kernel/base/rand.ts";
import type { Logger } from "#kernel/process/log.ts";
import type { ConnectRouter } from "#kernel/rpc/connect.ts";
import type { Blobs, EventLog, StateStore } from "#kernel/store/ports.ts";
import { Sync } from "#proto/driftmesh/internal/v1/sync_pb.ts";
import { Deployments } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Discovery } from "#proto/driftmesh/v1/discovery_pb.ts";
import { Mesh } from "#proto/driftmesh/v1/mesh_pb.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import { Retraining } from "#proto/driftmesh/v1/retraining_pb.ts";
import { Rollouts } from "#proto/driftmesh/v1/rollouts_pb.ts";
import {
  type ApiDeps,
  deploymentsService,
  discoveryService,
  meshService,
  registryService,
  retrainingService,
  rolloutsService,
} from "./api/door.ts";
import type { Backend } from "./backend/door.ts";
import { Leader } from "./leader/door.ts";
import { syncService } from "./sync/door.ts";
import { follow, World } from "./world/door.ts";

export type PlaneDeps = {
  /** Buckets mesh_state and mesh_drift (the latter is only read). */
  state: StateStore;
  drift: StateStore;
  /** Streams MESH_PANE (facts) and MESH_EVENT. */
  panes: EventLog;
  events: EventLog;
  blobs: Blobs;
  backend: Backend;
  clock: Clock;
  rand: Rand;
  log: Logger;
  /** Who stands in the lease. */
  holder: string;
  settings: { endpoint: string; dataFolder: string; version: string };
  /** 15 s by default. */
  leaseTtlMs?: number;
};

export type ControlPlane = ReturnType<typeof createControlPlane>;

/** One instance: serves reads from its own world and leads when it is elected. */
export function createControlPlane(deps: PlaneDeps) {
  const { state, drift, panes, blobs, clock, rand, log, settings } = deps;
  const world = new World();
  const leaseTtlMs = deps.leaseTtlMs ?? 15_000;
  const api: ApiDeps = { world, state, drift, panes, blobs, clock, rand, settings, leaseTtlMs };
  const leader = new Leader({ ...deps, world, endpoint: settings.endpoint, leaseTtlMs });
  const services = {
    registry: registryService(api),
    discovery: discoveryService(api),
    deployments: deploymentsService(api),
    retraining: retrainingService(api),
    rollouts: rolloutsService(api),
    mesh: meshService(api),
    sync: syncService({ world, clock }),
  };
  return {
    world,
    services,
    /** Registers every service at a router. */
    routes(router: ConnectRouter): void {
      router.service(Registry, services.registry);
      router.service(Discovery, services.discovery);
      router.service(Deployments, services.deployments);
      router.service(Retraining, services.retraining);
      router.service(Rollouts, services.rollouts);
      router.service(Mesh, services.mesh);
      router.service(Sync, services.sync);
    },
    /** Follows the store, campaigns and leads, until the signal aborts. */
    async run(signal: AbortSignal): Promise<void> {
      await Promise.all([follow({ state, drift, clock, log }, world, signal), leader.run(signal)]);
    },
    /** Resolves when everything in the store has been seen. */
    async synced(signal: AbortSignal): Promise<void> {
      while (!signal.aborted) {
        const { version } = world.changes.get();
        if (version > 0 && world.synced) return;
        await world.changes.changed(version, signal);
      }
    },
    /** Decides and writes until nothing is left to do; the number of batches. Does nothing where this instance does not lead. */
    reconcileOnce: () => leader.reconcile(),
    /** The term in which this instance leads, or undefined. */
    term: () => leader.term,
  };
}
