// What the two buckets hold, by table: which key belongs where and what its value says.
// T1 Keys that are nobody's business here (drift's snapshots, leases) have no table.
import type {
  AliasState,
  DeploymentSpec,
  DeploymentStatus,
  EpisodeState,
  EpochState,
  EvidenceState,
  ModelState,
  NodeState,
  OrderState,
  ReplicaState,
  RolloutState,
  RouteState,
  RunState,
  SegmentState,
  TrackFact,
  TrackState,
  VerdictState,
  VersionState,
  WorkloadState,
} from "#kernel/domain/state.ts";
import type { Scope } from "#kernel/domain/model.ts";

/** 32 bytes, base64. */
export type MacState = { key: string };
/** The newest boot given out, and the first one of this epoch: lower ones belong to an earlier life. */
export type BootState = { last: number; floor?: number };
/** The newest fact of a track, and the highest revision that the stream has. */
export type FactState = { fact: TrackFact; acked: number };
/** That a person acknowledged or released a deployment. */
export type ClaimMark = {
  createdMs: number;
  principal: string;
  /** Only in place of an acknowledgement: the offer expired first, and nobody can acknowledge it any more. */
  expired?: true;
};

export type Tables = {
  epoch: EpochState;
  mac: MacState;
  boot: BootState;
  fact: FactState;
  model: ModelState;
  version: VersionState;
  track: TrackState;
  alias: AliasState;
  spec: DeploymentSpec;
  ack: ClaimMark;
  end: ClaimMark;
  status: DeploymentStatus;
  workload: WorkloadState;
  replica: ReplicaState;
  route: RouteState;
  order: OrderState;
  run: RunState;
  rollout: RolloutState;
  node: NodeState;
  episode: EpisodeState;
  evidence: EvidenceState;
  verdict: VerdictState;
  segment: SegmentState;
};
export type TableName = keyof Tables;

export const TABLE_NAMES = [
  "epoch",
  "mac",
  "boot",
  "fact",
  "model",
  "version",
  "track",
  "alias",
  "spec",
  "ack",
  "end",
  "status",
  "workload",
  "replica",
  "route",
  "order",
  "run",
  "rollout",
  "node",
  "episode",
  "evidence",
  "verdict",
  "segment",
] as const satisfies readonly TableName[];

/** Keys that only the control plane reads. */
export const OWN_KEYS = {
  boot: "meta.boot",
  mac: (epoch: number) => `meta.mac.${epoch}`,
  fact: (ordinal: number) => `fact.${ordinal}`,
} as const;

/** Prefixes of the drift bucket that are followed. */
export const DRIFT_PREFIXES = ["episode.", "evidence.", "verdict.", "segment."] as const;

const FIRST: ReadonlySet<string> = new Set([
  "fact",
  "model",
  "version",
  "track",
  "alias",
  "workload",
  "replica",
  "route",
  "order",
  "run",
  "rollout",
  "node",
  "episode",
  "evidence",
  "verdict",
  "segment",
]);
const META: Readonly<Record<string, TableName>> = { epoch: "epoch", mac: "mac", boot: "boot" };
const DEPLOYMENT: ReadonlySet<string> = new Set(["spec", "ack", "end", "status"]);

/** The table of a key, or undefined (T1). */
export function tableOf(key: string): TableName | undefined {
  const tokens = key.split(".");
  const first = tokens[0] ?? "";
  if (first === "meta") return META[tokens[1] ?? ""];
  if (first === "dep") {
    const last = tokens[2] ?? "";
    return DEPLOYMENT.has(last) ? (last as TableName) : undefined;
  }
  return FIRST.has(first) ? (first as TableName) : undefined;
}

/** The scope that `scopeToken` wrote. */
function scopeOfToken(token: string): Scope {
  return token.startsWith("node_") ? `node/${token.slice("node_".length)}` : "open";
}

/** Model, scope and name in the key of an alias. */
export function aliasParts(key: string): { model: string; scope: Scope; alias: string } {
  const [, model = "", token = "", alias = ""] = key.split(".");
  return { model, scope: scopeOfToken(token), alias };
}

type Grouping = { [K in TableName]?: (key: string, value: Tables[K]) => string };
/** By what entries of a table are asked for together. The group of a key never changes. */
const GROUPINGS = {
  alias: (key) => key.split(".")[1] ?? "",
  version: (_key, { model }) => model,
  run: (_key, { model }) => model,
  rollout: (_key, { model }) => model,
  order: (_key, { target }) => target,
  replica: (_key, { workload }) => workload,
  episode: (_key, { track }) => String(track),
  segment: (_key, { track }) => String(track),
} as const satisfies Grouping;
export type GroupedName = keyof typeof GROUPINGS;

/** The group of an entry; undefined for tables without groups. */
export function groupOf(table: TableName, key: string, value: unknown): string | undefined {
  const of = (GROUPINGS as Readonly<Record<string, ((key: string, value: never) => string) | undefined>>)[table];
  return of?.(key, value as never);
}
