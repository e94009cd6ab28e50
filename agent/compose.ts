// Builds the agent: takes the data folder, ends what an earlier agent left, opens the socket, starts the family.
// C1 Nothing is started without the folder's lock. C2 The socket answers before the first child starts: a lifeline never waits.
// C3 Ending goes: the family, then the socket, then the lock.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { base32 } from "#kernel/base/bytes.ts";
import { Cell } from "#kernel/base/queue.ts";
import { type HostFile, type ProcessMark, START_FILE, type StartFailure } from "#kernel/domain/host.ts";
import { MeshError, messageOf } from "#kernel/fault/error.ts";
import type { RunningService, ServiceContext } from "#kernel/process/run.ts";
import { grpcServer } from "#kernel/rpc/grpcjs.ts";
import { openFileLog } from "#kernel/store/file/event-log.ts";
import { lockDataFolder } from "#kernel/store/lock.ts";
import { type AgentParts, agentService, type FenceToken } from "./api/agent.ts";
import { nodeLogService } from "./api/node-log.ts";
import { boundLogs, endAll, Lifelines, markOf } from "./children/door.ts";
import { type Family, type Ports, startFamily } from "./family.ts";
import { type Folders, freePort, HostRecord, makeFolders, readHostFile, socketPath, wantedPort } from "./host.ts";
import { NodeStreams } from "./nodes/streams.ts";
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

/** What the API, the record and the ending share; the family is there once its start is through. */
type Core = {
  readonly context: ServiceContext;
  readonly settings: AgentSettings;
  readonly changes: Cell<number>;
  readonly lifelines: Lifelines;
  family: Family | undefined;
  token: FenceToken;
  changed(): void;
  end(): Promise<void>;
};

async function compose(context: ServiceContext, settings: AgentSettings): Promise<RunningService> {
  const { clock, log } = context;
  await using opened = new AsyncDisposableStack();
  const folders = await makeFolders(settings.data);
  opened.use(await lockDataFolder(settings.data));
  const earlier = await readHostFile(settings.data);
  await endAll(earlier?.children ?? [], OLD_CHILD_GRACE_MS, clock);
  const [socket, ports] = await Promise.all([socketPath(settings.data), choosePorts(settings, earlier)]);
  const core = coreOf(context, settings, { self: await markOf(process.pid), socket, ports, earlier });

  const names = settings.nodes.map(({ name }) => name);
  const streams = new NodeStreams({ nodes: folders.nodes, names, open: (dir) => openFileLog({ dir, clock }) });
  opened.defer(() => streams.close());
  const services = [agentService(partsOf(core)), nodeLogService((node, stream) => streams.of(node, stream))];
  const server = opened.use(await grpcServer({ listen: `unix:${socket}`, log, services }));
  core.changed();
  const { lifelines, changed } = core;
  core.family = await startFamily({ context, settings, folders, socket, ports, lifelines, changed });
  opened.defer(() => core.end());
  changed();
  void followLifelines(lifelines, changed, context.signal);
  void sweepLogs(folders, context);

  const closing = opened.move();
  return { address: server.address, drain: () => core.end(), [Symbol.asyncDispose]: () => closing.disposeAsync() };
}

type Place = { self: ProcessMark; socket: string; ports: Ports; earlier: HostFile | undefined };

function coreOf(context: ServiceContext, settings: AgentSettings, { self, socket, ports, earlier }: Place): Core {
  const record = new HostRecord(settings.data);
  const changes = new Cell(0);
  let ending: Promise<void> | undefined;
  const core: Core = {
    context,
    settings,
    changes,
    lifelines: new Lifelines(),
    family: undefined,
    token: { epoch: BigInt(earlier?.token.epoch ?? 0), term: BigInt(earlier?.token.term ?? 0) },
    changed() {
      changes.set(changes.get().value + 1);
      const token = { epoch: String(core.token.epoch), term: String(core.token.term) };
      const children = core.family?.marks() ?? [];
      void record
        .write({ format: 1, agent: self, socket, port: ports.gateway, ports, children, token })
        .catch((error: unknown) => context.log.error("agent.record-failed", { error }));
    },
    async end() {
      ending ??= core.family?.close() ?? Promise.resolve();
      await ending;
      core.changed();
      await record.settled();
    },
  };
  return core;
}

function partsOf(core: Core): AgentParts {
  const { context, settings, changes, lifelines } = core;
  return {
    boot: base32(context.rand.bytes(10)),
    nodeNames: settings.nodes.map(({ name }) => name),
    token: {
      get: () => core.token,
      set(newer) {
        core.token = newer;
        core.changed();
      },
    },
    apply: (replicas, runs) => core.family?.apply(replicas, runs),
    nodes: () => settings.nodes,
    replicas: () => core.family?.replicas.seen() ?? [],
    runs: () => core.family?.runs.seen() ?? [],
    changes,
    hold: (said, signal) => lifelines.hold(said, signal),
    services: () => core.family?.views() ?? [],
    async stop() {
      await core.end();
      process.kill(process.pid, "SIGTERM");
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
