// One attempt of a run, from the wanted run to what is told of it: prepare, train, check, store. One straight line.
// E1 Whatever goes wrong becomes a failed run with a sentence; only a broken promise of our own throws.
// E2 A model counts only after a process of ours has loaded it (the probe): neither agent nor control plane ever loads one.
import { create, fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { lstat, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Clock } from "#kernel/base/clock.ts";
import type { ProcessMark } from "#kernel/domain/host.ts";
import { messageOf } from "#kernel/fault/error.ts";
import { startSpan } from "#kernel/process/trace.ts";
import type { Blobs } from "#kernel/store/ports.ts";
import {
  type ModelSpec,
  ModelSpecSchema,
  type ObservedRun,
  ObservedRunSchema,
  type WantedRun,
} from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { placeCode, placeManifest, type RunFolder, trainEnvironment } from "./folder.ts";
import { endSentence, runLimited } from "./limited.ts";
import { parseMetrics } from "./metrics.ts";

const ARTIFACT_BYTES = 1024 ** 3;
const CHECK_MS = 120_000;
const CHECK_BYTES = 4 * 1024 ** 3;
const DEFAULT_TIMEOUT_MS = 600_000;
const DEFAULT_MEMORY_BYTES = 2 * 1024 ** 3;

export type ExecuteOptions = {
  clock: Clock;
  blobs: Blobs;
  /** Where a blob lies as a file. */
  blobPath: (sha256: string) => string;
  /** The mesh's node_modules. */
  modules: string;
  /** Entry file of the check. */
  probe: string;
  /** Environment of the check, and the PATH of train code. */
  env: Readonly<Record<string, string>>;
  /** Told each phase, and each process so that a later agent can end it. */
  phase: (phase: "running" | "checking") => void;
  started: (mark: ProcessMark) => void;
};

/** Runs the attempt; the answer's phase is succeeded or failed. */
export async function execute(
  options: ExecuteOptions,
  wanted: WantedRun,
  folder: RunFolder,
  signal: AbortSignal,
): Promise<ObservedRun> {
  const told = (fields: Found | { phase: "failed"; reason: string }): ObservedRun =>
    create(ObservedRunSchema, { id: wanted.id, attempt: wanted.attempt, ...fields });
  const failed = (reason: string): ObservedRun => told({ phase: "failed", reason });
  const strict = wanted.scope !== "open" && wanted.scope !== "";
  if (strict && wanted.train)
    return failed("train code of a strict track needs a sandbox without network, which is not built yet (DM-7001)");
  const span = startSpan("agent.run", wanted.traceparent === "" ? undefined : wanted.traceparent);
  span.set("run", wanted.id);
  let result: ObservedRun;
  try {
    options.phase("running");
    const trained = wanted.train ? await train(options, wanted, folder, signal) : await given(options, wanted, folder);
    if ("problem" in trained) result = failed(trained.problem);
    else {
      options.phase("checking");
      const checked = await check(options, wanted, folder, { ...trained, signal });
      result = "problem" in checked ? failed(checked.problem) : told(checked);
    }
  } catch (thrown) {
    result = failed(messageOf(thrown));
  }
  // The reason is not told here: it may hold what train code said of its data.
  if (result.phase === "failed") span.fail("failed");
  span.end();
  if (!strict) result.logSha256 = await storeLog(options.blobs, folder);
  return result;
}

type Trained = { artifact: string; manifest: string; metrics: Record<string, number> } | { problem: string };

async function train(
  options: ExecuteOptions,
  wanted: WantedRun,
  folder: RunFolder,
  signal: AbortSignal,
): Promise<Trained> {
  const { blobs, blobPath, clock, env, modules, started } = options;
  await placeCode(folder, wanted.treeSha256, blobs, modules);
  const manifest = await placeManifest(folder, wanted.manifestSha256, blobs, blobPath);
  await writeFile(folder.hyperparameters, wanted.hyperparametersJson === "" ? "{}" : wanted.hyperparametersJson);
  const limits = {
    timeoutMs: wanted.timeoutSeconds > 0 ? wanted.timeoutSeconds * 1000 : DEFAULT_TIMEOUT_MS,
    memoryBytes: wanted.memoryBytes > 0n ? Number(wanted.memoryBytes) : DEFAULT_MEMORY_BYTES,
  };
  const spec = { command: wanted.command, cwd: folder.code, log: folder.log, ...limits, started };
  const ended = await runLimited({ ...spec, env: trainEnvironment(folder, env["PATH"] ?? "") }, clock, signal);
  const problem = endSentence(ended, "train code", limits);
  if (problem !== undefined) return { problem };
  const artifact = join(folder.out, "model.onnx");
  const size = await sizeOf(artifact);
  if (size === undefined) return { problem: "train code wrote no model.onnx" };
  if (size > ARTIFACT_BYTES) return { problem: `model.onnx has ${size} bytes, at most ${ARTIFACT_BYTES} are taken` };
  const path = join(folder.out, "metrics.json");
  if ((await sizeOf(path)) === undefined) return { problem: "train code wrote no metrics.json" };
  const read = parseMetrics(await readFile(path, "utf8"));
  return "problem" in read ? read : { artifact, manifest, metrics: read.metrics };
}

async function given({ blobs, blobPath }: ExecuteOptions, wanted: WantedRun, folder: RunFolder): Promise<Trained> {
  if (!(await blobs.has(wanted.artifactSha256)))
    return { problem: `the artifact (${wanted.artifactSha256}) is not among the blobs` };
  const manifest = await placeManifest(folder, wanted.manifestSha256, blobs, blobPath);
  return { artifact: blobPath(wanted.artifactSha256), manifest, metrics: {} };
}

type Found = Pick<ObservedRun, "phase" | "artifactSha256" | "artifactBytes" | "profileSha256" | "metrics"> & {
  model: ModelSpec;
};
type Checked = Found | { problem: string };
type Subject = { artifact: string; manifest: string; metrics: Record<string, number>; signal: AbortSignal };

/** Loads the model in a process of its own and makes its profile (E2). */
async function check(
  options: ExecuteOptions,
  wanted: WantedRun,
  folder: RunFolder,
  subject: Subject,
): Promise<Checked> {
  const { blobs, blobPath, clock, env, probe, started } = options;
  const { artifact, manifest, metrics, signal } = subject;
  const ancestor = wanted.ancestorProfileSha256;
  const order = join(folder.check, "order.json");
  await writeFile(
    order,
    JSON.stringify({
      model: wanted.model === undefined ? {} : toJson(ModelSpecSchema, wanted.model),
      kind: wanted.kind,
      artifact,
      manifest,
      ancestorProfile: ancestor === "" ? "" : blobPath(ancestor),
      example: wanted.exampleJson,
      out: folder.check,
    }),
  );
  const limits = { timeoutMs: CHECK_MS, memoryBytes: CHECK_BYTES };
  const command = [process.execPath, probe];
  const spec = {
    command,
    cwd: folder.check,
    env: { ...env, DRIFTMESH_PROBE: order },
    log: folder.log,
    ...limits,
    started,
  };
  const ended = await runLimited(spec, clock, signal);
  const crashed = endSentence(ended, "the check of model.onnx", limits);
  if (crashed !== undefined) return { problem: crashed };
  const found = await readCheck(join(folder.check, "check.json"));
  if (found.ok !== true) return { problem: refusalOf(found) };
  const content = await readFile(artifact);
  const profile = await readFile(join(folder.check, "profile.json"));
  const artifactSha256 = await blobs.put(content);
  const profileSha256 = await blobs.put(profile);
  const model = modelOf(found, wanted, { artifactSha256, profileSha256 });
  return {
    phase: "succeeded",
    artifactSha256,
    artifactBytes: BigInt(content.length),
    profileSha256,
    metrics: { ...finite(found.metrics), ...metrics },
    model,
  };
}

function refusalOf({ problem = "the check of model.onnx said nothing", code = "" }: CheckFile): string {
  return code === "" || problem.includes(code) ? problem : `${problem} (${code})`;
}

type CheckFile = {
  ok?: boolean;
  problem?: string;
  code?: string;
  signature?: { inputs?: JsonValue; outputs?: JsonValue };
  scoreOutput?: string;
  scoreKind?: string;
  features?: JsonValue;
  metrics?: Record<string, unknown>;
};

async function readCheck(path: string): Promise<CheckFile> {
  const text = await readFile(path, "utf8").catch(() => "{}");
  return JSON.parse(text) as CheckFile;
}

/** The model as the check found it. */
function modelOf(
  found: CheckFile,
  wanted: WantedRun,
  hashes: { artifactSha256: string; profileSha256: string },
): ModelSpec {
  const json = {
    inputs: found.signature?.inputs ?? [],
    outputs: found.signature?.outputs ?? [],
    features: found.features ?? [],
    scoreOutput: found.scoreOutput ?? "",
    scoreKind: found.scoreKind ?? "",
  };
  const spec = fromJson(ModelSpecSchema, json, { ignoreUnknownFields: true });
  return { ...spec, ...hashes, model: wanted.model?.model ?? "", version: wanted.model?.version ?? 0 };
}

function finite(metrics: Record<string, unknown> | undefined): Record<string, number> {
  const entries = Object.entries(metrics ?? {}).filter((entry): entry is [string, number] => Number.isFinite(entry[1]));
  return Object.fromEntries(entries);
}

/** Size of a regular file; undefined when there is none, also for links, which might lead out of the folder. */
async function sizeOf(path: string): Promise<number | undefined> {
  const found = await lstat(path).catch(() => undefined);
  return found?.isFile() === true ? found.size : undefined;
}

async function storeLog(blobs: Blobs, folder: RunFolder): Promise<string> {
  const content = await readFile(folder.log).catch(() => Buffer.alloc(0));
  return content.length === 0 ? "" : await blobs.put(content);
}
