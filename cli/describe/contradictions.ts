// What a description must not say, beyond names and types: pure checks on the decoded message.
import type { ModelDescription } from "#proto/driftmesh/v1/model_pb.ts";

export type Contradiction = { field: string; expected: string };

/** Every contradiction, with the field it is reported at. */
export function contradictions(d: ModelDescription): Contradiction[] {
  return [...names(d), ...origins(d), ...policies(d), ...featureNames(d)];
}

function names(d: ModelDescription): Contradiction[] {
  if (d.name === "") return [{ field: "name", expected: "a name: lower-case letters, digits and -, at most 48" }];
  return /^[a-z][a-z0-9-]{0,47}$/.test(d.name)
    ? []
    : [
        {
          field: "name",
          expected: `lower-case letters, digits and -, at most 48, beginning with a letter, not "${d.name}"`,
        },
      ];
}

function origins(d: ModelDescription): Contradiction[] {
  const found: Contradiction[] = [];
  const code = d.trainCode;
  const artifact = d.inference?.artifact !== undefined && d.inference.artifact !== "";
  const runtime = d.inference?.runtime ?? "";
  if (code !== undefined) {
    if (code.folder !== "" && code.git !== "")
      found.push({ field: "train_code.git", expected: "folder or git, not both" });
    if (code.folder === "" && code.git === "")
      found.push({ field: "train_code", expected: "a folder, or a git URL with a commit" });
    if (code.git !== "" && !/^[0-9a-f]{40}$/.test(code.commit))
      found.push({ field: "train_code.commit", expected: "the pinned commit: 40 hex digits" });
    if (code.command.length === 0)
      found.push({ field: "train_code.command", expected: "program and arguments, e.g. [node, train.ts]" });
    if (artifact) found.push({ field: "inference.artifact", expected: "train code or a trained artifact, not both" });
    if (d.trainingData === undefined)
      found.push({ field: "training_data", expected: "a file to train on: train_code is given" });
  } else if (d.trainingData !== undefined && !artifact) {
    found.push({ field: "train_code", expected: "train code: training data is given and there is no artifact" });
  } else if (!artifact && runtime !== "image") {
    found.push({ field: "inference.artifact", expected: "a trained artifact, or train_code with training_data" });
  }
  if (runtime !== "" && runtime !== "onnx" && runtime !== "image")
    found.push({ field: "inference.runtime", expected: `onnx or image, not "${runtime}"` });
  if (runtime === "image" && d.inference?.image === "")
    found.push({ field: "inference.image", expected: "the image of runtime image" });
  return found;
}

function policies(d: ModelDescription): Contradiction[] {
  const p = d.policy;
  if (p === undefined) return [];
  const found: Contradiction[] = [];
  if (!["", "observe", "suggest", "auto"].includes(p.retraining))
    found.push({ field: "policy.retraining", expected: `observe, suggest or auto, not "${p.retraining}"` });
  const positive = [
    ["tolerance", p.tolerance],
    ["scale", p.scale],
    ["label_horizon_hours", p.labelHorizonHours],
    ["shadow_days", p.shadowDays],
    ["probation_days", p.probationDays],
  ] as const;
  for (const [field, value] of positive)
    if (value !== undefined && value <= 0) found.push({ field: `policy.${field}`, expected: "a number above 0" });
  if (p.shadowRate !== undefined && (p.shadowRate < 0 || p.shadowRate > 1))
    found.push({ field: "policy.shadow_rate", expected: "a share from 0 to 1" });
  if (p.canary.some((weight, i) => weight < 1 || weight > 99 || weight <= (p.canary[i - 1] ?? 0)))
    found.push({ field: "policy.canary", expected: "ascending percents from 1 to 99" });
  return found;
}

function featureNames(d: ModelDescription): Contradiction[] {
  const seen = new Set<string>();
  return d.features.flatMap((feature, i) => {
    const field = `features[${i}].name`;
    if (feature.name === "") return [{ field, expected: "a name" }];
    if (seen.has(feature.name)) return [{ field, expected: `each feature once: "${feature.name}" is there already` }];
    seen.add(feature.name);
    return [];
  });
}
