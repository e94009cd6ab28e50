// Whether a model file is what its description says, and what it is where nobody said. Pure.
// Every misfit is named at once, with features and inputs (DM-5002).
import { MeshError } from "#kernel/fault/error.ts";
import type { Signature, TensorSpec } from "#kernel/domain/model.ts";
import type { ModelSpec } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { planFeatures, type FeatureSource } from "../runtime/door.ts";

type Feature = { name: string; type: "number" | "category" };
export type Fit = {
  features: Feature[];
  sources: FeatureSource[];
  scoreOutput: string;
  scoreKind: "probability" | "value";
  /** False where the kind of score is our guess: data may correct it. */
  scoreKindStated: boolean;
};

/** Throws DM-5002 naming every misfit. */
export function fitOf(model: ModelSpec, kind: string, signature: Signature): Fit {
  const problems = [
    ...describedProblems("input", model.inputs, signature.inputs),
    ...describedProblems("output", model.outputs, signature.outputs),
  ];
  const features = model.features.length > 0 ? statedFeatures(model) : inferredFeatures(signature.inputs);
  const plan = planFeatures(features, signature.inputs);
  if (plan.kind === "misfit") problems.push(...plan.problems);
  const score = scoreOf(model, kind, signature.outputs);
  if (typeof score === "string") problems.push(score);
  if (problems.length > 0 || plan.kind === "misfit" || typeof score === "string") {
    throw new MeshError("DM-5002", problems.join("; "), {
      violations: problems.map((description) => ({ field: "model", description })),
    });
  }
  return { features, sources: plan.sources, ...score };
}

const statedFeatures = (model: ModelSpec): Feature[] =>
  model.features.map(({ name, type }) => ({ name, type: type === "category" ? "category" : "number" }));

/** One per input of its name; for a single numeric input [-1, d], f0 to f(d-1). */
function inferredFeatures(inputs: readonly TensorSpec[]): Feature[] {
  const only = inputs[0];
  const columns = only?.shape[1] ?? 0;
  if (only !== undefined && inputs.length === 1 && only.shape.length === 2 && columns > 1) {
    const type = only.datatype === "BYTES" ? "category" : "number";
    return Array.from({ length: columns }, (_, i) => ({ name: `f${i}`, type }));
  }
  return inputs.map(({ name, datatype }) => ({ name, type: datatype === "BYTES" ? "category" : "number" }));
}

type Described = { name: string; datatype: string; shape: readonly bigint[] };

function describedProblems(what: string, described: readonly Described[], found: readonly TensorSpec[]): string[] {
  if (described.length === 0) return [];
  const problems: string[] = [];
  for (const { name, datatype, shape } of described) {
    const real = found.find((spec) => spec.name === name);
    if (real === undefined)
      problems.push(`${what} ${name} is described, but the model has ${found.map((spec) => spec.name).join(", ")}`);
    else if (real.datatype !== datatype)
      problems.push(`${what} ${name} is described as ${datatype}, but it is ${real.datatype} in the model`);
    else if (!sameShape(shape.map(Number), real.shape)) {
      problems.push(
        `${what} ${name} is described with shape [${shape.join(",")}], but it has [${real.shape.join(",")}] in the model`,
      );
    }
  }
  const unknown = what === "input" ? found.filter(({ name }) => !described.some((d) => d.name === name)) : [];
  return [...problems, ...unknown.map(({ name }) => `input ${name} of the model is not described`)];
}

/** Sizes agree where both are fixed; a file may leave its shape out. */
function sameShape(described: readonly number[], real: readonly number[]): boolean {
  if (real.length === 0 || described.length === 0) return true;
  return (
    described.length === real.length && described.every((dim, i) => dim < 0 || (real[i] ?? -1) < 0 || dim === real[i])
  );
}

const FLOATS = ["FP32", "FP64", "FP16"];

function scoreOf(
  model: ModelSpec,
  kind: string,
  outputs: readonly TensorSpec[],
): Pick<Fit, "scoreOutput" | "scoreKind" | "scoreKindStated"> | string {
  const names = outputs.map(({ name }) => name).join(", ");
  const stated = model.scoreOutput;
  const output = stated === "" ? likeliest(outputs, kind) : outputs.find(({ name }) => name === stated);
  if (output === undefined) {
    return stated === ""
      ? `none of the outputs (${names}) is a number`
      : `score output ${stated} is not an output of the model; it has ${names}`;
  }
  if (output.datatype === "BYTES") return `score output ${output.name} is text; expected numbers`;
  const told = model.scoreKind !== "" || kind.endsWith("classification") || kind === "regression";
  const probability =
    model.scoreKind === ""
      ? kind.endsWith("classification") || (!told && looksLikeProbability(output))
      : model.scoreKind === "probability";
  return { scoreOutput: output.name, scoreKind: probability ? "probability" : "value", scoreKindStated: told };
}

const looksLikeProbability = ({ name, shape }: TensorSpec): boolean => shape[1] === 2 || /prob/i.test(name);

function likeliest(outputs: readonly TensorSpec[], kind: string): TensorSpec | undefined {
  const floats = outputs.filter(({ datatype }) => FLOATS.includes(datatype));
  const probable = kind === "regression" ? undefined : floats.find(looksLikeProbability);
  return probable ?? floats[0] ?? outputs.find(({ datatype }) => datatype !== "BYTES");
}
