// What runs replicas and runs. The leader says what is wanted, whole; the backend says what it sees.
// B1 `apply` is level-triggered: the set is the whole truth, and repeating it is harmless. B2 A lower token is refused.
import type { Signature, Feature, ModelKind, Resources, Scope } from "#kernel/domain/model.ts";
import type { Token } from "#kernel/domain/state.ts";

/** A version as whoever loads it needs it. */
export type LoadSpec = {
  model: string;
  version: number;
  artifactSha256: string;
  profileSha256: string;
  signature: Signature;
  features: readonly Pick<Feature, "name" | "type">[];
  scoreOutput: string;
  scoreKind: string;
};

export type WantedReplica = {
  id: string;
  workload: string;
  boot: number;
  node: string;
  scope: Scope;
  ordinal: number;
  load: LoadSpec;
  clientEventTime: boolean;
  labelHorizonHours: number;
  resources: Resources;
  draining: boolean;
};

export type WantedRun = {
  id: string;
  attempt: number;
  node: string;
  scope: Scope;
  /** Train and check, or only check an uploaded artifact. */
  train: boolean;
  treeSha256: string;
  command: readonly string[];
  timeoutSeconds: number;
  hyperparameters: Readonly<Record<string, number | string | boolean>>;
  manifestSha256: string;
  artifactSha256: string;
  load: LoadSpec;
  kind: ModelKind;
  example: Readonly<Record<string, number | string>> | undefined;
  ancestorProfileSha256: string;
  resources: Resources;
  /** W3C trace context of the cause. */
  trace?: string;
};

export type WantedSet = {
  replicas: readonly WantedReplica[];
  runs: readonly WantedRun[];
  /** Keys of inference ids: the first makes, all verify. */
  macKeys: readonly Uint8Array[];
};

export type ReplicaReport = {
  id: string;
  boot: number;
  phase: "starting" | "ready" | "draining" | "gone" | "lost";
  address: string;
  reason: string;
  lastNumber: number;
};

export type RunReport = {
  id: string;
  attempt: number;
  phase: "running" | "checking" | "succeeded" | "failed";
  reason: string;
  artifactSha256: string;
  artifactBytes: number;
  profileSha256: string;
  metrics: Readonly<Record<string, number>>;
  logSha256: string;
  load: LoadSpec | undefined;
};

/** What the machines say. */
export type Observed = {
  /** Whether the agent answers now, and the wall-clock ms since when that is so. */
  connected: boolean;
  sinceMs: number;
  /** Changes when an agent is another process than before. */
  agentBoot: string;
  nodes: readonly { name: string; shares: Resources }[];
  replicas: readonly ReplicaReport[];
  runs: readonly RunReport[];
};

export interface Backend {
  readonly name: string;
  /** Sets the whole wanted set; rejects with DM-2007 when the token is lower than one seen (B2). */
  apply(wanted: WantedSet, token: Token): Promise<void>;
  /** What is seen: at once, then at each change; ends with the signal. */
  observe(signal: AbortSignal): AsyncIterable<Observed>;
  /** Why a runtime cannot be run here, or undefined when it can. */
  refuses(inference: { runtime: string; image?: string }): string | undefined;
}

/** Begins the reason of a failed attempt whose machine went away: another attempt may be made. */
export const MACHINE_LOST = "machine lost";
