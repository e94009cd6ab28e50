// Builds the agent: takes the data folder, ends what an earlier agent left, opens the socket, starts nats-server and the services.
// C1 The socket answers before the first child starts: a child's lifeline never waits. C2 Nothing is started without the folder's lock.
// C3 Ending goes: runs, gateway, replicas, joiners and drift, control-plane, nats-server; then the socket closes.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { base32 } from "#kernel/base/bytes.ts";
import { Cell } from "#kernel/base/queue.ts";
import { type HostFile, START_FILE, type StartFailure } from "#kernel/domain/host.ts";
import { MeshError, messageOf } from "#kernel/fault/error.ts";
import type { RunningService, ServiceContext } from "#kernel/process/run.ts";
import { grpcServer } from "#kernel/rpc/grpcjs.ts";
import { FileBlobs } from "#kernel/store/file/blobs.ts";
import { openFileLog } from "#kernel/store/file/event-log.ts";
import { lockDataFolder } from "#kernel/store/lock.ts";
import { agentService, type FenceToken } from "./api/agent.ts";
import { nodeLogService } from "./api/node-log.ts";
import { baseEnvironment, boundLogs, endAll, Lifelines, markOf, Services } from "./children/door.ts";
import { type Folders, freePort, HostRecord, makeFolders, readHostFile, socketPath, wantedPort } from "./host.ts";
import { type Nats, openNats } from "./nats.ts";
import { NodeStreams } from "./nodes/streams.ts";
import { Replicas } from "./replicas/door.ts";
import { forgetRuns, Runs } from "./runs/door.ts";
import { type AgentSettings, readAgentSettings } from "./settings.ts";

const LOG_SWEEP_MS = 10_000;
const OLD_CHILD_GRACE_MS = 5_000;

/** Composes it; when it cannot start, start.json in the data folder says why. */
export async function composeAgent(context: ServiceContext): Promise<RunningService> {
  const settings = readAgentSettings(context.env);
  try {
    return await compose(context, settings);
  } catch (thrown) {
    const fault = thrown instanceof MeshError ? thrown.fault : "DM-6008";
    const failure: StartFailure = { fault, message: messageOf(thrown) };
    await writeFile(join(settings.data, START_FILE), JSON.stringify(failure)).catch(() => undefined);
    throw thrown;
  }
}

async function compose(context: ServiceContext, settings: AgentSettings): Promise<RunningService> {
  const { clock, rand, log } = context;
  await using opened = new AsyncDisposableStack();
  const folders = await makeFolders(settings.data);
  opened.use(await lockDataFolder(settings.data));
  const earlier = await readHostFile(settings.data);
  await endAll(earlier?.children ?? [], OLD_CHILD_GRACE_MS, clock);
  const [socket, ports] = await Promise.all([socketPath(settings.data), choosePorts(settings, earlier)]);

  const changes = new Cell(0);
  const lifelines = new Lifelines();
  const record = new HostRecord(settings.data);
  const self = await markOf(process.pid);
  let token: FenceToken = { epoch: BigInt(earlier?.token.epoch ?? 0), term: BigInt(earlier?.token.term ?? 0) };
  let parts: Children | undefined;
  const changed = (): void => {
    changes.set(changes.get().value + 1);
    const file: HostFile = {
      format: 1,
      agent: self,
      socket,
      port: ports.gateway,
      ports,
      children: parts === undefined ? [] : marksOf(parts),
      token: { epoch: String(token.epoch), term: String(token.term) },
    };
    void record.write(file).catch((error: unknown) => log.error("agent.record-failed", { error }));
  };

  const streams = new NodeStreams({
    nodes: folders.nodes,
    names: settings.nodes.map(({ name }) => name),
    open: (dir) => openFileLog({ dir, clock }),
  });
  opened.defer(() => streams.close());
  const stopAll = once(async () => {
    await parts?.close();
    changed();
  });
  const server = opened.use(
    await grpcServer({
      listen: `unix:${socket}`,
      log,
      services: [
        agentService({
          boot: base32(rand.bytes(10)),
          nodeNames: settings.nodes.map(({ name }) => name),
          token: { get: () => token, set: (newer) => void (token = newer) },
          apply: (replicas, runs) => parts?.apply(replicas, runs),
          observed: () => ({
            nodes: settings.nodes.map(({ name, cpu, memoryBytes }) => nodeSeen(name, cpu, memoryBytes)),
            replicas: parts?.replicas.seen().map(replicaSeen) ?? [],
            runs: parts?.runs.seen() ?? [],
          }),
          changes,
          hold: (said, signal) => lifelines.hold(said, signal),
          services: () => parts?.views() ?? [],
          async stop() {
            await stopAll();
            process.kill(process.pid, "SIGTERM");
          },
        }),
        nodeLogService((node, stream) => streams.of(node, stream)),
      ],
    }),
  );
  changed();
  parts = await startChildren({ context, settings, folders, socket, ports, lifelines, changed });
  opened.defer(stopAll);
  changed();
  void followLifelines(lifelines, changed, context.signal);
  void sweepLogs(folders, context);

  const closing = opened.move();
  return {
    address: server.address,
    drain: stopAll,
    [Symbol.asyncDispose]: () => closing.disposeAsync(),
  };
}

type Children = {
  services: Services;
  replicas: Replicas;
  runs: Runs;
  nats: Nats;
  apply(replicas: Parameters<Replicas["apply"]>[0], runs: Parameters<Runs["apply"]>[0]): void;
  views(): ReturnType<Services["views"]>;
  close(): Promise<void>;
};

type Ports = { gateway: number; nats: number; control: number; drift: number };
type StartOptions = {
  context: ServiceContext;
  settings: AgentSettings;
  folders: Folders;
  socket: string;
  ports: Ports;
  lifelines: Lifelines;
  changed: () => void;
};

/** nats-server first, since all others need it; then the three services at once. */
async function startChildren(options: StartOptions): Promise<Children> {
  const { context, settings, folders, socket, ports, lifelines, changed } = options;
  const { clock, rand, log, env } = context;
  const { root } = settings;
  const nats = await openNats({
    ...{ clock, rand, log, env, changed, dir: folders.nats, cacheDir: join(root, ".cache"), port: ports.nats },
    url: settings.natsUrl,
    binary: settings.natsServer,
  });
  ports.nats = nats.port;
  const base = { ...baseEnvironment(env), DRIFTMESH_AGENT_SOCKET: socket };
  const store = { DRIFTMESH_NATS_URL: nats.url, DRIFTMESH_NATS_CREDENTIALS: nats.credentials };
  const blobs = { DRIFTMESH_BLOBS: folders.blobs };
  const local = (port: number): string => `127.0.0.1:${port}`;
  const services = new Services({ clock, rand, log, lifelines, changed });
  const keep = (name: string, entry: string, own: Record<string, string>): void => {
    const file = `${name.replaceAll("/", "-")}.log`;
    const listen = { DRIFTMESH_LISTEN: local(0), DRIFTMESH_CHILD: name };
    services.keep({
      name,
      entry: join(root, entry),
      cwd: settings.data,
      log: join(folders.logs, file),
      env: { ...base, ...store, ...listen, ...own },
    });
  };
  keep("control-plane", "control-plane/main.ts", {
    ...blobs,
    DRIFTMESH_LISTEN: local(ports.control),
    DRIFTMESH_ENDPOINT: local(ports.gateway),
    DRIFTMESH_DATA: settings.data,
  });
  keep("drift", "drift/main.ts", { ...blobs, DRIFTMESH_LISTEN: local(ports.drift), DRIFTMESH_ROLE: "mesh" });
  keep("gateway", "gateway/main.ts", {
    DRIFTMESH_LISTEN: local(ports.gateway),
    DRIFTMESH_CONTROL: local(ports.control),
    DRIFTMESH_DRIFT: local(ports.drift),
    DRIFTMESH_CORS_ORIGINS: settings.cors ?? "",
  });
  const strictNode = (node: string): void => {
    const DRIFTMESH_NODE_DATA = join(folders.nodes, node, "join");
    keep(`drift/${node}`, "drift/main.ts", {
      ...blobs,
      DRIFTMESH_ROLE: "node",
      DRIFTMESH_NODE: node,
      DRIFTMESH_NODE_DATA,
    });
  };
  const replicas = new Replicas({
    ...{ clock, log, lifelines, changed, strictNode, nodes: folders.nodes, logs: folders.logs, cwd: settings.data },
    entry: join(root, "sidecar/main.ts"),
    env: { ...base, ...store, ...blobs, DRIFTMESH_LISTEN: local(0), DRIFTMESH_CONTROL: local(ports.control) },
  });
  const fileBlobs = new FileBlobs({ dir: folders.blobs, rand });
  const runs = new Runs({
    ...{ clock, log, changed, blobs: fileBlobs, nodes: folders.nodes },
    blobPath: (sha256) => join(folders.blobs, sha256.slice(0, 2), sha256),
    modules: join(root, "node_modules"),
    probe: join(root, "sidecar/probe/main.ts"),
    env: baseEnvironment(env),
  });
  let known = false;
  return {
    ...{ services, replicas, runs, nats },
    apply(wantedReplicas, wantedRuns) {
      replicas.apply(wantedReplicas);
      runs.apply(wantedRuns);
      if (!known) void forgetRuns(folders.nodes, wantedRuns);
      known = true;
    },
    views: () => [nats.view(), ...services.views()],
    async close() {
      const joiners = services.views().flatMap(({ name }) => (name.startsWith("drift") ? [name] : []));
      await Promise.all([runs.close(), services.end(["gateway"])]);
      await replicas.close();
      await services.end(joiners);
      await services.endAll();
      await nats.stop();
    },
  };
}

/** Ports are chosen once: what agent.json has is taken again while it is free. The gateway's is the user's choice. */
async function choosePorts({ port }: AgentSettings, earlier: HostFile | undefined): Promise<Ports> {
  const had = earlier?.ports ?? {};
  const [gateway, nats, control, drift] = await Promise.all([
    port === 0 ? freePort(had["gateway"]) : wantedPort(port),
    freePort(had["nats"]),
    freePort(had["control"]),
    freePort(had["drift"]),
  ]);
  return { gateway, nats, control, drift };
}

function marksOf({ services, replicas, runs }: Children): HostFile["children"] {
  const children = [...services.children(), ...replicas.children()].map(({ name, mark }) => ({ name, ...mark }));
  return [...children, ...runs.marks()];
}

const nodeSeen = (name: string, cpu: number, memoryBytes: number) => ({
  $typeName: "driftmesh.internal.v1.ObservedNode" as const,
  ...{ name, cpu, memoryBytes: BigInt(memoryBytes) },
});
const replicaSeen = (replica: ReturnType<Replicas["seen"]>[number]) => ({
  $typeName: "driftmesh.internal.v1.ObservedReplica" as const,
  ...replica,
});

/** What a child says of itself is a change of what is observed. */
async function followLifelines({ changes }: Lifelines, changed: () => void, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    const { version } = changes.get();
    await changes.changed(version, signal);
    changed();
  }
}

async function sweepLogs({ logs }: Folders, { clock, log, signal }: ServiceContext): Promise<void> {
  while (!signal.aborted) {
    await boundLogs(logs).catch((error: unknown) => log.warn("agent.log-sweep-failed", { error }));
    await clock.sleep(LOG_SWEEP_MS, signal).catch(() => undefined);
  }
}

function once(act: () => Promise<void>): () => Promise<void> {
  let acting: Promise<void> | undefined;
  return () => (acting ??= act());
}
