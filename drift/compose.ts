// Builds the drift service: role `mesh` joins open tracks, judges all tracks and serves driftmesh.v1.Drift; role `node` joins the strict
// tracks of one node from the agent's streams and lets nothing but outcome panes and names of segments leave.
import { join } from "node:path";
import { optionalText, readSettings, text } from "#kernel/process/env.ts";
import type { RunningService, ServiceContext } from "#kernel/process/run.ts";
import { serveConnect, type ConnectRouter } from "#kernel/rpc/connect.ts";
import { grpcClient } from "#kernel/rpc/grpcjs.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { FileBlobs } from "#kernel/store/file/blobs.ts";
import { openNats, type NatsCredentials, type NatsStores } from "#kernel/store/nats/door.ts";
import { NodeLog } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { driftRoutes } from "./api/door.ts";
import { createDrift, createNodeJoin, driftCounters, NodeEventLog } from "./work/door.ts";

type Settings = {
  role: string;
  listen: string;
  natsUrl: string;
  natsCredentials: string | undefined;
  blobs: string;
  node: string | undefined;
  nodeData: string | undefined;
  socket: string | undefined;
};

function readDriftSettings(env: ServiceContext["env"]): Settings {
  return readSettings<Settings>(env, {
    role: text("DRIFTMESH_ROLE", { default: "mesh", oneOf: ["mesh", "node"] }),
    listen: text("DRIFTMESH_LISTEN", { default: "127.0.0.1:0" }),
    natsUrl: text("DRIFTMESH_NATS_URL"),
    natsCredentials: optionalText("DRIFTMESH_NATS_CREDENTIALS"),
    blobs: text("DRIFTMESH_BLOBS"),
    node: optionalText("DRIFTMESH_NODE"),
    nodeData: optionalText("DRIFTMESH_NODE_DATA"),
    socket: optionalText("DRIFTMESH_AGENT_SOCKET"),
  });
}

/** Composes the service from the environment. */
export async function compose(context: ServiceContext): Promise<RunningService> {
  const settings = readDriftSettings(context.env);
  const { clock, rand } = context;
  await using opened = new AsyncDisposableStack();
  const credentials = credentialsOf(settings.natsCredentials);
  const nats = opened.use(
    await openNats({
      url: settings.natsUrl,
      name: settings.role === "node" ? `drift-${settings.node ?? ""}` : "drift",
      clock,
      rand,
      ...(credentials === undefined ? {} : { credentials }),
    }),
  );
  const { run, routes } =
    settings.role === "node" ? node(settings, nats, context, opened) : mesh(settings, nats, context);
  const over = new AbortController();
  const running = run(AbortSignal.any([context.signal, over.signal]));
  opened.defer(async () => {
    over.abort();
    await running;
  });
  const { log, metrics } = context;
  const server = opened.use(await serveConnect({ listen: settings.listen, routes, log, metrics }));
  const closing = opened.move();
  return {
    address: server.address,
    drain: (graceMs) => server.drain(graceMs),
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

type Part = { run: (signal: AbortSignal) => Promise<void>; routes: (router: ConnectRouter) => void };

function mesh({ blobs }: Settings, nats: NatsStores, { clock, rand, log, metrics }: ServiceContext): Part {
  const drift = createDrift({
    state: nats.state("mesh_drift"),
    records: nats.log("MESH_REC"),
    feedback: nats.log("MESH_FB"),
    panes: nats.log("MESH_PANE"),
    events: nats.log("MESH_EVENT"),
    blobs: new FileBlobs({ dir: blobs, rand }),
    clock,
    rand,
    log,
    counters: driftCounters(metrics),
  });
  return { run: (signal) => drift.run(signal), routes: driftRoutes(drift, clock) };
}

function node(settings: Settings, nats: NatsStores, context: ServiceContext, opened: AsyncDisposableStack): Part {
  const { clock, rand, log, metrics } = context;
  const { node: name, nodeData: dir, socket } = settings;
  if (name === undefined || dir === undefined || socket === undefined) {
    throw new MeshError("DM-1002", "role node needs DRIFTMESH_NODE, DRIFTMESH_NODE_DATA and DRIFTMESH_AGENT_SOCKET");
  }
  const client = opened.use(grpcClient(NodeLog, socket.startsWith("unix:") ? socket : `unix:${socket}`));
  const joining = createNodeJoin({
    node: name,
    dir,
    own: new FileBlobs({ dir: join(dir, "blobs"), rand }),
    shared: new FileBlobs({ dir: settings.blobs, rand }),
    records: new NodeEventLog({ client, node: name, stream: "MESH_REC" }),
    feedback: new NodeEventLog({ client, node: name, stream: "MESH_FB" }),
    panes: nats.log("MESH_PANE"),
    state: nats.state("mesh_drift"),
    clock,
    log,
    counters: driftCounters(metrics),
  });
  return { run: (signal) => joining.run(signal), routes: () => undefined };
}

function credentialsOf(raw: string | undefined): NatsCredentials | undefined {
  if (raw === undefined) return undefined;
  try {
    return JSON.parse(raw) as NatsCredentials;
  } catch (cause) {
    throw new MeshError("DM-1002", "DRIFTMESH_NATS_CREDENTIALS is no JSON of user and password", { cause });
  }
}
