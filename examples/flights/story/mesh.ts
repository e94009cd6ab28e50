// The story's two ways to the mesh: the command line, and gRPC for what is hot.
import { spawn } from "node:child_process";
import type { DescEnum } from "@bufbuild/protobuf";
import { connectClient } from "#kernel/rpc/connect.ts";
import { Deployments } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Drift } from "#proto/driftmesh/v1/drift_pb.ts";
import { Feedback } from "#proto/driftmesh/v1/feedback_pb.ts";
import { Mesh as MeshService } from "#proto/driftmesh/v1/mesh_pb.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import { Retraining } from "#proto/driftmesh/v1/retraining_pb.ts";
import { Rollouts } from "#proto/driftmesh/v1/rollouts_pb.ts";
import { GRPCInferenceService } from "#proto/inference/grpc_service_pb.ts";
import type { StoryOptions } from "./options.ts";

export type Mesh = ReturnType<typeof openMesh>;
export type Json = Record<string, unknown>;

/** Clients of a mesh, and its command line. */
export function openMesh(options: StoryOptions) {
  const { server } = options;
  return {
    deployments: connectClient(Deployments, server),
    drift: connectClient(Drift, server),
    feedback: connectClient(Feedback, server),
    inference: connectClient(GRPCInferenceService, server),
    mesh: connectClient(MeshService, server),
    registry: connectClient(Registry, server),
    retraining: connectClient(Retraining, server),
    rollouts: connectClient(Rollouts, server),
    /** Clients of a strict deployment's own endpoint. */
    at: (endpoint: string) => ({
      inference: connectClient(GRPCInferenceService, endpoint),
      feedback: connectClient(Feedback, endpoint),
    }),
    /** Runs `driftmesh ARGS -o json --server ...`; its one JSON line. */
    cli: (...args: string[]) => runCli(options, [...args, "-o", "json", "--server", server]),
  };
}

async function runCli(options: StoryOptions, args: readonly string[]): Promise<Json> {
  const { code, out, err } = await spawned([...options.driftmesh, ...args]);
  if (code !== 0) throw new Error(`driftmesh ${args.join(" ")} ended with ${code}: ${err.trim()}`);
  return JSON.parse(out) as Json;
}

/** The word of an enum value: `ready`, `promoted`. */
export function wordOf(schema: DescEnum, value: number): string {
  return (
    schema.values
      .find((v) => v.number === value)
      ?.localName.toLowerCase()
      .replaceAll("_", "-") ?? String(value)
  );
}

/** Runs a program to its end. */
export function spawned(command: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  const child = spawn(command[0] ?? "", command.slice(1), { stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  const { promise, resolve, reject } = Promise.withResolvers<{ code: number; out: string; err: string }>();
  child.on("error", reject);
  child.on("close", (code) => resolve({ code: code ?? 1, out, err }));
  return promise;
}
