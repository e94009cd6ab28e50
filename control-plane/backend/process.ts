// The process backend: the agent of this machine, over its unix socket. Wire types stop here.
// X1 What was seen last stays seen while the agent is away; only `connected` changes.
import type { Clock } from "#kernel/base/clock.ts";
import { Cell } from "#kernel/base/queue.ts";
import type { Datatype, TensorSpec } from "#kernel/domain/model.ts";
import type { Token } from "#kernel/domain/state.ts";
import type { Logger } from "#kernel/process/log.ts";
import { type GrpcClient, grpcClient } from "#kernel/rpc/grpcjs.ts";
import { Agent, type ModelSpec, type Observed as ObservedMessage } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import type {
  Backend,
  LoadSpec,
  Observed,
  ReplicaReport,
  RunReport,
  WantedReplica,
  WantedRun,
  WantedSet,
} from "./backend.ts";

const RECONNECT_MS = 500;
const APPLY_DEADLINE_MS = 10_000;

/** Talks to the agent at a unix socket. Dispose to close the channel. */
export function processBackend(options: { socket: string; clock: Clock; log: Logger }): Backend & Disposable {
  const client = grpcClient(Agent, `unix:${options.socket}`);
  const sidecarsOf = (wanted: WantedSet) => wanted.replicas.map((replica) => replicaMessage(replica, wanted.macKeys));
  return {
    name: "process",
    async apply(wanted: WantedSet, token: Token): Promise<void> {
      const request = {
        token: { epoch: BigInt(token.epoch), term: BigInt(token.term) },
        replicas: sidecarsOf(wanted),
        runs: wanted.runs.map(runMessage),
      };
      await client.apply(request, { deadlineMs: APPLY_DEADLINE_MS });
    },
    observe: (signal) => observe(client, options, signal),
    refuses: ({ runtime, image }) =>
      runtime === "image"
        ? `the process backend runs no container images${image === undefined ? "" : ` (${image})`}: register an ONNX file instead`
        : undefined,
    [Symbol.dispose]: () => client[Symbol.dispose](),
  };
}

async function* observe(
  client: GrpcClient<typeof Agent>,
  { clock, log }: { clock: Clock; log: Logger },
  signal: AbortSignal,
): AsyncGenerator<Observed> {
  const cell = new Cell<Observed | undefined>(undefined);
  const pumping = pump();
  try {
    while (!signal.aborted) {
      const { value, version } = cell.get();
      if (value !== undefined) yield value;
      await cell.changed(version, signal);
    }
  } finally {
    await pumping;
  }

  async function pump(): Promise<void> {
    let sinceMs = clock.wallMs();
    while (!signal.aborted) {
      let connected = false;
      try {
        for await (const message of client.observe({}, { signal })) {
          if (!connected) sinceMs = clock.wallMs();
          connected = true;
          cell.set(observedOf(message, sinceMs));
        }
      } catch (error) {
        if (signal.aborted) return;
        // Once per silence: it is tried twice a second.
        if (cell.get().value?.connected !== false) log.warn("backend.agent-away", { error });
      }
      if (signal.aborted) return;
      const last = cell.get().value;
      if (connected || last === undefined) sinceMs = clock.wallMs();
      if (last === undefined || last.connected)
        cell.set({ ...(last ?? { agentBoot: "", nodes: [], replicas: [], runs: [] }), connected: false, sinceMs });
      await clock.sleep(RECONNECT_MS, signal).catch(() => undefined);
    }
  }
}

function observedOf(message: ObservedMessage, sinceMs: number): Observed {
  return {
    connected: true,
    sinceMs,
    agentBoot: message.agentBoot,
    nodes: message.nodes.map(({ name, cpu, memoryBytes }) => ({
      name,
      shares: { cpu, memoryBytes: Number(memoryBytes) },
    })),
    replicas: message.replicas.flatMap(({ id, boot, phase, address, reason, lastNumber }) =>
      isReplicaPhase(phase) ? [{ id, boot, phase, address, reason, lastNumber: Number(lastNumber) }] : [],
    ),
    runs: message.runs.flatMap((run) =>
      isRunPhase(run.phase)
        ? [
            {
              id: run.id,
              attempt: run.attempt,
              phase: run.phase,
              reason: run.reason,
              artifactSha256: run.artifactSha256,
              artifactBytes: Number(run.artifactBytes),
              profileSha256: run.profileSha256,
              metrics: run.metrics,
              logSha256: run.logSha256,
              load: run.model === undefined ? undefined : loadOf(run.model),
            },
          ]
        : [],
    ),
  };
}

const REPLICA_PHASES: readonly string[] = [
  "starting",
  "ready",
  "draining",
  "gone",
  "lost",
] satisfies ReplicaReport["phase"][];
const RUN_PHASES: readonly string[] = ["running", "checking", "succeeded", "failed"] satisfies RunReport["phase"][];
/** A phase of a newer agent is as if it had said nothing: the next report decides. */
const isReplicaPhase = (phase: string): phase is ReplicaReport["phase"] => REPLICA_PHASES.includes(phase);
const isRunPhase = (phase: string): phase is RunReport["phase"] => RUN_PHASES.includes(phase);

function loadOf(spec: ModelSpec): LoadSpec {
  const tensors = (list: ModelSpec["inputs"]): TensorSpec[] =>
    list.map(({ name, datatype, shape }) => ({ name, datatype: datatype as Datatype, shape: shape.map(Number) }));
  const { model, version, artifactSha256, profileSha256, scoreOutput, scoreKind } = spec;
  const signature = { inputs: tensors(spec.inputs), outputs: tensors(spec.outputs) };
  const features = spec.features.map(({ name, type }) => ({
    name,
    type: type === "category" ? ("category" as const) : ("number" as const),
  }));
  return { model, version, artifactSha256, profileSha256, scoreOutput, scoreKind, signature, features };
}

/** A version for whoever loads it, in its wire form. */
export function modelMessage(load: LoadSpec) {
  const tensors = (list: readonly TensorSpec[]) =>
    list.map(({ name, datatype, shape }) => ({ name, datatype, shape: shape.map(BigInt) }));
  const { model, version, artifactSha256, profileSha256, scoreOutput, scoreKind, signature, features } = load;
  return {
    model,
    version,
    artifactSha256,
    profileSha256,
    scoreOutput,
    scoreKind,
    inputs: tensors(signature.inputs),
    outputs: tensors(signature.outputs),
    features: features.map(({ name, type }) => ({ name, type })),
  };
}

function replicaMessage(replica: WantedReplica, macKeys: readonly Uint8Array[]) {
  const { id, workload, boot, node, scope, ordinal, load, clientEventTime, labelHorizonHours, resources, draining } =
    replica;
  const spec = {
    id,
    workload,
    boot,
    node,
    scope,
    track: ordinal,
    model: modelMessage(load),
    clientEventTime,
    labelHorizonHours,
    macKeys: macKeys.map((key) => new Uint8Array(key)),
    cpu: resources.cpu,
    memoryBytes: BigInt(resources.memoryBytes),
  };
  return { spec, draining };
}

function runMessage(run: WantedRun) {
  const {
    id,
    attempt,
    node,
    scope,
    train,
    treeSha256,
    command,
    timeoutSeconds,
    manifestSha256,
    artifactSha256,
    kind,
    resources,
  } = run;
  return {
    id,
    attempt,
    node,
    scope,
    train,
    treeSha256,
    timeoutSeconds,
    manifestSha256,
    artifactSha256,
    kind,
    command: [...command],
    hyperparametersJson: JSON.stringify(run.hyperparameters),
    model: modelMessage(run.load),
    exampleJson: run.example === undefined ? "" : JSON.stringify(run.example),
    ancestorProfileSha256: run.ancestorProfileSha256,
    traceparent: run.trace ?? "",
    cpu: resources.cpu,
    memoryBytes: BigInt(resources.memoryBytes),
  };
}
