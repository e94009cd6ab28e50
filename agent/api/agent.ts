// internal.v1 Agent on the socket: converts, checks the fence, and hands on.
// F1 A token below the highest one seen is refused, over restarts of the agent too.
import { create, toJsonString } from "@bufbuild/protobuf";
import { type Cell } from "#kernel/base/queue.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { grpcService, type GrpcService } from "#kernel/rpc/grpcjs.ts";
import {
  Agent,
  type ApplyRequest,
  type HoldRequest,
  type ObservedReplica,
  type ObservedRun,
  ReplicaSpecSchema,
  TokenSchema,
  type WantedReplica,
  type WantedRun,
} from "#proto/driftmesh/internal/v1/agent_pb.ts";

export type FenceToken = { epoch: bigint; term: bigint };

/** What the API stands on. */
export type AgentParts = {
  boot: string;
  nodeNames: readonly string[];
  token: { get(): FenceToken; set(token: FenceToken): void };
  apply(replicas: readonly Replica[], runs: readonly WantedRun[]): void;
  nodes(): readonly { name: string; cpu: number; memoryBytes: number }[];
  replicas(): readonly Omit<ObservedReplica, "$typeName">[];
  runs(): readonly ObservedRun[];
  changes: Cell<number>;
  hold(said: AsyncIterable<HoldRequest>, signal: AbortSignal): AsyncIterable<{ drain: boolean; graceMs: number }>;
  services(): { name: string; state: string; address: string; pid: number; log: string; restarts: number }[];
  /** Ends everything but the agent itself, then lets it go once the answer is out. */
  stop(): Promise<void>;
};

type Replica = {
  id: string;
  boot: number;
  node: string;
  scope: string;
  track: number;
  strict: boolean;
  replica: string;
  draining: boolean;
};

/** The service. */
export function agentService(parts: AgentParts): GrpcService {
  return grpcService(Agent, {
    apply(request) {
      fence(parts, request);
      for (const { spec } of request.replicas) knownNode(parts, spec?.node ?? "");
      for (const { node } of request.runs) knownNode(parts, node);
      parts.apply(request.replicas.flatMap(replicaOf), request.runs);
      return {};
    },
    async *observe(_, call) {
      while (!call.signal.aborted) {
        const { version } = parts.changes.get();
        const nodes = parts.nodes().map((node) => ({ ...node, memoryBytes: BigInt(node.memoryBytes) }));
        yield { agentBoot: parts.boot, nodes, replicas: [...parts.replicas()], runs: [...parts.runs()] };
        await parts.changes.changed(version, call.signal);
      }
    },
    hold: (said, call) => parts.hold(said, call.signal),
    getServices: () => ({ agentBoot: parts.boot, services: parts.services() }),
    async stop() {
      await parts.stop();
      return {};
    },
  });
}

function fence({ token }: AgentParts, request: ApplyRequest): void {
  const { epoch, term } = request.token ?? create(TokenSchema);
  const seen = token.get();
  if (epoch < seen.epoch || (epoch === seen.epoch && term < seen.term)) {
    const said = `epoch ${epoch}, term ${term}`;
    throw new MeshError(
      "DM-2007",
      `the token (${said}) is older than the newest seen (epoch ${seen.epoch}, term ${seen.term})`,
    );
  }
  if (epoch !== seen.epoch || term !== seen.term) token.set({ epoch, term });
}

function knownNode({ nodeNames }: AgentParts, node: string): void {
  if (nodeNames.includes(node)) return;
  throw new MeshError("DM-2004", `no node is called "${node}" here; there are ${nodeNames.join(", ")}`);
}

function replicaOf({ spec, draining }: WantedReplica): Replica[] {
  if (spec === undefined) return [];
  const { id, boot, node, scope, track } = spec;
  const strict = scope !== "open" && scope !== "";
  return [{ id, boot, node, scope, track, strict, replica: toJsonString(ReplicaSpecSchema, spec), draining }];
}
