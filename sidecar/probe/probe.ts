// Checks an artifact and makes its profile, in a process of its own: the control plane and the agent never load a model.
// K1 What is wrong with the artifact, its description or its data is an answer with a code, not a crash.
import { readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { profileFrom, warmupProfile, type ProfileBins, type ProfileColumn } from "#kernel/domain/profile-build.ts";
import { DAY_MS, type Profile } from "#kernel/domain/profile.ts";
import type { Signature, TensorSpec } from "#kernel/domain/model.ts";
import type { DataManifest } from "#kernel/domain/state.ts";
import { MeshError, messageOf } from "#kernel/fault/error.ts";
import {
  exampleInputs,
  loadOnnx,
  numericValues,
  rowShape,
  scoresOf,
  sizeOf,
  type ExampleRow,
  type FeatureSource,
  type Runtime,
  type Tensor,
} from "../runtime/door.ts";
import { readRows, type Rows } from "./data.ts";
import { fitOf, type Fit } from "./fit.ts";
import { examplesOf, type Check, type Order } from "./order.ts";

const BATCH_ROWS = 4_096;

/** Writes check.json, and profile.json when the check passed, into the order's folder. */
export async function probe(order: Order): Promise<Check> {
  const check = await outcomeOf(order);
  await writeFile(join(order.out, "check.json"), JSON.stringify(check));
  return check;
}

async function outcomeOf(order: Order): Promise<Check> {
  try {
    return await checked(order);
  } catch (error) {
    if (!(error instanceof MeshError)) throw error;
    return { ok: false, problem: `(${error.fault}) ${error.message}`, code: error.fault };
  }
}

async function checked(order: Order): Promise<Check> {
  await using runtime = await loadOnnx(await artifactOf(order.artifact));
  const { signature } = runtime;
  const fit = fitOf(order.model, order.kind, signature);
  const exampleScores = await tryExample(runtime, fit, examplesOf(order.example));
  const manifest = await manifestOf(order.manifest);
  const rows = manifest === undefined ? undefined : await readRows(manifest, fit.features);
  const scores = rows === undefined ? undefined : await scoreRows(runtime, fit, rows);
  const scoreKind = settledKind(fit, scores ?? exampleScores);
  const profile = await profileOf(order, fit, { rows, scores, scoreKind });
  await writeFile(join(order.out, "profile.json"), JSON.stringify(profile));
  return {
    ok: true,
    signature: {
      inputs: signature.inputs.map(wireTensor),
      outputs: signature.outputs.map(wireTensor),
    },
    scoreOutput: fit.scoreOutput,
    scoreKind,
    features: fit.features,
    metrics:
      rows === undefined || scores === undefined || order.kind.startsWith("multiclass")
        ? {}
        : metricsOf(rows.labels, scores, scoreKind),
    rows: rows?.eventMs.length ?? 0,
  };
}

async function artifactOf(path: string): Promise<Uint8Array> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new MeshError("DM-5001", "the model file cannot be read", { cause });
  }
}

async function manifestOf(path: string): Promise<DataManifest | undefined> {
  if (path === "") return undefined;
  const manifest = JSON.parse(await readFile(path, "utf8")) as DataManifest;
  return manifest.files.length === 0 ? undefined : manifest;
}

/** Scores of the example; of a made-up row when there is none, which a model may refuse. */
async function tryExample(runtime: Runtime, fit: Fit, examples: readonly ExampleRow[]): Promise<Float32Array> {
  const known = new Set([...fit.features.map(({ name }) => name), ...runtime.signature.inputs.map(({ name }) => name)]);
  const foreign = [...new Set(examples.flatMap((example) => Object.keys(example)))].filter((name) => !known.has(name));
  if (foreign.length > 0)
    throw new MeshError("DM-5002", `the example names ${foreign.join(", ")}, which the model does not take`);
  const rows = Math.max(1, examples.length);
  let outputs: Tensor[];
  try {
    outputs = await runtime.infer(exampleInputs(runtime.signature, fit.features, examples));
  } catch (error) {
    if (examples.length === 0) return new Float32Array();
    throw new MeshError("DM-3006", `the model failed on its example: ${messageOf(error)}`, { cause: error });
  }
  const scores = scoresOf(outputs, fit.scoreOutput, rows);
  if (examples.length > 0 && scores.every((score) => Number.isNaN(score))) {
    throw new MeshError(
      "DM-5002",
      `output ${fit.scoreOutput} gave no number per row for the example; name another as scoreOutput`,
    );
  }
  return examples.length === 0 ? new Float32Array() : scores;
}

async function scoreRows(runtime: Runtime, fit: Fit, rows: Rows): Promise<Float32Array> {
  const all = new Float32Array(rows.eventMs.length).fill(Number.NaN);
  for (let from = 0; from < all.length; from += BATCH_ROWS) {
    const count = Math.min(BATCH_ROWS, all.length - from);
    const inputs = inputsOf(runtime.signature, fit.sources, { columns: rows.columns, from, count });
    try {
      all.set(scoresOf(await runtime.infer(inputs), fit.scoreOutput, count), from);
    } catch (error) {
      throw new MeshError("DM-3006", `the model failed on its own training data: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }
  return all;
}

type Slice = { columns: readonly ProfileColumn[]; from: number; count: number };

/** Columns as the tensors the model takes. */
function inputsOf({ inputs }: Signature, sources: readonly FeatureSource[], { columns, from, count }: Slice): Tensor[] {
  return inputs.map((spec: TensorSpec, input) => {
    const shape = rowShape(spec, count);
    const stride = sizeOf(shape.slice(1));
    const texts = new Array<string>(spec.datatype === "BYTES" ? count * stride : 0).fill("");
    const numbers = new Float64Array(spec.datatype === "BYTES" ? 0 : count * stride);
    sources.forEach((source, i) => {
      if (source.input !== input) return;
      const column = columns[i];
      const width = source.width === 0 ? stride : source.width;
      for (let row = 0; row < count; row++) {
        const value = column?.values[from + row] ?? "";
        const start = row * stride + source.offset;
        if (spec.datatype === "BYTES") texts.fill(String(value), start, start + width);
        else numbers.fill(value === "" ? Number.NaN : Number(value), start, start + width);
      }
    });
    return {
      name: spec.name,
      datatype: spec.datatype,
      shape,
      values: spec.datatype === "BYTES" ? texts : numericValues(spec, numbers),
    };
  });
}

/** A score that leaves [0, 1] is no probability: a mistake where somebody said so, a value where it was our guess. */
function settledKind(fit: Fit, scores: Float32Array): "probability" | "value" {
  if (fit.scoreKind === "value") return "value";
  if (scores.every((score) => Number.isNaN(score) || (score >= -1e-3 && score <= 1.001))) return "probability";
  if (!fit.scoreKindStated) return "value";
  throw new MeshError(
    "DM-5002",
    `score output ${fit.scoreOutput} leaves the range from 0 to 1; expected a probability`,
  );
}

type Found = { rows: Rows | undefined; scores: Float32Array | undefined; scoreKind: "probability" | "value" };

async function profileOf(order: Order, fit: Fit, { rows, scores, scoreKind }: Found): Promise<Profile> {
  if (rows === undefined || scores === undefined || scores.length === 0) return warmupProfile(fit.features, scoreKind);
  const heldOut = await heldOutOf(order.artifact);
  const bins = await ancestorBins(order.ancestorProfile, fit);
  const { columns, labels, eventMs } = rows;
  return profileFrom({ columns, labels, scores, eventMs, scoreKind, heldOut, ...(bins === undefined ? {} : { bins }) });
}

/** A strict run keeps its ancestor's edges and dictionaries: nothing of the node's data enters the profile but counts. */
async function ancestorBins(path: string, fit: Fit): Promise<ProfileBins | undefined> {
  if (path === "") return undefined;
  const { features, score, labelShift, labelScale } = JSON.parse(await readFile(path, "utf8")) as Profile;
  const same =
    features.length === fit.features.length &&
    features.every(({ name, kind }, i) => name === fit.features[i]?.name && kind === fit.features[i]?.type);
  if (!same) throw new MeshError("DM-5002", "the features differ from those of the profile whose bins are to be kept");
  return { features, score, labelShift, labelScale };
}

/** The trainer says from when on it did not train, in metrics.json beside the model; by default it trained on everything. */
async function heldOutOf(artifact: string): Promise<(startMs: number) => boolean> {
  const text = await readFile(join(dirname(artifact), "metrics.json"), "utf8").catch(() => "{}");
  let fromMs = Number.POSITIVE_INFINITY;
  try {
    const { holdout_from_ms: said } = (JSON.parse(text) ?? {}) as { holdout_from_ms?: unknown };
    if (typeof said === "number") fromMs = Math.ceil(said / DAY_MS) * DAY_MS;
  } catch {
    // Whoever reads the metrics says what is wrong with the file.
  }
  return (startMs) => startMs >= fromMs;
}

/** Losses on the rows the profile is made of, most of which the version has learned on: never to be taken for a judgement. */
function metricsOf(labels: Float64Array, scores: Float32Array, kind: "probability" | "value"): Record<string, number> {
  const known = [...labels.keys()].filter(
    (row) => !Number.isNaN(labels[row] ?? Number.NaN) && !Number.isNaN(scores[row] ?? Number.NaN),
  );
  if (known.length === 0) return {};
  const squares = known.reduce((sum, row) => sum + ((labels[row] ?? 0) - (scores[row] ?? 0)) ** 2, 0) / known.length;
  return kind === "value" ? { rmse_on_profile: Math.sqrt(squares) } : { brier_on_profile: squares };
}

const wireTensor = ({ name, datatype, shape }: TensorSpec) => ({ name, datatype, shape: [...shape] });
