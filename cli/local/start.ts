// Starts the agent of a data folder as a process of its own and waits until the mesh answers.
// S1 Host, nodes, data folder and port are checked before anything is started. S2 When the start fails, no process is left.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, open, readFile, rm } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import { join } from "node:path";
import type { Environment } from "#kernel/base/environment.ts";
import { type HostFile, parseShare, type Share, START_FILE, type StartFailure } from "#kernel/domain/host.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { FAULTS, type FaultCode } from "#kernel/fault/table.ts";
import { isAlive } from "#kernel/store/lock.ts";
import { findNatsServer } from "#kernel/store/nats/find-server.ts";
import { Agent, type Service } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { type Context, UsageError } from "../terminal/door.ts";
import { answers, livingHost, readHost } from "./host.ts";
import { portIsFree } from "./ports.ts";

export type StartOptions = {
  /** Port of the gateway; 0 chooses a free one and keeps it for this data folder. */
  port: number;
  nodes: readonly Share[];
  /** A NATS that runs already: `nats://[user:password@]host:port`. */
  nats?: string | undefined;
};

export type RunningMesh = {
  /** host:port of the gateway: everything a user needs is there. */
  server: string;
  host: HostFile;
  services: readonly Service[];
  /** From the start of the agent until every service answered. */
  readyMs: number;
  /** Resolves when the agent has ended, with its exit code. Until it is called, the agent does not keep this process alive. */
  ended(): Promise<number>;
};

const READY_MS = 60_000;
const LOOK_MS = 20;
const PARTS = ["nats-server", "control-plane", "drift", "gateway"];

/** Starts it; `progress` is told what is being waited for. Throws DM-6003, 6004, 6005. */
export async function startMesh(
  context: Context,
  options: StartOptions,
  progress: (text: string) => void = () => undefined,
): Promise<RunningMesh> {
  const { clock, data, root, env } = context;
  await refuseSecond(data);
  if (options.port !== 0 && !(await portIsFree(options.port)) && !(await heldByOurOwn(data, options.port)))
    throw new MeshError("DM-6004", `port ${options.port} on 127.0.0.1 is taken by another program`);
  const named = env["DRIFTMESH_NATS_SERVER"];
  const search = {
    ...(named === undefined || named === "" ? {} : { named }),
    cacheDir: join(root, ".cache"),
    env,
    say: progress,
  };
  const binary = options.nats === undefined ? (await findNatsServer(search)).binary : "";
  await mkdir(join(data, "logs"), { recursive: true, mode: 0o700 });
  await rm(join(data, START_FILE), { force: true });
  const beganMs = clock.monotonicMs();
  const agent = await spawnAgent(context, options, binary);
  const ended = exitOf(agent);
  try {
    const { host, services } = await untilReady(context, { agent, ended, progress });
    const readyMs = clock.monotonicMs() - beganMs;
    agent.unref();
    const waitForEnd = (): Promise<number> => {
      agent.ref();
      return ended.promise;
    };
    return { server: `127.0.0.1:${host.port}`, host, services, readyMs, ended: waitForEnd };
  } catch (thrown) {
    agent.kill("SIGTERM");
    await ended.promise;
    throw thrown;
  }
}

async function refuseSecond(data: string): Promise<void> {
  const living = await livingHost(data);
  if (living === undefined) return;
  throw new MeshError(
    "DM-6005",
    `the data folder ${data} is in use by another mesh, whose agent has pid ${living.agent.pid}`,
  );
}

/** The gateway of an agent that was killed may still hold the port: the new agent ends it first. */
async function heldByOurOwn(data: string, port: number): Promise<boolean> {
  const host = await readHost(data);
  const gateway = host?.children.find(({ name }) => name === "gateway");
  return host?.port === port && gateway !== undefined && (await isAlive(gateway));
}

async function spawnAgent(context: Context, options: StartOptions, binary: string): Promise<ChildProcess> {
  const { data, root, env } = context;
  const log = await open(join(data, "logs", "agent.log"), "a", 0o600);
  try {
    return spawn(process.execPath, [join(root, "agent/main.ts")], {
      cwd: data,
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
      env: {
        ...withoutOurs(env),
        NODE_COMPILE_CACHE: env["NODE_COMPILE_CACHE"] ?? join(root, ".cache", "compile"),
        DRIFTMESH_DATA: data,
        DRIFTMESH_ROOT: root,
        DRIFTMESH_PORT: String(options.port),
        DRIFTMESH_NODES: JSON.stringify(options.nodes),
        DRIFTMESH_NATS_URL: options.nats ?? "",
        DRIFTMESH_NATS_SERVER: binary,
      },
    });
  } finally {
    await log.close();
  }
}

const PASSED_ON = ["DRIFTMESH_LOG_LEVEL", "DRIFTMESH_OTLP_ENDPOINT", "DRIFTMESH_CORS_ORIGINS"];

/** The caller's environment without settings that belong to processes of another mesh. */
function withoutOurs(env: Environment): Record<string, string | undefined> {
  const kept = Object.entries(env).filter(([name]) => !name.startsWith("DRIFTMESH_") || PASSED_ON.includes(name));
  return Object.fromEntries(kept);
}

type Exiting = { promise: Promise<number>; code: number | undefined };

function exitOf(agent: ChildProcess): Exiting {
  const { promise, resolve } = Promise.withResolvers<number>();
  const exiting: Exiting = { promise, code: undefined };
  agent.once("error", () => resolve((exiting.code = 127)));
  agent.once("exit", (code) => resolve((exiting.code = code ?? 1)));
  return exiting;
}

type Waiting = { agent: ChildProcess; ended: Exiting; progress: (text: string) => void };

async function untilReady(
  context: Context,
  { agent, ended, progress }: Waiting,
): Promise<{ host: HostFile; services: Service[] }> {
  const { clock, data, signal } = context;
  const importing = import("#kernel/rpc/connect.ts");
  const untilMs = clock.monotonicMs() + READY_MS;
  let missing = "";
  for (; clock.monotonicMs() < untilMs; await clock.sleep(LOOK_MS, signal)) {
    if (ended.code !== undefined) throw await startFailure(data);
    const host = await readHost(data);
    if (host?.agent.pid !== agent.pid || host === undefined || !(await answers(host.socket))) continue;
    const client = (await importing).connectClient(Agent, `unix:${host.socket}`);
    const { services } = await client.getServices({}).catch(() => ({ services: [] }));
    const waiting = PARTS.filter((part) => services.find(({ name }) => name === part)?.state !== "ready");
    if (waiting.length === 0) return { host, services };
    await refuseBroken(services);
    if (missing !== waiting.join(", ")) progress(`waiting for ${(missing = waiting.join(", "))}`);
  }
  throw new MeshError(
    "DM-6008",
    `the mesh was not ready after ${READY_MS / 1000} s: ${missing} did not answer; logs are in ${join(data, "logs")}`,
  );
}

/** A service that ends again and again will not come: say what it said last. */
async function refuseBroken(services: readonly Service[]): Promise<void> {
  const broken = services.find(({ restarts, state }) => restarts >= 3 && state !== "ready");
  if (broken === undefined) return;
  const lines = (await readFile(broken.log, "utf8").catch(() => "")).trimEnd().split("\n");
  const said = sentenceOf(lines.findLast((line) => /process\.failed|Error:/.test(line)) ?? lines.at(-1) ?? "");
  throw new MeshError("DM-6008", `${broken.name} does not stay up: ${said}; its log is ${broken.log}`);
}

function sentenceOf(line: string): string {
  try {
    const { error, event } = JSON.parse(line) as { error?: { message?: string }; event?: string };
    return error?.message ?? event ?? line;
  } catch {
    return line === "" ? "it said nothing" : line;
  }
}

async function startFailure(data: string): Promise<MeshError> {
  const text = await readFile(join(data, START_FILE), "utf8").catch(() => "");
  if (text === "")
    return new MeshError("DM-6008", `the agent ended at once; its log is ${join(data, "logs", "agent.log")}`);
  const { fault, message } = JSON.parse(text) as StartFailure;
  return new MeshError(fault in FAULTS ? (fault as FaultCode) : "DM-6008", message);
}

/** Nodes as the user wrote them, or one named `local` with all cores and three quarters of the memory. */
export function nodesFrom(specs: readonly string[]): Share[] {
  const whole = { cpu: availableParallelism(), memoryBytes: Math.floor(totalmem() * 0.75) };
  const shares = (specs.length === 0 ? ["local"] : specs).map((spec) => {
    const read = parseShare(spec, whole);
    if ("problem" in read) throw new UsageError(read.problem, "write --node NAME or --node NAME:cpu=1,memory=1Gi");
    return read.share;
  });
  const twice = shares.find((share, at) => shares.findIndex(({ name }) => name === share.name) !== at);
  if (twice !== undefined) throw new UsageError(`node ${twice.name} is named twice`);
  return shares;
}

/** DM-6006 for every address that is not this machine's alone. */
export function refuseBeyondLoopback(host: string): void {
  const loopback = host === "localhost" || host === "::1" || /^127(\.\d{1,3}){3}$/.test(host);
  if (!loopback)
    throw new MeshError(
      "DM-6006",
      `cannot listen on ${host}: only loopback addresses are allowed until identity and TLS are there`,
    );
}
