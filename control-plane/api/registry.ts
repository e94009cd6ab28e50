// driftmesh.v1.Registry.
// R1 The first run of a model has an id of its name: registering again finds it. R2 A description is replaced only while nothing came of it.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { canonicalJson } from "#kernel/base/bytes.ts";
import { derivedId } from "#kernel/domain/ids.ts";
import type { Description, Version } from "#kernel/domain/model.ts";
import { KEYS, type ModelState, type RunState } from "#kernel/domain/state.ts";
import { MeshError, type Violation } from "#kernel/fault/error.ts";
import type { ServiceImpl } from "#kernel/rpc/connect.ts";
import type { Write } from "#kernel/store/ports.ts";
import type { ModelDescription, ModelSchema, VersionSchema } from "#proto/driftmesh/v1/model_pb.ts";
import type { Registry, RegisterModelRequest } from "#proto/driftmesh/v1/registry_pb.ts";
import { encode } from "../pass/door.ts";
import { decodeDescription, descriptionMessage, featureMessage, tensorMessage } from "../registry/door.ts";
import { aliasesOf, claims, deployments, type Held, RUN_ENDED, runsOf, versionsOf } from "../world/door.ts";
import {
  type ApiDeps,
  checkName,
  commit,
  invalid,
  modelOf,
  notFound,
  pageOf,
  PRINCIPAL,
  read,
  sameContent,
} from "./access.ts";

const BLOB_BYTES_MAX = 512 * 2 ** 20;
const UPLOAD_CHUNK_MAX = 2 ** 20;
const DOWNLOAD_CHUNK = 256 * 2 ** 10;
const DESCRIPTION_BYTES_MAX = 48 * 2 ** 10;

export function registryService(deps: ApiDeps): ServiceImpl<typeof Registry> {
  return {
    async uploadBlob(requests) {
      const content = await gather(requests);
      return { sha256: await deps.blobs.put(content), byteSize: BigInt(content.byteLength) };
    },
    async *downloadBlob({ sha256 }, { signal }) {
      if (!SHA256.test(sha256)) throw invalid([{ field: "sha256", description: "64 lower-case hex digits" }]);
      const content = await deps.blobs.get(sha256, signal);
      if (content === undefined) throw new MeshError("DM-2011", `no blob has the hash ${sha256}`);
      for (let at = 0; at < Math.max(1, content.byteLength); at += DOWNLOAD_CHUNK)
        yield { chunk: new Uint8Array(content.subarray(at, at + DOWNLOAD_CHUNK)) };
    },
    registerModel: (request) => register(deps, request),
    async getModel({ name }) {
      return modelMessage(deps, await modelOf(deps, name));
    },
    listModels(request) {
      const all = deps.world.all("model").map(({ value }) => value);
      const { items, nextPageToken } = pageOf(all, ({ description }) => description.name, request);
      return { models: items.map((model) => modelMessage(deps, model)), nextPageToken };
    },
    async getVersion({ model, version }) {
      await modelOf(deps, model);
      const found = await read(deps, "version", KEYS.version(model, version));
      if (found !== undefined) return versionMessage(found);
      const known = versionsOf(deps.world, model).map((v) => String(v.version));
      throw notFound("DM-2002", `model ${model} has no version ${version}`, "", known);
    },
    async listVersions(request) {
      if (request.model !== "") await modelOf(deps, request.model);
      const all = deps.world
        .all("version")
        .flatMap(({ value }) => (request.model === "" || value.model === request.model ? [value] : []));
      const { items, nextPageToken } = pageOf(
        all,
        ({ model, version }) => `${model} ${String(version).padStart(10, "0")}`,
        request,
      );
      return { versions: items.map(versionMessage), nextPageToken };
    },
  };
}

const SHA256 = /^[0-9a-f]{64}$/;

async function gather(requests: AsyncIterable<{ chunk: Uint8Array }>): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const { chunk } of requests) {
    if (chunk.byteLength > UPLOAD_CHUNK_MAX)
      throw new MeshError("DM-3008", `a chunk has ${chunk.byteLength} bytes, at most ${UPLOAD_CHUNK_MAX} are taken`);
    bytes += chunk.byteLength;
    if (bytes > BLOB_BYTES_MAX) throw new MeshError("DM-3008", `the blob has more than ${BLOB_BYTES_MAX} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function register(deps: ApiDeps, { description: given }: RegisterModelRequest) {
  const description = await checked(deps, given);
  for (;;) {
    const known = await readModel(deps, description.name);
    const { model, run, writes } = decideRegistration(deps, description, known);
    // Somebody wrote at the same time: what they wrote is in the world now, so look again.
    if (writes.length > 0 && !(await commit(deps, writes))) continue;
    return { model: modelMessage(deps, model), run };
  }
}

/** The description with defaults, or every mistake of it at once. */
async function checked(deps: ApiDeps, given: ModelDescription | undefined): Promise<Description> {
  if (given === undefined) throw invalid([{ field: "description", description: "a description" }]);
  const decoded = decodeDescription(given);
  if (decoded.kind === "wrong") {
    const { violations, misfits } = decoded;
    throw violations.length > 0 ? invalid([...violations, ...misfits], "DM-1001") : invalid(misfits, "DM-5002");
  }
  const { description } = decoded;
  const absent = await absentBlobs(deps, description);
  if (absent.length > 0) throw invalid(absent, "DM-1001");
  const bytes = Buffer.byteLength(canonicalJson(description));
  if (bytes > DESCRIPTION_BYTES_MAX)
    throw invalid(
      [{ field: "(description)", description: `at most ${DESCRIPTION_BYTES_MAX} bytes as JSON; there are ${bytes}` }],
      "DM-1001",
    );
  if (description.policy.canary.length > 0)
    throw new MeshError(
      "DM-7001",
      "policy.canary: canary weights are not built yet; leave the list empty, and a challenger goes from shadow to probation",
    );
  return description;
}

async function absentBlobs(
  { blobs }: ApiDeps,
  { trainCode, trainingData, inference }: Description,
): Promise<Violation[]> {
  const named: (readonly [string, string | undefined])[] = [
    ["train_code.tree_sha256", trainCode?.kind === "folder" ? trainCode.treeSha256 : undefined],
    ["training_data.sha256", trainingData?.sha256],
    ["inference.artifact_sha256", inference.artifact?.sha256],
  ];
  const found: Violation[] = [];
  for (const [field, sha256] of named)
    if (sha256 !== undefined && !(await blobs.has(sha256)))
      found.push({ field, description: `the hash of an uploaded blob; ${sha256} is not there: upload the file first` });
  return found;
}

async function readModel(deps: ApiDeps, name: string): Promise<Held<ModelState> | undefined> {
  await read(deps, "model", KEYS.model(name));
  return deps.world.get("model", KEYS.model(name));
}

type Registration = { model: ModelState; run: string; writes: Write[] };

/** What registering comes to: a new model, the one that is there, or another try after a failure (R1, R2). */
function decideRegistration(
  deps: ApiDeps,
  description: Description,
  known: Held<ModelState> | undefined,
): Registration {
  const { world, clock } = deps;
  const { name } = description;
  const earlier = runsOf(world, name).filter(({ trigger }) => trigger === "registration");
  const failed = earlier.filter(({ phase }) => phase === "Failed" || phase === "Cancelled");
  const living = earlier.find((run) => !failed.includes(run));
  const run = firstRun(name, failed.length, clock.wallMs());
  const create: Write = { kind: "create", key: KEYS.run(run.id), value: encode(run) };
  if (known === undefined) {
    const model: ModelState = { description, owner: PRINCIPAL, createdMs: clock.wallMs() };
    return { model, run: run.id, writes: [{ kind: "create", key: KEYS.model(name), value: encode(model) }, create] };
  }
  const same = sameContent(known.value.description, description);
  const nothingCame =
    versionsOf(world, name).length === 0 && living === undefined && earlier.every(({ phase }) => RUN_ENDED.has(phase));
  if (same) {
    if (!nothingCame) return { model: known.value, run: living?.id ?? earlier.at(-1)?.id ?? "", writes: [] };
    return { model: known.value, run: run.id, writes: [create] };
  }
  const claimed = deployments(world).some((d) => d.spec.model === name && claims(d));
  if (!nothingCame || claimed) throw new MeshError("DM-2006", `the name ${name} is taken by another description`);
  const model: ModelState = { ...known.value, description };
  return {
    model,
    run: run.id,
    writes: [{ kind: "update", key: known.key, value: encode(model), revision: known.revision }, create],
  };
}

function firstRun(model: string, failures: number, nowMs: number): RunState {
  return {
    id: derivedId("run", PRINCIPAL, "RegisterModel", model, String(failures)),
    model,
    scope: "open",
    trigger: "registration",
    order: "",
    episode: "",
    phase: "Pending",
    attempt: 0,
    node: "",
    manifestSha256: "",
    reason: "registered",
    version: 0,
    metrics: {},
    logSha256: "",
    createdMs: nowMs,
    changedMs: nowMs,
  };
}

function modelMessage(
  { world }: ApiDeps,
  { description, owner, createdMs }: ModelState,
): MessageInitShape<typeof ModelSchema> {
  return {
    description: descriptionMessage(description),
    owner,
    createTime: timestampFromMs(createdMs),
    aliases: aliasesOf(world, description.name).map(({ scope, alias, version, previous, reason }) => ({
      scope,
      alias,
      version,
      previous,
      reason,
    })),
    versions: versionsOf(world, description.name).map(({ version }) => version),
  };
}

function versionMessage(v: Version): MessageInitShape<typeof VersionSchema> {
  const { origin } = v;
  return {
    model: v.model,
    version: v.version,
    artifactSha256: v.artifactSha256,
    artifactBytes: BigInt(v.artifactBytes),
    profileSha256: v.profileSha256,
    inputs: v.signature.inputs.map(tensorMessage),
    outputs: v.signature.outputs.map(tensorMessage),
    features: v.features.map(featureMessage),
    scoreOutput: v.scoreOutput,
    metrics: { ...v.metrics },
    origin:
      origin.kind === "upload"
        ? { kind: "upload" }
        : {
            kind: "run",
            run: origin.run,
            trigger: origin.trigger,
            episode: origin.episode ?? "",
            dataManifestSha256: origin.dataManifestSha256,
          },
    createTime: timestampFromMs(v.createdMs),
  };
}

/** Throws unless the model exists; an empty name means all. */
export async function checkModelFilter(deps: ApiDeps, model: string): Promise<void> {
  if (model === "") return;
  checkName("model", model);
  await modelOf(deps, model);
}
