// Everything the agent is parent of: nats-server, services, replicas, runs. Built here with the environment of each, ended here in order.
// M1 Ending goes: runs and gateway, replicas, drift and its joiners, control-plane, nats-server.
import { join } from "node:path";
import type { HostFile } from "#kernel/domain/host.ts";
import type { ServiceContext } from "#kernel/process/run.ts";
import { FileBlobs } from "#kernel/store/file/blobs.ts";
import { baseEnvironment, type Lifelines, Services, type ServiceView } from "./children/door.ts";
import type { Folders } from "./host.ts";
import { type Nats, openNats } from "./nats.ts";
import { Replicas } from "./replicas/door.ts";
import { forgetRuns, Runs } from "./runs/door.ts";
import type { AgentSettings } from "./settings.ts";

/** Ports that stay the same over restarts. */
export type Ports = { gateway: number; nats: number; control: number; drift: number };

export type FamilyOptions = {
  context: ServiceContext;
  settings: AgentSettings;
  folders: Folders;
  socket: string;
  ports: Ports;
  lifelines: Lifelines;
  changed: () => void;
};

export type Family = {
  readonly replicas: Replicas;
  readonly runs: Runs;
  apply(replicas: Parameters<Replicas["apply"]>[0], runs: Parameters<Runs["apply"]>[0]): void;
  views(): ServiceView[];
  /** Living processes, for agent.json. */
  marks(): HostFile["children"];
  close(): Promise<void>;
};

type Keep = (name: string, entry: string, own: Record<string, string>) => void;
type Environments = { store: Record<string, string>; base: Record<string, string>; blobs: Record<string, string> };

/** nats-server first, since all others need it; then the three services at once. */
export async function startFamily(options: FamilyOptions): Promise<Family> {
  const { context, settings, folders, socket, ports, lifelines, changed } = options;
  const { clock, rand, log, env } = context;
  const nats = await openNats({
    clock,
    rand,
    log,
    env,
    changed,
    dir: folders.nats,
    cacheDir: join(settings.root, ".cache"),
    port: ports.nats,
    url: settings.natsUrl,
    binary: settings.natsServer,
  });
  ports.nats = nats.port;
  const environments: Environments = {
    base: { ...baseEnvironment(env), DRIFTMESH_AGENT_SOCKET: socket },
    store: { DRIFTMESH_NATS_URL: nats.url, DRIFTMESH_NATS_CREDENTIALS: nats.credentials },
    blobs: { DRIFTMESH_BLOBS: folders.blobs },
  };
  const services = new Services({ clock, rand, log, lifelines, changed });
  const keep = keeper(options, services, environments);
  keepServices(options, keep, environments);
  const replicas = replicasOf(options, keep, environments);
  const runs = runsOf(options);
  let told = false;
  return {
    replicas,
    runs,
    apply(wantedReplicas, wantedRuns) {
      replicas.apply(wantedReplicas);
      runs.apply(wantedRuns);
      if (!told) void forgetRuns(folders.nodes, wantedRuns);
      told = true;
    },
    views: () => [nats.view(), ...services.views(), ...replicas.views()],
    marks: () => [
      ...[...services.children(), ...replicas.children()].map(({ name, mark }) => ({ name, ...mark })),
      ...runs.marks(),
    ],
    close: () => endFamily({ services, replicas, runs, nats }),
  };
}

function keeper({ settings, folders }: FamilyOptions, services: Services, { base, store }: Environments): Keep {
  return (name, entry, own) => {
    const listen = { DRIFTMESH_LISTEN: local(0), DRIFTMESH_CHILD: name };
    services.keep({
      name,
      entry: join(settings.root, entry),
      cwd: settings.data,
      log: join(folders.logs, `${name.replaceAll("/", "-")}.log`),
      env: { ...base, ...store, ...listen, ...own },
    });
  };
}

function keepServices({ settings, ports }: FamilyOptions, keep: Keep, { blobs }: Environments): void {
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
}

function replicasOf(options: FamilyOptions, keep: Keep, { base, store, blobs }: Environments): Replicas {
  const { context, settings, folders, ports, lifelines, changed } = options;
  return new Replicas({
    clock: context.clock,
    log: context.log,
    lifelines,
    changed,
    nodes: folders.nodes,
    logs: folders.logs,
    cwd: settings.data,
    entry: join(settings.root, "sidecar/main.ts"),
    env: { ...base, ...store, ...blobs, DRIFTMESH_LISTEN: local(0), DRIFTMESH_CONTROL: local(ports.control) },
    strictNode: (node) =>
      keep(`drift/${node}`, "drift/main.ts", {
        ...blobs,
        DRIFTMESH_ROLE: "node",
        DRIFTMESH_NODE: node,
        DRIFTMESH_NODE_DATA: join(folders.nodes, node, "join"),
      }),
  });
}

function runsOf({ context, settings, folders, changed }: FamilyOptions): Runs {
  const blobs = new FileBlobs({ dir: folders.blobs, rand: context.rand });
  return new Runs({
    clock: context.clock,
    log: context.log,
    changed,
    blobs,
    nodes: folders.nodes,
    blobPath: (sha256) => blobs.pathOf(sha256),
    modules: join(settings.root, "node_modules"),
    probe: join(settings.root, "sidecar/probe/main.ts"),
    env: baseEnvironment(context.env),
  });
}

type Members = { services: Services; replicas: Replicas; runs: Runs; nats: Nats };

async function endFamily({ services, replicas, runs, nats }: Members): Promise<void> {
  await Promise.all([runs.close(), services.end(["gateway"])]);
  await replicas.close();
  await services.end(services.views().flatMap(({ name }) => (name.startsWith("drift") ? [name] : [])));
  await services.endAll();
  await nats.stop();
}

const local = (port: number): string => `127.0.0.1:${port}`;
