// A mesh of a test's own: started by the command line, on a free port, in a fresh data folder, ended with the test.
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { connectClient } from "#kernel/rpc/connect.ts";
import { Deployments } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Drift } from "#proto/driftmesh/v1/drift_pb.ts";
import { Feedback } from "#proto/driftmesh/v1/feedback_pb.ts";
import { Mesh } from "#proto/driftmesh/v1/mesh_pb.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import { Retraining } from "#proto/driftmesh/v1/retraining_pb.ts";
import { Rollouts } from "#proto/driftmesh/v1/rollouts_pb.ts";
import { GRPCInferenceService } from "#proto/inference/grpc_service_pb.ts";

export const ROOT = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

export type Ended = { code: number; out: string; err: string };

/** Runs a program to its end. */
export function run(
  command: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<Ended> {
  const child = spawn(command[0] ?? "", command.slice(1), {
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, ...options.env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  const { promise, resolve, reject } = Promise.withResolvers<Ended>();
  child.on("error", reject);
  child.on("close", (code) => resolve({ code: code ?? 1, out, err }));
  return promise;
}

/** `driftmesh ARGS` as a user calls it. */
export const driftmesh = (
  args: readonly string[],
  options?: { cwd?: string; env?: Record<string, string> },
): Promise<Ended> => run([process.execPath, join(ROOT, "cli/main.ts"), ...args], options);

/** A port nobody listens on at this moment. */
export function freePort(): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<number>();
  const server = createServer().listen(0, "127.0.0.1", () => {
    const address = server.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    server.close(() => resolve(port));
  });
  return promise;
}

export type TestMesh = Awaited<ReturnType<typeof startMesh>>;

/** Starts a mesh with these nodes (default: local and clinic) and additions to the environment; `await using` ends it. */
export async function startMesh(
  nodes: readonly string[] = ["local:cpu=4,memory=4Gi", "clinic:cpu=1,memory=1Gi"],
  env: Record<string, string> = {},
) {
  const data = await mkdtemp(join(tmpdir(), "driftmesh-e2e-"));
  const port = await freePort();
  const server = `127.0.0.1:${port}`;
  const where = ["--port", String(port), "--data", data, ...nodes.flatMap((node) => ["--node", node])];
  const started = await driftmesh(["dev", "--detach", ...where], { env });
  if (started.code !== 0) throw new Error(`dev ended with ${started.code}: ${started.out}${started.err}`);
  const cli = (...args: string[]): Promise<Ended> => driftmesh([...args, "--server", server]);
  return {
    data,
    port,
    server,
    cli,
    /** The command's one line of JSON; fails when the command does. */
    json: async (...args: string[]): Promise<Record<string, unknown>> => {
      const ended = await cli(...args, "-o", "json");
      if (ended.code !== 0) throw new Error(`driftmesh ${args.join(" ")} ended with ${ended.code}: ${ended.err}`);
      return JSON.parse(ended.out) as Record<string, unknown>;
    },
    deployments: connectClient(Deployments, server),
    drift: connectClient(Drift, server),
    feedback: connectClient(Feedback, server),
    inference: connectClient(GRPCInferenceService, server),
    mesh: connectClient(Mesh, server),
    registry: connectClient(Registry, server),
    retraining: connectClient(Retraining, server),
    rollouts: connectClient(Rollouts, server),
    log: (child: string): Promise<string> => readFile(join(data, "logs", `${child}.log`), "utf8"),
    [Symbol.asyncDispose]: async (): Promise<void> => {
      await driftmesh(["stop", "--data", data]);
      await rm(data, { recursive: true, force: true });
    },
  };
}

/** Looks every 50 ms until `look` finds something; fails with `what` after `ms`. */
export async function eventually<T>(what: string, look: () => Promise<T | undefined>, ms = 30_000): Promise<T> {
  for (const endMs = performance.now() + ms; performance.now() < endMs; await pause(50)) {
    const found = await look();
    if (found !== undefined) return found;
  }
  throw new Error(`not within ${ms} ms: ${what}`);
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
