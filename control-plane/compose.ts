// Builds the control plane of a real mesh: NATS, blobs in a folder, the agent's socket, one listening port.
import { readFileSync } from "node:fs";
import { BUCKETS, STREAMS } from "#kernel/domain/state.ts";
import { integer, optionalText, readSettings, text } from "#kernel/process/env.ts";
import type { RunningService, ServiceContext } from "#kernel/process/run.ts";
import { serveConnect } from "#kernel/rpc/connect.ts";
import { FileBlobs } from "#kernel/store/file/blobs.ts";
import { type NatsCredentials, openNats } from "#kernel/store/nats/door.ts";
import { processBackend } from "./backend/door.ts";
import { createControlPlane } from "./plane.ts";

type Settings = {
  listen: string;
  nats: string;
  credentials: string | undefined;
  blobs: string;
  endpoint: string;
  data: string;
  agent: string;
  leaseMs: number;
};

const SETTINGS = {
  listen: text("DRIFTMESH_LISTEN", { default: "127.0.0.1:0" }),
  nats: text("DRIFTMESH_NATS_URL"),
  credentials: optionalText("DRIFTMESH_NATS_CREDENTIALS"),
  blobs: text("DRIFTMESH_BLOBS"),
  endpoint: text("DRIFTMESH_ENDPOINT"),
  data: text("DRIFTMESH_DATA", { default: "." }),
  agent: text("DRIFTMESH_AGENT_SOCKET"),
  // How long a dead leader is missed. A replicated store's own leader change has stopped writes for 6 s (measured): take 15 s there.
  leaseMs: integer("DRIFTMESH_LEASE_MS", { default: 5_000, min: 1_000, max: 60_000 }),
};

/** The running control plane; disposing it gives the lease back. */
export async function compose(context: ServiceContext): Promise<RunningService> {
  const { env, log, metrics, clock, rand, signal } = context;
  const settings = readSettings<Settings>(env, SETTINGS);
  await using opening = new AsyncDisposableStack();
  const credentials =
    settings.credentials === undefined ? {} : { credentials: JSON.parse(settings.credentials) as NatsCredentials };
  const stores = opening.use(
    await openNats({ url: settings.nats, ...credentials, name: "control-plane", clock, rand }),
  );
  const backend = opening.use(processBackend({ socket: settings.agent, clock, log }));
  const plane = createControlPlane({
    state: stores.state(BUCKETS.state),
    drift: stores.state(BUCKETS.drift),
    panes: stores.log(STREAMS.panes.name),
    events: stores.log(STREAMS.events.name),
    blobs: new FileBlobs({ dir: settings.blobs, rand }),
    backend,
    clock,
    rand,
    log,
    holder: env["DRIFTMESH_CHILD"] ?? "control-plane",
    settings: { endpoint: settings.endpoint, dataFolder: settings.data, version: versionOfMesh() },
    leaseTtlMs: settings.leaseMs,
  });
  const stop = new AbortController();
  const running = plane.run(AbortSignal.any([signal, stop.signal]));
  // Closing runs in reverse: first the work ends and the lease goes back, then the stores close.
  opening.defer(async () => {
    stop.abort();
    await running;
  });
  await plane.synced(signal);
  const server = opening.use(await serveConnect({ listen: settings.listen, routes: plane.routes, log, metrics }));
  const open = opening.move();
  return {
    address: server.address,
    drain: (graceMs) => server.drain(graceMs),
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

function versionOfMesh(): string {
  const path = new URL("../package.json", import.meta.url);
  return (JSON.parse(readFileSync(path, "utf8")) as { version: string }).version;
}
