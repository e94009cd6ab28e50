// The wanted set that the records say: what the backend is told, whole. Pure.
// W1 A replica stays wanted (draining) until it has ended, a run until it has: what is seen of it is not lost.
// W2 A boot is given to one process: a replica of an older epoch is wanted only where it lives already, never started.
import type { Version } from "#kernel/domain/model.ts";
import { KEYS, type ReplicaState, type RunState } from "#kernel/domain/state.ts";
import type { LoadSpec, Observed, WantedReplica, WantedRun, WantedSet } from "../backend/door.ts";
import { runResources, trainResources } from "../pass/door.ts";
import {
  bootFloor,
  descriptionOf,
  macKeys,
  REPLICA_ENDED,
  trackOf,
  versionOf,
  versionsOf,
  type View,
  workloadOf,
} from "../world/door.ts";

export function wantedOf(view: View, observed: Observed): WantedSet {
  const floor = bootFloor(view);
  const living = new Set(observed.replicas.map(({ id, boot }) => `${id}.${boot}`));
  const replicas = view
    .all("replica")
    .filter(({ value: { id, boot } }) => boot >= floor || living.has(`${id}.${boot}`));
  return {
    replicas: replicas.flatMap(({ value }) => wantedReplica(view, value) ?? []),
    runs: view.all("run").flatMap(({ value }) => wantedRun(view, value) ?? []),
    macKeys: macKeys(view),
  };
}

/** Says when two sets differ, or when the same set must be sent again because somebody else listens. Specs of one id never change. */
export function digestOf(set: WantedSet, observed: Observed): string {
  const replicas = set.replicas.map(({ id, draining }) => `${id}${draining ? "-" : ""}`);
  const runs = set.runs.map(({ id, attempt }) => `${id}/${attempt}`);
  const listener = `${observed.agentBoot}@${observed.sinceMs}`;
  return [listener, ...replicas.sort(), "|", ...runs.sort(), "|", set.macKeys.length].join(" ");
}

export function loadSpec(version: Version): LoadSpec {
  const {
    model,
    version: number,
    artifactSha256,
    profileSha256,
    signature,
    features,
    scoreOutput,
    scoreKind,
  } = version;
  return { model, version: number, artifactSha256, profileSha256, signature, features, scoreOutput, scoreKind };
}

function wantedReplica(view: View, replica: ReplicaState): WantedReplica | undefined {
  if (REPLICA_ENDED.has(replica.phase)) return undefined;
  const workload = workloadOf(view, replica.workload)?.value;
  if (workload === undefined) return undefined;
  const { model, version, scope } = workload;
  const made = versionOf(view, model, version);
  const policy = descriptionOf(view, model)?.policy;
  const track = trackOf(view, model, scope)?.value;
  if (made === undefined || policy === undefined || track === undefined) return undefined;
  return {
    id: replica.id,
    workload: replica.workload,
    boot: replica.boot,
    node: replica.node,
    scope,
    ordinal: track.ordinal,
    load: loadSpec(made),
    clientEventTime: policy.clientEventTime,
    labelHorizonHours: policy.labelHorizonHours,
    resources: runResources(view, model),
    draining: replica.phase === "Draining",
  };
}

function wantedRun(view: View, run: RunState): WantedRun | undefined {
  if (run.phase !== "Running" && run.phase !== "Checking") return undefined;
  const model = view.get("model", KEYS.model(run.model))?.value.description;
  if (model === undefined) return undefined;
  const code = model.trainCode?.kind === "folder" ? model.trainCode : undefined;
  const next = (versionsOf(view, run.model).at(-1)?.version ?? 0) + 1;
  return {
    id: run.id,
    attempt: run.attempt,
    node: run.node,
    scope: run.scope,
    train: code !== undefined,
    treeSha256: code?.treeSha256 ?? "",
    command: code?.command ?? [],
    timeoutSeconds: code?.timeoutSeconds ?? 0,
    hyperparameters: model.hyperparameters,
    manifestSha256: run.manifestSha256,
    ...(run.trace === undefined ? {} : { trace: run.trace }),
    artifactSha256: model.inference.artifact?.sha256 ?? "",
    load: {
      model: run.model,
      version: next,
      artifactSha256: model.inference.artifact?.sha256 ?? "",
      profileSha256: "",
      signature: model.inference.signature ?? { inputs: [], outputs: [] },
      features: model.features,
      scoreOutput: model.inference.scoreOutput ?? "",
      scoreKind: "",
    },
    kind: model.kind,
    example: model.inference.example?.[0],
    // Only a strict run keeps its ancestor's bins, and strict runs are refused.
    ancestorProfileSha256: "",
    resources: trainResources(view, run.model),
  };
}
