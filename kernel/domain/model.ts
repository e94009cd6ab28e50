// The vocabulary of models: what a description, a version and a profile say. Wire and file forms are converted at the doors.

/** Datatypes of the Open Inference Protocol. */
export const DATATYPES = [
  "BOOL",
  "UINT8",
  "UINT16",
  "UINT32",
  "UINT64",
  "INT8",
  "INT16",
  "INT32",
  "INT64",
  "FP16",
  "BF16",
  "FP32",
  "FP64",
  "BYTES",
] as const;
export type Datatype = (typeof DATATYPES)[number];

/** A tensor of a signature; -1 in the shape is any size, the first dimension is the row. */
export type TensorSpec = { name: string; datatype: Datatype; shape: readonly number[] };
export type Signature = { inputs: readonly TensorSpec[]; outputs: readonly TensorSpec[] };

const MODEL_KINDS = ["binary-classification", "multiclass-classification", "regression", "other"] as const;
export type ModelKind = (typeof MODEL_KINDS)[number];

/**
 * One feature. It is fed by the input tensor of its own name, or, when the model has a single input
 * of shape [-1, d] with d features listed, by the column at its place in the list.
 */
export type Feature = { name: string; type: "number" | "category"; description?: string };

export type Mode = "open" | "strict";
/** `open` or `node/<name>`. */
export type Scope = "open" | `node/${string}`;

const POLICY_MODES = ["observe", "suggest", "auto"] as const;

/** Tolerances and policy of a model; every field has a default (`DEFAULT_POLICY`). */
export type Policy = {
  retraining: (typeof POLICY_MODES)[number];
  /** Tolerated excess of the champion's loss over itself recalibrated (Brier points). */
  tolerance: number;
  /** Size of one block's excess that counts as one unit of evidence (Brier points). */
  scale: number;
  /** Hours of event time after a row until its label counts or never will. */
  labelHorizonHours: number;
  /** Days of event time without another order after one ended. */
  cooldownDays: number;
  /** Orders a track may have in any 30 days of event time. */
  runsPerMonth: number;
  /** Blocks (days) a shadow may take before it is rejected as budget-exhausted. */
  shadowDays: number;
  /** Blocks (days) of probation after promotion. */
  probationDays: number;
  /** Share of rows the other arm scores in shadow, 0..1. */
  shadowRate: number;
  /** Canary weights in percent; empty: shadow, then probation. */
  canary: readonly number[];
  /** Wall-clock seconds a workload without claims stays Cached. */
  cacheGraceSeconds: number;
  /** May clients state the event time of rows (parameter `driftmesh_event_time`, Unix ms)? */
  clientEventTime: boolean;
};

export const DEFAULT_POLICY: Policy = {
  retraining: "auto",
  tolerance: 0.002,
  scale: 0.015,
  labelHorizonHours: 24,
  cooldownDays: 7,
  runsPerMonth: 4,
  shadowDays: 14,
  probationDays: 3,
  shadowRate: 1,
  canary: [],
  cacheGraceSeconds: 300,
  clientEventTime: false,
};

export type Resources = { cpu: number; memoryBytes: number };

/** How the training is started in the unpacked code folder, e.g. ["node", "train.ts"] or ["python3", "train.py"]. */
export type TrainCode =
  | { kind: "folder"; treeSha256: string; command: readonly string[]; timeoutSeconds: number }
  | { kind: "git"; url: string; commit: string; path: string; command: readonly string[]; timeoutSeconds: number };

/** What a user registers: the paper's ten fields under the mesh's names, explainability and policy. */
export type Description = {
  name: string;
  kind: ModelKind;
  summary: string;
  trainCode?: TrainCode;
  /** sha256 of a Parquet blob with columns event_time (Unix ms), every feature by name, and `label`. */
  trainingData?: { sha256: string; format: "parquet"; uri: string };
  hyperparameters: Readonly<Record<string, number | string | boolean>>;
  /** Metrics promised or measured, e.g. { auc: 0.7 }. */
  performance: Readonly<Record<string, number>>;
  trainingResources: Resources;
  runResources: Resources;
  features: readonly Feature[];
  /** Which output is the score and, in a two-column output, that column 1 is the positive class. */
  inference: {
    runtime: "onnx" | "image";
    image?: string;
    /** The uploaded file of a model that comes trained. */
    artifact?: { sha256: string; name: string };
    signature?: Signature;
    scoreOutput?: string;
    example?: readonly Readonly<Record<string, number | string>>[];
  };
  explainability: readonly string[];
  policy: Policy;
};

/** Where a version came from. */
export type Origin =
  | { kind: "upload" }
  | {
      kind: "run";
      run: string;
      trigger: "registration" | "drift" | "hand";
      episode?: string;
      dataManifestSha256: string;
    };

export type Version = {
  model: string;
  version: number;
  artifactSha256: string;
  artifactBytes: number;
  profileSha256: string;
  signature: Signature;
  features: readonly Feature[];
  scoreOutput: string;
  scoreKind: "probability" | "value";
  metrics: Readonly<Record<string, number>>;
  origin: Origin;
  createdMs: number;
};
