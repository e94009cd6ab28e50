// The real services, each on a seat of its own: the only way in or out of them is the seat's clock and network.
import { type Client, createClient, createRouterTransport } from "@connectrpc/connect";
import type { Rand } from "#kernel/base/rand.ts";
import type { Logger } from "#kernel/process/log.ts";
import { toConnectError } from "#kernel/rpc/connect.ts";
import { Deployments } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import { Retraining } from "#proto/driftmesh/v1/retraining_pb.ts";
import { Rollouts } from "#proto/driftmesh/v1/rollouts_pb.ts";
import { createControlPlane } from "../../control-plane/plane.ts";
import { createDrift, type Drift, noCounters } from "../../drift/work/door.ts";
import type { Machine } from "./agent.ts";
import type { Seat, SimBlobs, SimBucket, SimLog } from "./store.ts";
import type { Trace } from "./trace.ts";

export type Servers = {
  state: SimBucket;
  drift: SimBucket;
  records: SimLog;
  feedback: SimLog;
  panes: SimLog;
  events: SimLog;
  blobs: SimBlobs;
};

/** An instance of the control plane, as its callers reach it. */
export type ControlPlane = {
  registry: Client<typeof Registry>;
  deployments: Client<typeof Deployments>;
  retraining: Client<typeof Retraining>;
  rollouts: Client<typeof Rollouts>;
};

type Booted<S> = { service: S; ended: Promise<unknown> };
type Around = { servers: Servers; rand: Rand; trace: Trace };

export function bootControlPlane(
  seat: Seat,
  { servers, machine, rand, trace }: Around & { machine: Machine },
): Booted<ControlPlane> {
  const { clock, name } = seat.process;
  const { state, drift, panes, events, blobs } = servers;
  const plane = createControlPlane({
    state: state.for(seat),
    drift: drift.for(seat),
    panes: panes.for(seat),
    events: events.for(seat),
    blobs: blobs.for(seat),
    backend: machine.backendFor(seat),
    clock,
    rand,
    log: logTo(trace, name),
    holder: name,
    settings: { endpoint: "127.0.0.1:4747", dataFolder: "/data", version: "0.0.0" },
  });
  const transport = createRouterTransport((router) => plane.routes(router), {
    router: {
      interceptors: [
        (next) => (request) => next(request).catch((thrown: unknown) => Promise.reject(toConnectError(thrown))),
      ],
    },
  });
  const service: ControlPlane = {
    registry: createClient(Registry, transport),
    deployments: createClient(Deployments, transport),
    retraining: createClient(Retraining, transport),
    rollouts: createClient(Rollouts, transport),
  };
  return { service, ended: plane.run(new AbortController().signal) };
}

export function bootDrift(seat: Seat, { servers, rand, trace }: Around): Booted<Drift> {
  const { clock, name } = seat.process;
  const { drift: state, records, feedback, panes, events, blobs } = servers;
  const drift = createDrift({
    state: state.for(seat),
    records: records.for(seat),
    feedback: feedback.for(seat),
    panes: panes.for(seat),
    events: events.for(seat),
    blobs: blobs.for(seat),
    clock,
    rand,
    log: logTo(trace, name),
    counters: noCounters,
  });
  return { service: drift, ended: drift.run(new AbortController().signal) };
}

/** What a service logs becomes notes of the trace. */
function logTo(trace: Trace, name: string): Logger {
  const say = (event: string, fields: Record<string, unknown> = {}): void => {
    const { error, ...rest } = fields;
    const why = error instanceof Error ? (error.stack ?? error.message).split("\n").slice(0, 3).join(" ") : "";
    trace.add({ kind: "note", says: `${name} logs ${event} ${JSON.stringify(rest)} ${why}` });
  };
  const log: Logger = { debug() {}, info: say, warn: say, error: say, child: () => log };
  return log;
}
