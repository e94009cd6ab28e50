// Which number of an answer is the score, and which values of a call are the features: what recorder, shadow and profile count.
// R1 The score of a row is: of one column, that column; of two, the second (the positive class); of more, the largest.
// R2 A feature is fed by the input of its own name, or by its place in the only input [-1, d]. An input with several
//    values per row that is one feature counts as their mean.
// R3 Numbers are rounded to 32 bits, everywhere: a profile made of doubles would count 0.7 in another bin than the record.
import type { Feature, TensorSpec } from "#kernel/domain/model.ts";
import { isTexts, numberAt, rowsOf, sizeOf, textAt, type Tensor } from "./tensor.ts";

/** A feature's values, one per row: numbers (NaN is missing) or texts (empty is missing). */
export type Column = { kind: "number"; values: Float32Array } | { kind: "category"; values: string[] };

/** Scores of the rows (R1, R3); NaN where the output says nothing. */
export function scoresOf(outputs: readonly Tensor[], scoreOutput: string, rows: number): Float32Array {
  const scores = new Float32Array(rows).fill(Number.NaN);
  const output = outputs.find(({ name }) => name === scoreOutput);
  if (output === undefined || rowsOf(output) !== rows) return scores;
  const width = sizeOf(output.shape.slice(1));
  for (let row = 0; row < rows && width > 0; row++) {
    if (width <= 2) {
      scores[row] = numberAt(output, row * width + width - 1);
      continue;
    }
    let largest = Number.NEGATIVE_INFINITY;
    for (let i = 0; i < width; i++) largest = Math.max(largest, numberAt(output, row * width + i));
    scores[row] = largest;
  }
  return scores;
}

/** Where a feature's values lie: input, first place in the row, and how many. */
export type FeatureSource = { feature: Pick<Feature, "name" | "type">; input: number; offset: number; width: number };
export type SourcePlan = { kind: "ok"; sources: FeatureSource[] } | { kind: "misfit"; problems: string[] };

/** Finds each feature in the signature (R2), or says every misfit. */
export function planFeatures(
  features: readonly Pick<Feature, "name" | "type">[],
  inputs: readonly TensorSpec[],
): SourcePlan {
  const only = inputs[0];
  const columns = only === undefined ? 0 : (only.shape[1] ?? 0);
  const named = new Set(inputs.map(({ name }) => name));
  if (
    only !== undefined &&
    inputs.length === 1 &&
    only.shape.length === 2 &&
    !features.every(({ name }) => named.has(name))
  ) {
    if (columns !== features.length) {
      const problem = `input ${only.name} has ${columns < 0 ? "any number of" : columns} columns, but ${features.length} features are listed: ${features.map((feature) => feature.name).join(", ")}`;
      return { kind: "misfit", problems: [problem] };
    }
    const textual = features.filter(({ type }) => (type === "number") === (only.datatype === "BYTES"));
    if (textual.length > 0) return { kind: "misfit", problems: textual.map((feature) => wrongType(feature, only)) };
    return { kind: "ok", sources: features.map((feature, offset) => ({ feature, input: 0, offset, width: 1 })) };
  }
  const sources: FeatureSource[] = [];
  const problems: string[] = [];
  for (const feature of features) {
    const input = inputs.findIndex(({ name }) => name === feature.name);
    const spec = inputs[input];
    if (spec === undefined) problems.push(`feature ${feature.name} has no input of its name`);
    else if (feature.type === "number" && spec.datatype === "BYTES") problems.push(wrongType(feature, spec));
    else sources.push({ feature, input, offset: 0, width: 0 });
  }
  const fed = new Set(features.map(({ name }) => name));
  for (const { name } of inputs) if (!fed.has(name)) problems.push(`input ${name} has no feature of its name`);
  return problems.length > 0 ? { kind: "misfit", problems } : { kind: "ok", sources };
}

function wrongType(feature: Pick<Feature, "name" | "type">, input: TensorSpec): string {
  return `feature ${feature.name} is a ${feature.type}, but input ${input.name} has datatype ${input.datatype}`;
}

/** Each feature's values (R2, R3). `inputs` are in the order of the signature. */
export function columnsOf(sources: readonly FeatureSource[], inputs: readonly Tensor[], rows: number): Column[] {
  return sources.map(({ feature, input, offset, width }) => {
    const tensor = inputs[input];
    return feature.type === "number" ? numbers(tensor, { offset, width, rows }) : texts(tensor, { offset, rows });
  });
}

function numbers(tensor: Tensor | undefined, at: { offset: number; width: number; rows: number }): Column {
  const values = new Float32Array(at.rows).fill(Number.NaN);
  if (tensor === undefined) return { kind: "number", values };
  const stride = sizeOf(tensor.shape.slice(1));
  const width = at.width === 0 ? stride : at.width;
  for (let row = 0; row < at.rows; row++) {
    let sum = 0;
    for (let i = 0; i < width; i++) sum += numberAt(tensor, row * stride + at.offset + i);
    values[row] = width === 1 ? sum : sum / width;
  }
  return { kind: "number", values };
}

function texts(tensor: Tensor | undefined, at: { offset: number; rows: number }): Column {
  const values = new Array<string>(at.rows).fill("");
  if (tensor === undefined) return { kind: "category", values };
  const stride = sizeOf(tensor.shape.slice(1));
  const plain = isTexts(tensor.values) ? tensor.values : undefined;
  for (let row = 0; row < at.rows; row++) {
    const index = row * stride + at.offset;
    values[row] = plain === undefined ? textAt(tensor, index) : (plain[index] ?? "");
  }
  return { kind: "category", values };
}
