// What a description must be, beyond its types: every mistake is found, each with the path of its field.
// D1 All problems come back together. D2 Features that do not fit the signature are told apart: they have a code of their own.
import { DATATYPES, type Datatype } from "#kernel/domain/model.ts";
import type { Violation } from "#kernel/fault/error.ts";
import {
  FeatureType,
  type ModelDescription,
  ModelKind,
  type Policy,
  type TensorSpec,
} from "#proto/driftmesh/v1/model_pb.ts";

export type Checked = { violations: Violation[]; misfits: Violation[] };

const NAME = /^[a-z][a-z0-9-]{0,47}$/;
const FEATURES_MAX = 1_000;

export function checkDescription(d: ModelDescription): Checked {
  const violations = [
    ...names(d),
    ...origins(d),
    ...features(d),
    ...inference(d),
    ...resources(d),
    ...numbers(d),
    ...policies(d.policy),
  ];
  return { violations, misfits: violations.length > 0 ? [] : fits(d) };
}

const at = (field: string, description: string): Violation => ({ field, description });

function names(d: ModelDescription): Violation[] {
  const found: Violation[] = [];
  if (!NAME.test(d.name))
    found.push(
      at("name", `lower-case letters, digits and -, beginning with a letter, at most 48 characters; it is "${d.name}"`),
    );
  if (KINDS[d.kind] === undefined)
    found.push(at("kind", "one of binary-classification, multiclass-classification, regression, other"));
  if (d.summary.length > 1_000) found.push(at("summary", "at most 1,000 characters"));
  return found;
}

export const KINDS: Readonly<
  Record<number, "binary-classification" | "multiclass-classification" | "regression" | "other">
> = {
  [ModelKind.BINARY_CLASSIFICATION]: "binary-classification",
  [ModelKind.MULTICLASS_CLASSIFICATION]: "multiclass-classification",
  [ModelKind.REGRESSION]: "regression",
  [ModelKind.OTHER]: "other",
};

const SHA256 = /^[0-9a-f]{64}$/;

/** Where the first version comes from: one way, whole. */
function origins(d: ModelDescription): Violation[] {
  const found: Violation[] = [];
  const code = d.trainCode;
  const artifact = d.inference?.artifactSha256 ?? "";
  const image = d.inference?.runtime === "image";
  if (code !== undefined) {
    if (code.treeSha256 !== "" && code.git !== "") found.push(at("train_code.git", "a folder or a git URL, not both"));
    if (code.treeSha256 === "" && code.git === "")
      found.push(
        at(
          "train_code.tree_sha256",
          code.folder === ""
            ? "an uploaded folder, or a git URL with a commit"
            : `the hash of the uploaded folder ${code.folder}`,
        ),
      );
    if (code.treeSha256 !== "" && !SHA256.test(code.treeSha256))
      found.push(at("train_code.tree_sha256", "64 lower-case hex digits"));
    if (code.git !== "" && !/^(https|ssh):\/\/\S+$/.test(code.git))
      found.push(at("train_code.git", "an https:// or ssh:// URL"));
    if (code.git !== "" && !/^[0-9a-f]{40}$/.test(code.commit))
      found.push(at("train_code.commit", "the pinned commit: 40 hex digits"));
    if (code.git === "" && code.commit !== "") found.push(at("train_code.commit", "nothing: there is no git URL"));
    if (code.command.length === 0 || code.command[0] === "")
      found.push(at("train_code.command", "program and arguments, e.g. [node, train.ts]"));
    if (code.timeoutSeconds > 86_400) found.push(at("train_code.timeout_seconds", "at most 86400"));
    if (artifact !== "") found.push(at("inference.artifact_sha256", "train code or a trained artifact, not both"));
    if (d.trainingData === undefined) found.push(at("training_data", "data to train on: train_code is given"));
    if (d.features.length === 0) found.push(at("features", "what the model is fed: train code needs it"));
  } else if (artifact === "" && !image) {
    const named = d.inference?.artifact ?? "";
    found.push(
      at(
        named === "" ? "inference.artifact" : "inference.artifact_sha256",
        named === ""
          ? "a trained artifact, or train_code with training_data"
          : `the hash of the uploaded file ${named}`,
      ),
    );
  }
  if (artifact !== "" && !SHA256.test(artifact))
    found.push(at("inference.artifact_sha256", "64 lower-case hex digits"));
  if (d.trainingData !== undefined && !SHA256.test(d.trainingData.sha256))
    found.push(at("training_data.sha256", "the hash of the uploaded Parquet file: 64 lower-case hex digits"));
  return found;
}

function features(d: ModelDescription): Violation[] {
  const found: Violation[] = [];
  if (d.features.length > FEATURES_MAX)
    found.push(at("features", `at most ${FEATURES_MAX}; there are ${d.features.length}`));
  const seen = new Set<string>();
  d.features.slice(0, FEATURES_MAX).forEach(({ name, type }, i) => {
    if (name === "") found.push(at(`features[${i}].name`, "a name"));
    else if (seen.has(name)) found.push(at(`features[${i}].name`, `each feature once: "${name}" is there already`));
    seen.add(name);
    if (type !== FeatureType.NUMBER && type !== FeatureType.CATEGORY)
      found.push(at(`features[${i}].type`, "number or category"));
  });
  return found;
}

function inference(d: ModelDescription): Violation[] {
  const found: Violation[] = [];
  const i = d.inference;
  if (i === undefined) return found;
  if (!["", "onnx", "image"].includes(i.runtime))
    found.push(at("inference.runtime", `onnx or image; it is "${i.runtime}"`));
  if (i.runtime === "image" && i.image === "") found.push(at("inference.image", "the image of runtime image"));
  if (i.runtime !== "image" && i.image !== "") found.push(at("inference.image", "nothing: the runtime is not image"));
  found.push(...tensors(i.inputs, "inference.inputs"), ...tensors(i.outputs, "inference.outputs"));
  const outputs = i.outputs.map(({ name }) => name);
  if (i.scoreOutput !== "" && outputs.length > 0 && !outputs.includes(i.scoreOutput))
    found.push(at("inference.score_output", `one of the outputs ${outputs.join(", ")}; it is "${i.scoreOutput}"`));
  const known = new Map(d.features.map(({ name, type }) => [name, type]));
  for (const [name, value] of Object.entries(i.example)) {
    const type = known.get(name);
    const field = `inference.example.${name}`;
    if (d.features.length > 0 && type === undefined) found.push(at(field, "a feature of the list"));
    if (value.kind.case !== "numberValue" && value.kind.case !== "stringValue")
      found.push(at(field, "a number or a text"));
    else if (type === FeatureType.NUMBER && value.kind.case !== "numberValue")
      found.push(at(field, `a number: ${name} is one`));
    else if (type === FeatureType.CATEGORY && value.kind.case !== "stringValue")
      found.push(at(field, `a text: ${name} is a category`));
  }
  return found;
}

function tensors(list: readonly TensorSpec[], field: string): Violation[] {
  const seen = new Set<string>();
  return list.flatMap(({ name, datatype, shape }, i) => {
    const found: Violation[] = [];
    if (name === "" || seen.has(name))
      found.push(at(`${field}[${i}].name`, name === "" ? "a name" : `each tensor once: "${name}" is there already`));
    seen.add(name);
    if (!DATATYPES.includes(datatype as Datatype))
      found.push(at(`${field}[${i}].datatype`, `one of ${DATATYPES.join(", ")}; it is "${datatype}"`));
    if (shape.some((size) => size < -1n || size === 0n))
      found.push(at(`${field}[${i}].shape`, "sizes of at least 1, or -1 for any"));
    return found;
  });
}

function resources(d: ModelDescription): Violation[] {
  const named = [
    ["training_resources", d.trainingResources],
    ["run_resources", d.runResources],
  ] as const;
  return named.flatMap(([field, r]) => {
    if (r === undefined) return [];
    const found: Violation[] = [];
    if (!Number.isFinite(r.cpu) || r.cpu < 0 || r.cpu > 1_024) found.push(at(`${field}.cpu`, "cores from 0 to 1024"));
    if (r.memoryBytes > 1n << 44n) found.push(at(`${field}.memory_bytes`, "at most 16Ti"));
    return found;
  });
}

function numbers(d: ModelDescription): Violation[] {
  const found: Violation[] = [];
  for (const [name, value] of Object.entries(d.performance))
    if (!Number.isFinite(value)) found.push(at(`performance.${name}`, "a finite number"));
  for (const [name, value] of Object.entries(d.hyperparameters)) {
    const kind = value.kind.case;
    if (kind !== "numberValue" && kind !== "stringValue" && kind !== "boolValue")
      found.push(at(`hyperparameters.${name}`, "a number, a text, true or false"));
  }
  if (d.explainability.some((way) => way === "")) found.push(at("explainability", "names of ways, none empty"));
  return found;
}

function policies(p: Policy | undefined): Violation[] {
  if (p === undefined) return [];
  const found: Violation[] = [];
  if (!["", "observe", "suggest", "auto"].includes(p.retraining))
    found.push(at("policy.retraining", `observe, suggest or auto; it is "${p.retraining}"`));
  const ranges = [
    ["tolerance", p.tolerance, 1e-9, 1],
    ["scale", p.scale, 1e-9, 1],
    ["label_horizon_hours", p.labelHorizonHours, 1e-9, 24 * 365],
    ["cooldown_days", p.cooldownDays, 0, 3_650],
    ["runs_per_month", p.runsPerMonth, 0, 1_000],
    ["shadow_days", p.shadowDays, 1, 365],
    ["probation_days", p.probationDays, 1, 365],
    ["shadow_rate", p.shadowRate, 0, 1],
    ["cache_grace_seconds", p.cacheGraceSeconds, 0, 30 * 86_400],
  ] as const;
  for (const [name, value, low, high] of ranges)
    if (value !== undefined && !(value >= low && value <= high))
      found.push(
        at(
          `policy.${name}`,
          low === 1e-9 ? `more than 0, at most ${high}; it is ${value}` : `from ${low} to ${high}; it is ${value}`,
        ),
      );
  if (p.canary.some((weight, i) => weight < 1 || weight > 99 || weight <= (p.canary[i - 1] ?? 0)))
    found.push(at("policy.canary", "ascending percents from 1 to 99"));
  return found;
}

/** Do the features feed the declared inputs: one tensor each, or one matrix for all? */
function fits(d: ModelDescription): Violation[] {
  const inputs = d.inference?.inputs ?? [];
  if (inputs.length === 0 || d.features.length === 0) return [];
  const only = inputs.length === 1 ? inputs[0] : undefined;
  const byName = new Map(inputs.map((input) => [input.name, input]));
  if (only !== undefined && !d.features.some(({ name }) => byName.has(name))) return fitsMatrix(d, only);
  const found: Violation[] = [];
  d.features.forEach(({ name, type }, i) => {
    const input = byName.get(name);
    const field = `features[${i}]`;
    if (input === undefined) found.push(at(field, `an input tensor of its name: there is none called "${name}"`));
    else if ((type === FeatureType.CATEGORY) !== (input.datatype === "BYTES"))
      found.push(
        at(
          field,
          `${type === FeatureType.CATEGORY ? "a category needs a BYTES tensor" : "a number needs a numeric tensor"}; input ${name} is ${input.datatype}`,
        ),
      );
  });
  const fed = new Set(d.features.map(({ name }) => name));
  inputs.forEach(({ name }, i) => {
    if (!fed.has(name))
      found.push(at(`inference.inputs[${i}]`, `a feature that feeds it: there is none called "${name}"`));
  });
  return found;
}

function fitsMatrix(d: ModelDescription, input: TensorSpec): Violation[] {
  const columns = Number(input.shape.at(-1) ?? -1);
  const count = d.features.length;
  if (input.shape.length === 2 && columns !== -1 && columns !== count)
    return [at("features", `${columns} features, one per column of input ${input.name}; there are ${count}`)];
  if (input.shape.length !== 2 && count > 1)
    return [
      at("features", `one feature for input ${input.name} of shape [${input.shape.join(",")}]; there are ${count}`),
    ];
  return d.features.flatMap(({ name, type }, i) =>
    (type === FeatureType.CATEGORY) === (input.datatype === "BYTES")
      ? []
      : [
          at(
            `features[${i}]`,
            `the type of input ${input.name} (${input.datatype}); ${name} is a ${type === FeatureType.CATEGORY ? "category" : "number"}`,
          ),
        ],
  );
}
