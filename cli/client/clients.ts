// The public services of a mesh, as clients. Nothing in the CLI talks to anything else.
import { connectClient } from "#kernel/rpc/connect.ts";
import { Deployments } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Discovery } from "#proto/driftmesh/v1/discovery_pb.ts";
import { Drift } from "#proto/driftmesh/v1/drift_pb.ts";
import { Feedback } from "#proto/driftmesh/v1/feedback_pb.ts";
import { Mesh } from "#proto/driftmesh/v1/mesh_pb.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import { Retraining } from "#proto/driftmesh/v1/retraining_pb.ts";
import { Rollouts } from "#proto/driftmesh/v1/rollouts_pb.ts";
import { GRPCInferenceService } from "#proto/inference/grpc_service_pb.ts";

/** One client per public service of the mesh at `server` (host:port). */
export function openClients(server: string) {
  return {
    server,
    registry: connectClient(Registry, server),
    discovery: connectClient(Discovery, server),
    deployments: connectClient(Deployments, server),
    feedback: connectClient(Feedback, server),
    drift: connectClient(Drift, server),
    retraining: connectClient(Retraining, server),
    rollouts: connectClient(Rollouts, server),
    mesh: connectClient(Mesh, server),
    inference: connectClient(GRPCInferenceService, server),
  };
}

export type Clients = ReturnType<typeof openClients>;

/** All items of a paged list: `list` is asked until there is no next token. */
export async function allPages<P extends { nextPageToken: string }, T>(
  list: (pageToken: string) => Promise<P>,
  items: (page: P) => T[],
): Promise<T[]> {
  const all: T[] = [];
  for (let token = ""; ;) {
    const page = await list(token);
    all.push(...items(page));
    if (page.nextPageToken === "") return all;
    token = page.nextPageToken;
  }
}
