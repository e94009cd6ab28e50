// Shapes of the values in KV `mesh_state` and `mesh_drift` (canonical JSON) and the names of keys, streams and subjects.
// S1 One writing role per key (DESIGN D1). S2 What is wanted and what is seen are different keys (D2).
// S3 Only the arrows in ARROWS are legal; `moved` refuses every other.
import { partitionOf } from "./ids.ts";
import type { Description, Mode, Resources, Scope, Version } from "./model.ts";

export const BUCKETS = { state: "mesh_state", drift: "mesh_drift" } as const;
export const STREAMS = {
  records: { name: "MESH_REC", subjects: ["mesh.rec.>"] },
  feedback: { name: "MESH_FB", subjects: ["mesh.fb.>"] },
  panes: { name: "MESH_PANE", subjects: ["mesh.pane.>", "mesh.opane.>", "mesh.fact.>"] },
  events: { name: "MESH_EVENT", subjects: ["mesh.event.>"] },
} as const;

/** `model` and `scope` as one key or subject token: lower case letters, digits, - and _. */
export const scopeToken = (scope: Scope): string => scope.replace("/", "_");
export const SUBJECTS = {
  records: (ordinal: number, boot: number) => `mesh.rec.${partitionOf(ordinal)}.${ordinal}.${boot}`,
  feedback: (ordinal: number) => `mesh.fb.${partitionOf(ordinal)}.${ordinal}`,
  pane: (ordinal: number, boot: number) => `mesh.pane.${partitionOf(ordinal)}.${ordinal}.${boot}`,
  outcomePane: (ordinal: number) => `mesh.opane.${partitionOf(ordinal)}.${ordinal}`,
  /** Facts of a track; the third token is the partition, the fourth the track. */
  fact: (ordinal: number) => `mesh.fact.${partitionOf(ordinal)}.${ordinal}`,
  event: (kind: string, model: string) => `mesh.event.${kind}.${model}`,
} as const;

export const KEYS = {
  epoch: "meta.epoch",
  model: (model: string) => `model.${model}`,
  version: (model: string, version: number) => `version.${model}.${version}`,
  track: (model: string, scope: Scope) => `track.${model}.${scopeToken(scope)}`,
  alias: (model: string, scope: Scope, alias: string) => `alias.${model}.${scopeToken(scope)}.${alias}`,
  deploymentSpec: (id: string) => `dep.${id}.spec`,
  deploymentAck: (id: string) => `dep.${id}.ack`,
  deploymentEnd: (id: string) => `dep.${id}.end`,
  deploymentStatus: (id: string) => `dep.${id}.status`,
  workload: (id: string) => `workload.${id}`,
  replica: (id: string) => `replica.${id}`,
  route: (model: string, scope: Scope) => `route.${model}.${scopeToken(scope)}`,
  order: (id: string) => `order.${id}`,
  run: (id: string) => `run.${id}`,
  rollout: (id: string) => `rollout.${id}`,
  node: (name: string) => `node.${name}`,
} as const;
export const DRIFT_KEYS = {
  snapshot: (ordinal: number) => `snap.${ordinal}`,
  join: (ordinal: number) => `join.${ordinal}`,
  episode: (ordinal: number, number: number) => `episode.${ordinal}.${number}`,
  evidence: (rollout: string) => `evidence.${rollout}`,
  verdict: (ordinal: number) => `verdict.${ordinal}`,
  segment: (ordinal: number, day: string) => `segment.${ordinal}.${day}`,
} as const;

/** Token of every state the leader writes (D5). */
export type Token = { epoch: number; term: number };

/** Incarnation of the store: its number, and when its streams were made. */
export type EpochState = { epoch: number; streamCreatedMs: number };
export type ModelState = { description: Description; owner: string; createdMs: number };
export type VersionState = Version;
export type TrackState = {
  model: string;
  scope: Scope;
  ordinal: number;
  frozen: boolean;
  /** Event-clock ms until which no order is given; 0 when none. */
  cooldownUntilMs: number;
  /** Event-clock times of the orders of the last 30 days. */
  ordersMs: number[];
};
export type AliasState = { version: number; previous: number; reason: string; changedMs: number };

export type DeploymentSpec = {
  id: string;
  model: string;
  /** Follows the champion, or is pinned to a version. */
  target: { kind: "alias"; alias: string } | { kind: "version"; version: number };
  mode: Mode;
  /** The node of a strict deployment; empty in open mode. */
  node: string;
  replicas: number;
  principal: string;
  requestId: string;
  createdMs: number;
  offerExpiresMs: number;
};
export type DeploymentState =
  | "Offered"
  | "Expired"
  | "Pending"
  | "Starting"
  | "Ready"
  | "Degraded"
  | "Releasing"
  | "Released";
export type DeploymentStatus = {
  state: DeploymentState;
  /** Why it is in this state; while Pending, what is missing, and the place in the queue. */
  reason: string;
  queuePosition: number;
  version: number;
  workload: string;
  endpoint: string;
  changedMs: number;
};

export type WorkloadPhase = "Starting" | "Serving" | "Degraded" | "Cached" | "Destroying" | "Destroyed";
export type WorkloadState = {
  /** `wl_<model>_<version>_<scopeToken>`; one workload per version of a track. */
  id: string;
  model: string;
  version: number;
  scope: Scope;
  replicas: number;
  phase: WorkloadPhase;
  /** Wall-clock ms at which Cached turns to Destroying; 0 when not Cached. */
  cachedUntilMs: number;
  generation: number;
  reason: string;
  changedMs: number;
};

export type ReplicaPhase = "Wanted" | "Starting" | "Probing" | "Ready" | "Draining" | "Gone" | "Lost";
export type ReplicaState = {
  id: string;
  workload: string;
  generation: number;
  node: string;
  boot: number;
  /** `127.0.0.1:port`; empty until Starting. */
  address: string;
  phase: ReplicaPhase;
  reason: string;
  changedMs: number;
  /** Highest row number its agent has reported. */
  lastNumber?: number;
  /** Whether the fact boot-ended has been published. */
  told?: boolean;
};

export type RouteState = {
  model: string;
  scope: Scope;
  ordinal: number;
  /** Weights sum to 100. */
  arms: { version: number; weight: number }[];
  /** The other arm scored by the serving sidecar, for a share of rows. */
  shadow: { version: number; rate: number; rollout: string } | null;
  validUntilMs: number;
};

export type OrderState = {
  id: string;
  kind: "retrain" | "promote" | "reject" | "freeze" | "unfreeze" | "release-run";
  model: string;
  scope: Scope;
  /** rollout id for promote and reject. */
  target: string;
  by: "policy" | "hand";
  reason: string;
  /** Why the policy withheld it; empty when it is to be carried out. */
  withheld: string;
  evidence: Readonly<Record<string, number | string>>;
  eventMs: number;
  createdMs: number;
};

export type RunPhase = "Pending" | "Running" | "Checking" | "Succeeded" | "Failed" | "Cancelled";
export type RunState = {
  id: string;
  model: string;
  scope: Scope;
  trigger: "registration" | "drift" | "hand";
  order: string;
  episode: string;
  phase: RunPhase;
  attempt: number;
  node: string;
  /** sha256 of the DataManifest (canonical JSON). */
  manifestSha256: string;
  reason: string;
  version: number;
  metrics: Readonly<Record<string, number>>;
  logSha256: string;
  /** W3C trace context of whoever caused it, if it had one. */
  trace?: string;
  createdMs: number;
  changedMs: number;
};

/** What a run trains on; a blob, and a file whose path is in DRIFTMESH_DATA_MANIFEST with blobs as local paths. */
export type DataManifest = {
  format: 1;
  model: string;
  features: { name: string; type: "number" | "category" }[];
  /** Parquet files: event_time (int64 Unix ms), the features, label (double). `path` is filled in by the agent. */
  files: { sha256: string; path?: string; kind: "training" | "segment"; fromMs: number; toMs: number; rows: number }[];
  /** Blocks left out: [fromMs, toMs) and why. */
  excluded: { fromMs: number; toMs: number; reason: string }[];
  /** Start of the change that caused the run (Unix ms of event time); 0 when there was none. */
  changeMs: number;
};

export type RolloutStage =
  | "Preparing"
  | "Shadow"
  | "Canary"
  | "Probation"
  | "Promoted"
  | "Rejected"
  | "RolledBack"
  | "Frozen";
export type RolloutState = {
  id: string;
  model: string;
  scope: Scope;
  champion: number;
  challenger: number;
  stage: RolloutStage;
  /** Stage to return to from Frozen. */
  frozenFrom: RolloutStage | "";
  reason: string;
  run: string;
  /** The episode that this rollout ends, if any. */
  episode?: string;
  /** Event-clock ms at which the present stage began (0 until drift has seen it). */
  stageEventMs: number;
  shadowDays: number;
  numbers: Readonly<Record<string, number>>;
  createdMs: number;
  changedMs: number;
};

export type NodeState = {
  name: string;
  shares: Resources;
  free: Resources;
  agentBoot: string;
  alive: boolean;
  changedMs: number;
};

/** Fact on `mesh.fact.*`: the parameters a verdict depends on; the highest revision of a track holds. */
export type TrackFact = {
  kind: "track";
  track: number;
  revision: number;
  model: string;
  scope: Scope;
  champion: number;
  profileSha256: string;
  policy: { tolerance: number; scale: number; labelHorizonHours: number; shadowDays: number; probationDays: number };
  rollout: { id: string; champion: number; challenger: number; stage: RolloutStage } | null;
  /** A promotion, a rejection or a person's word that ended an episode, for the detectors' restart. */
  ended: { episode: string; as: "retrained" | "rejected" | "data-fixed" } | null;
};
export type BootEndedFact = { kind: "boot-ended"; track: number; boot: number; lastNumber: number };
export type Fact = TrackFact | BootEndedFact;

export type EpisodeClass = "quality" | "covariate" | "prior" | "concept" | "unknown";
export type EpisodeState = {
  id: string;
  track: number;
  model: string;
  scope: Scope;
  number: number;
  state: "Suspect" | "Confirmed" | "Closed";
  closedAs: "" | "recovered" | "retrained" | "rejected" | "data-fixed" | "transient";
  class: EpisodeClass;
  /** Event time (Unix ms) of the first block of the episode, of confirmation, and of its end (0 while open). */
  fromMs: number;
  confirmedMs: number;
  toMs: number;
  /** What moved: feature names with their statistic, most important first. */
  causes: { feature: string; kind: "missing" | "scale" | "category" | "shift" | "loss"; value: number }[];
  /** True when realised risk says that retraining is due and nothing forbids it. */
  retrain: boolean;
  /** Why retraining is withheld; empty when it is not. */
  withheld: string;
  numbers: Readonly<Record<string, number>>;
  /** Sequence in MESH_PANE at which this state was decided: the argument of a replay. */
  seq: number;
  /** W3C trace context of the newest labels it rests on, while tracing is on; no part of the decision. */
  trace?: string;
};

/** Level of a track at its newest closed block. */
export type VerdictState = {
  track: number;
  model: string;
  scope: Scope;
  champion: number;
  /** Start of the newest closed block and the track's event clock (Unix ms). */
  blockMs: number;
  watermarkMs: number;
  state: "warm-up" | "healthy" | "suspect" | "drifting" | "data-fault";
  blocks: number;
  rows: number;
  labelled: number;
  numbers: Readonly<Record<string, number>>;
  features: {
    name: string;
    statistic: number;
    limit: number;
    drifting: boolean;
    fault: string;
    minimumEffect: number;
  }[];
  seq: number;
};

export type EvidenceState = {
  rollout: string;
  track: number;
  stage: RolloutStage;
  /** Matured blocks with pairs since shadow began, and since probation began. */
  blocks: number;
  probationBlocks: number;
  pairs: number;
  /** Mean of loss(champion) - loss(challenger) per pair. */
  meanGain: number;
  eBetter: number;
  eWorse: number;
  eRollback: number;
  /** Share unlabelled among rows on which the arms disagree, and among others. */
  unlabelledDisagree: number;
  unlabelledAgree: number;
  watermarkMs: number;
  decision: "wait" | "promote" | "reject-worse" | "reject-budget" | "roll-back" | "keep" | "freeze";
  seq: number;
};

export type SegmentState = { track: number; day: string; fromMs: number; toMs: number; sha256: string; rows: number };

/** Legal transitions; anything else is refused. `Frozen` returns to where it came from. */
export const ARROWS = {
  deployment: {
    Offered: ["Pending", "Expired"],
    Expired: [],
    Pending: ["Starting", "Releasing"],
    Starting: ["Ready", "Pending", "Releasing"],
    Ready: ["Degraded", "Releasing"],
    Degraded: ["Ready", "Releasing"],
    Releasing: ["Released"],
    Released: [],
  },
  workload: {
    Starting: ["Serving", "Cached", "Destroying"],
    Serving: ["Degraded", "Cached"],
    Degraded: ["Serving", "Cached"],
    Cached: ["Serving", "Destroying"],
    Destroying: ["Destroyed"],
    Destroyed: ["Starting"],
  },
  replica: {
    Wanted: ["Starting", "Lost"],
    Starting: ["Probing", "Ready", "Draining", "Lost"],
    Probing: ["Ready", "Draining", "Lost"],
    Ready: ["Draining", "Lost"],
    Draining: ["Gone", "Lost"],
    Gone: [],
    Lost: [],
  },
  run: {
    Pending: ["Running", "Failed", "Cancelled"],
    Running: ["Checking", "Pending", "Failed", "Cancelled"],
    Checking: ["Succeeded", "Failed", "Cancelled"],
    Succeeded: [],
    Failed: [],
    Cancelled: [],
  },
  rollout: {
    Preparing: ["Shadow", "Rejected"],
    Shadow: ["Canary", "Probation", "Rejected", "Frozen"],
    Canary: ["Canary", "Probation", "Rejected", "RolledBack", "Frozen"],
    Probation: ["Promoted", "RolledBack", "Frozen"],
    Frozen: ["Shadow", "Canary", "Probation", "Rejected"],
    Promoted: [],
    Rejected: [],
    RolledBack: [],
  },
} as const;

/** Throws when the arrow does not exist (S3); staying where one is is always legal. */
export function moved<K extends keyof typeof ARROWS>(kind: K, from: string, to: string): void {
  if (from === to) return;
  const arrows: Readonly<Record<string, readonly string[]>> = ARROWS[kind];
  if (arrows[from]?.includes(to) !== true) throw new Error(`invariant broken: no arrow ${from} -> ${to} for a ${kind}`);
}
