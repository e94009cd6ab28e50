// Descriptions at the door: from the wire with defaults filled in, and back.
// E1 What comes back from `descriptionMessage` decodes to the same description.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Value, ValueSchema } from "@bufbuild/protobuf/wkt";
import {
  type Datatype,
  DEFAULT_POLICY,
  type Description,
  type Feature,
  type Policy,
  type TensorSpec,
  type TrainCode,
} from "#kernel/domain/model.ts";
import {
  FeatureType,
  type ModelDescription,
  type ModelDescriptionSchema,
  ModelKind,
  type TensorSpec as TensorMessage,
} from "#proto/driftmesh/v1/model_pb.ts";
import { type Checked, checkDescription, KINDS } from "./check.ts";

const DEFAULT_RUN = { cpu: 0.25, memoryBytes: 256 * 2 ** 20 };
const DEFAULT_TRAINING = { cpu: 1, memoryBytes: 2 ** 30 };
const DEFAULT_TIMEOUT_SECONDS = 600;

/** The description with its defaults, or everything that is wrong with it. */
export function decodeDescription(
  d: ModelDescription,
): { kind: "ok"; description: Description } | ({ kind: "wrong" } & Checked) {
  const checked = checkDescription(d);
  if (checked.violations.length + checked.misfits.length > 0) return { kind: "wrong", ...checked };
  const trainCode = trainCodeOf(d);
  const inference = d.inference;
  const example =
    Object.keys(inference?.example ?? {}).length === 0
      ? undefined
      : [plainValues<number | string>(inference?.example ?? {})];
  const signature = signatureOf(d);
  const description: Description = {
    name: d.name,
    kind: KINDS[d.kind] ?? "other",
    summary: d.summary,
    ...(trainCode === undefined ? {} : { trainCode }),
    ...(d.trainingData === undefined
      ? {}
      : { trainingData: { sha256: d.trainingData.sha256, format: "parquet" as const, uri: d.trainingData.file } }),
    hyperparameters: plainValues(d.hyperparameters),
    performance: { ...d.performance },
    trainingResources: resourcesOf(d.trainingResources, DEFAULT_TRAINING),
    runResources: resourcesOf(d.runResources, DEFAULT_RUN),
    features: d.features.map(featureOf),
    inference: {
      runtime: inference?.runtime === "image" ? "image" : "onnx",
      ...textual("image", inference?.image),
      ...(inference === undefined || inference.artifactSha256 === ""
        ? {}
        : { artifact: { sha256: inference.artifactSha256, name: inference.artifact } }),
      ...(signature === undefined ? {} : { signature }),
      ...textual("scoreOutput", inference?.scoreOutput),
      ...(example === undefined ? {} : { example }),
    },
    explainability: [...d.explainability],
    policy: policyOf(d.policy),
  };
  return { kind: "ok", description };
}

function textual<K extends string>(name: K, value: string | undefined): Partial<Record<K, string>> {
  return value === undefined || value === "" ? {} : ({ [name]: value } as Record<K, string>);
}

function trainCodeOf({ trainCode: code }: ModelDescription): TrainCode | undefined {
  if (code === undefined) return undefined;
  const how = { command: [...code.command], timeoutSeconds: code.timeoutSeconds || DEFAULT_TIMEOUT_SECONDS };
  return code.git === ""
    ? { kind: "folder", treeSha256: code.treeSha256, ...how }
    : { kind: "git", url: code.git, commit: code.commit, path: code.folder, ...how };
}

function resourcesOf(given: { cpu: number; memoryBytes: bigint } | undefined, otherwise: typeof DEFAULT_RUN) {
  return {
    cpu: given === undefined || given.cpu === 0 ? otherwise.cpu : given.cpu,
    memoryBytes: given === undefined || given.memoryBytes === 0n ? otherwise.memoryBytes : Number(given.memoryBytes),
  };
}

function featureOf({ name, type, description }: ModelDescription["features"][number]): Feature {
  return { name, type: type === FeatureType.CATEGORY ? "category" : "number", ...textual("description", description) };
}

function signatureOf({ inference }: ModelDescription): Description["inference"]["signature"] {
  if (inference === undefined || (inference.inputs.length === 0 && inference.outputs.length === 0)) return undefined;
  return { inputs: inference.inputs.map(tensorOf), outputs: inference.outputs.map(tensorOf) };
}

function tensorOf({ name, datatype, shape }: TensorMessage): TensorSpec {
  return { name, datatype: datatype as Datatype, shape: shape.map(Number) };
}

function policyOf(p: ModelDescription["policy"]): Policy {
  if (p === undefined) return DEFAULT_POLICY;
  const or = DEFAULT_POLICY;
  return {
    retraining: p.retraining === "" ? or.retraining : (p.retraining as Policy["retraining"]),
    tolerance: p.tolerance ?? or.tolerance,
    scale: p.scale ?? or.scale,
    labelHorizonHours: p.labelHorizonHours ?? or.labelHorizonHours,
    cooldownDays: p.cooldownDays ?? or.cooldownDays,
    runsPerMonth: p.runsPerMonth ?? or.runsPerMonth,
    shadowDays: p.shadowDays ?? or.shadowDays,
    probationDays: p.probationDays ?? or.probationDays,
    shadowRate: p.shadowRate ?? or.shadowRate,
    canary: [...p.canary],
    cacheGraceSeconds: p.cacheGraceSeconds ?? or.cacheGraceSeconds,
    clientEventTime: p.clientEventTime ?? or.clientEventTime,
  };
}

/** Numbers, texts and booleans of a map; the check has refused everything else. */
function plainValues<T extends number | string | boolean>(values: Readonly<Record<string, Value>>): Record<string, T> {
  return Object.fromEntries(Object.entries(values).map(([name, { kind }]) => [name, kind.value as T]));
}

/** The description on the wire (E1). */
export function descriptionMessage(d: Description): MessageInitShape<typeof ModelDescriptionSchema> {
  const { trainCode: code, trainingData, inference } = d;
  return {
    name: d.name,
    kind: kindMessage(d.kind),
    summary: d.summary,
    ...(code === undefined ? {} : { trainCode: codeMessage(code) }),
    ...(trainingData === undefined ? {} : { trainingData: { file: trainingData.uri, sha256: trainingData.sha256 } }),
    hyperparameters: valueMessages(d.hyperparameters),
    performance: { ...d.performance },
    trainingResources: resourcesMessage(d.trainingResources),
    runResources: resourcesMessage(d.runResources),
    features: d.features.map(featureMessage),
    inference: {
      runtime: inference.runtime,
      image: inference.image ?? "",
      artifact: inference.artifact?.name ?? "",
      artifactSha256: inference.artifact?.sha256 ?? "",
      scoreOutput: inference.scoreOutput ?? "",
      inputs: (inference.signature?.inputs ?? []).map(tensorMessage),
      outputs: (inference.signature?.outputs ?? []).map(tensorMessage),
      example: valueMessages(inference.example?.[0] ?? {}),
    },
    explainability: [...d.explainability],
    policy: { ...d.policy, canary: [...d.policy.canary] },
  };
}

function kindMessage(kind: Description["kind"]): ModelKind {
  const found = Object.entries(KINDS).find(([, word]) => word === kind);
  return found === undefined ? ModelKind.OTHER : (Number(found[0]) as ModelKind);
}

function codeMessage(code: TrainCode) {
  const how = { command: [...code.command], timeoutSeconds: code.timeoutSeconds };
  return code.kind === "folder"
    ? { treeSha256: code.treeSha256, ...how }
    : { git: code.url, commit: code.commit, folder: code.path, ...how };
}

export const resourcesMessage = ({ cpu, memoryBytes }: { cpu: number; memoryBytes: number }) => ({
  cpu,
  memoryBytes: BigInt(Math.max(0, Math.round(memoryBytes))),
});

export const featureMessage = ({ name, type, description }: Feature) => ({
  name,
  type: type === "category" ? FeatureType.CATEGORY : FeatureType.NUMBER,
  description: description ?? "",
});

export const tensorMessage = ({ name, datatype, shape }: TensorSpec) => ({ name, datatype, shape: shape.map(BigInt) });

function valueMessages(values: Readonly<Record<string, number | string | boolean>>): Record<string, Value> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, valueMessage(value)]));
}

function valueMessage(value: number | string | boolean): Value {
  if (typeof value === "number") return create(ValueSchema, { kind: { case: "numberValue", value } });
  if (typeof value === "string") return create(ValueSchema, { kind: { case: "stringValue", value } });
  return create(ValueSchema, { kind: { case: "boolValue", value } });
}
