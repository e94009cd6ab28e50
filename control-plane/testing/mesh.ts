// A control plane with stores in memory, virtual time and machines played by hand: for tests.
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { setImmediate } from "node:timers/promises";
import { type Clock, VirtualClock } from "#kernel/base/clock.ts";
import { seededRand } from "#kernel/base/rand.ts";
import { profileFrom } from "#kernel/domain/profile-build.ts";
import { DAY_MS } from "#kernel/domain/profile.ts";
import type { EpisodeState, EvidenceState, RolloutState, SegmentState, VerdictState } from "#kernel/domain/state.ts";
import { createRouterTransport } from "@connectrpc/connect";
import { createClient } from "@connectrpc/connect";
import { silentLogger } from "#kernel/process/log.ts";
import { MemoryBlobs } from "#kernel/store/memory/blobs.ts";
import { MemoryEventLog } from "#kernel/store/memory/event-log.ts";
import { MemoryStateStore } from "#kernel/store/memory/state-store.ts";
import { CheckedStateStore } from "./checked-store.ts";
import { Deployments } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Discovery } from "#proto/driftmesh/v1/discovery_pb.ts";
import { Mesh } from "#proto/driftmesh/v1/mesh_pb.ts";
import { FeatureType, type ModelDescription, ModelDescriptionSchema, ModelKind } from "#proto/driftmesh/v1/model_pb.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import { Retraining } from "#proto/driftmesh/v1/retraining_pb.ts";
import { Rollouts } from "#proto/driftmesh/v1/rollouts_pb.ts";
import { MemoryBackend, type Observed, type RunReport } from "../backend/door.ts";
import { encode } from "../pass/door.ts";
import { createControlPlane } from "../plane.ts";
import { toConnectError } from "#kernel/rpc/connect.ts";
import { Sync } from "#proto/driftmesh/internal/v1/sync_pb.ts";

/** Monday, 1 January 2001. */
export const DAY0_MS = Date.UTC(2001, 0, 1);
export const GIB = 2 ** 30;
export type TestMesh = Awaited<ReturnType<typeof startMesh>>;

export async function startMesh(
  options: {
    nodes?: readonly { name: string; cpu: number; memoryBytes: number }[];
    /** What the machines say from the start. */
    observed?: Observed;
    /** An earlier mesh whose keys this one has, on streams made anew. */
    restoredFrom?: { clock: Clock } & Record<"state" | "drift", Pick<MemoryStateStore, "snapshot">>;
  } = {},
) {
  const { restoredFrom } = options;
  const clock = new VirtualClock(restoredFrom === undefined ? undefined : restoredFrom.clock.wallMs() + 1);
  const state = new CheckedStateStore();
  const drift = new MemoryStateStore();
  if (restoredFrom !== undefined) {
    const { revision, entries } = restoredFrom.state.snapshot();
    state.restore({ revision, entries: entries.filter(({ key }) => !key.startsWith("lease.")) });
    drift.restore(restoredFrom.drift.snapshot());
  }
  const panes = new MemoryEventLog(clock);
  const events = new MemoryEventLog(clock);
  const blobs = new MemoryBlobs();
  const nodes = options.nodes ?? [{ name: "local", cpu: 4, memoryBytes: 4 * GIB }];
  const backend = new MemoryBackend(
    nodes.map(({ name, cpu, memoryBytes }) => ({ name, shares: { cpu, memoryBytes } })),
    clock.wallMs(),
  );
  if (options.observed !== undefined) backend.see(options.observed);
  const stop = new AbortController();
  const plane = createControlPlane({
    state,
    drift,
    panes,
    events,
    blobs,
    backend,
    clock,
    rand: seededRand(restoredFrom === undefined ? 7 : 9),
    log: silentLogger(),
    holder: "test",
    settings: { endpoint: "127.0.0.1:4747", dataFolder: "/data", version: "0.0.0" },
  });
  const running = plane.run(stop.signal);
  const transport = createRouterTransport((router) => plane.routes(router), {
    router: {
      interceptors: [
        (next) => async (request) => {
          try {
            const response = await next(request);
            return response.stream ? { ...response, message: translated(response.message) } : response;
          } catch (thrown) {
            throw toConnectError(thrown);
          }
        },
      ],
    },
  });

  /** Lets everything that is due happen, without time passing. */
  async function settle(): Promise<void> {
    let quiet = 0;
    let seen = -1;
    while (quiet < 5) {
      await setImmediate();
      const { version } = plane.world.changes.get();
      quiet = version === seen ? quiet + 1 : 0;
      seen = version;
    }
  }
  /** Lets time pass, waking whoever sleeps. */
  async function advance(ms: number): Promise<void> {
    await settle();
    const untilMs = clock.wallMs() + ms;
    for (let next = clock.nextMs(); next !== undefined && next <= untilMs; next = clock.nextMs()) {
      clock.step();
      await settle();
    }
    void clock.sleep(untilMs - clock.wallMs());
    while (clock.wallMs() < untilMs && clock.step()) await settle();
    await settle();
  }
  await settle();
  await advance(50);
  const put = (key: string, value: unknown) => drift.write({ kind: "put", key, value: encode(value) });
  return {
    clock,
    state,
    drift,
    panes,
    events,
    blobs,
    backend,
    plane,
    settle,
    advance,
    world: plane.world,
    registry: createClient(Registry, transport),
    discovery: createClient(Discovery, transport),
    deployments: createClient(Deployments, transport),
    retraining: createClient(Retraining, transport),
    rollouts: createClient(Rollouts, transport),
    mesh: createClient(Mesh, transport),
    sync: createClient(Sync, transport),
    putEpisode: (episode: EpisodeState) => put(`episode.${episode.track}.${episode.number}`, episode),
    putVerdict: (verdict: VerdictState) => put(`verdict.${verdict.track}`, verdict),
    putEvidence: (evidence: EvidenceState) => put(`evidence.${evidence.rollout}`, evidence),
    putSegment: (segment: SegmentState) => put(`segment.${segment.track}.${segment.day}`, segment),
    async [Symbol.asyncDispose](): Promise<void> {
      stop.abort();
      await settle();
      await running;
      if (state.broken.length > 0) throw new Error(`promises were broken: ${state.broken.join("; ")}`);
    },
  };
}

async function* translated<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (thrown) {
    throw toConnectError(thrown);
  }
}

/** Fields of a description, as a caller writes them. */
export type DescriptionPatch = Omit<
  Extract<MessageInitShape<typeof ModelDescriptionSchema>, { $typeName?: never }>,
  "$typeName"
>;

/** A description that trains: two features, code and data uploaded. */
export async function trainable(mesh: TestMesh, patch: DescriptionPatch = {}): Promise<ModelDescription> {
  const tree = await mesh.blobs.put(encode({ format: 1, files: [] }));
  const data = await mesh.blobs.put(encode("parquet"));
  return create(ModelDescriptionSchema, {
    name: "flight-delay",
    kind: ModelKind.BINARY_CLASSIFICATION,
    summary: "Will the flight be late?",
    trainCode: { treeSha256: tree, command: ["node", "train.ts"] },
    trainingData: { sha256: data, file: "history.parquet" },
    features: [
      { name: "hour", type: FeatureType.NUMBER },
      { name: "origin", type: FeatureType.CATEGORY },
    ],
    inference: { runtime: "onnx" },
    explainability: ["occlusion"],
    policy: { clientEventTime: true, cacheGraceSeconds: 60 },
    ...patch,
  });
}

/** What a check finds. */
export async function checkedModel(
  mesh: TestMesh,
  content: string,
): Promise<Pick<RunReport, "artifactSha256" | "artifactBytes" | "profileSha256" | "metrics" | "logSha256" | "load">> {
  const artifact = await mesh.blobs.put(encode(content));
  const eventMs = Array.from({ length: 28 }, (_, day) => DAY0_MS + day * DAY_MS);
  const profile = profileFrom({
    columns: [{ name: "hour", kind: "number", values: eventMs.map((_, i) => i % 24) }],
    labels: eventMs.map(() => 0),
    scores: eventMs.map(() => 0.5),
    eventMs,
    scoreKind: "probability",
  });
  const profileSha256 = await mesh.blobs.put(encode(profile));
  return {
    artifactSha256: artifact,
    artifactBytes: 10,
    profileSha256,
    metrics: { auc: 0.7, brier: 0.12 },
    logSha256: "",
    load: {
      model: "",
      version: 0,
      artifactSha256: artifact,
      profileSha256,
      signature: {
        inputs: [
          { name: "hour", datatype: "FP32", shape: [-1, 1] },
          { name: "origin", datatype: "BYTES", shape: [-1, 1] },
        ],
        outputs: [{ name: "probabilities", datatype: "FP32", shape: [-1, 2] }],
      },
      features: [
        { name: "hour", type: "number" },
        { name: "origin", type: "category" },
      ],
      scoreOutput: "probabilities",
      scoreKind: "probability",
    },
  };
}

/** Plays the machine: the run that is wanted succeeds. */
export async function succeedRun(mesh: TestMesh, id: string, content = id): Promise<void> {
  const wanted = mesh.backend.wanted.runs.find((run) => run.id === id);
  if (wanted === undefined)
    throw new Error(`run ${id} is not wanted; it is ${JSON.stringify(mesh.world.get("run", `run.${id}`)?.value)}`);
  mesh.backend.run({ id, attempt: wanted.attempt, phase: "succeeded", ...(await checkedModel(mesh, content)) });
  await mesh.settle();
}

/** Plays the machine: every wanted replica becomes ready, every draining one is gone. */
export async function obey(mesh: TestMesh): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    for (const { id, boot, draining } of mesh.backend.wanted.replicas)
      mesh.backend.replica({ id, boot, phase: draining ? "gone" : "ready", lastNumber: draining ? 41 : 0 });
    await mesh.settle();
  }
}

/** Registers, trains and makes version 1. */
export async function registered(mesh: TestMesh, patch: DescriptionPatch = {}): Promise<string> {
  const description = await trainable(mesh, patch);
  const { run } = await mesh.registry.registerModel({ description });
  await mesh.settle();
  await succeedRun(mesh, run);
  return description.name;
}

/** Requests and acknowledges a deployment. */
export async function deployed(
  mesh: TestMesh,
  request: Parameters<TestMesh["deployments"]["requestDeployment"]>[0],
): Promise<string> {
  const { id } = await mesh.deployments.requestDeployment(request);
  await mesh.deployments.acknowledgeDeployment({ id });
  await mesh.settle();
  return id;
}

export function episodeOf(patch: Partial<EpisodeState> = {}): EpisodeState {
  return {
    id: "epi_one",
    track: 1,
    model: "flight-delay",
    scope: "open",
    number: 1,
    state: "Confirmed",
    closedAs: "",
    class: "concept",
    fromMs: DAY0_MS + 75 * DAY_MS,
    confirmedMs: DAY0_MS + 82 * DAY_MS,
    toMs: 0,
    causes: [{ feature: "hour", kind: "loss", value: 0.02 }],
    retrain: true,
    withheld: "",
    numbers: { excess: 0.012 },
    seq: 900,
    ...patch,
  };
}

export function verdictOf(day: number, patch: Partial<VerdictState> = {}): VerdictState {
  return {
    track: 1,
    model: "flight-delay",
    scope: "open",
    champion: 1,
    blockMs: DAY0_MS + day * DAY_MS,
    watermarkMs: DAY0_MS + (day + 1) * DAY_MS,
    state: "healthy",
    blocks: day,
    rows: 0,
    labelled: 0,
    numbers: {},
    features: [],
    seq: day,
    ...patch,
  };
}

export function evidenceOf(rollout: RolloutState, patch: Partial<EvidenceState> = {}): EvidenceState {
  return {
    rollout: rollout.id,
    track: 1,
    stage: rollout.stage,
    blocks: 8,
    probationBlocks: 0,
    pairs: 1_600,
    meanGain: 0.006,
    eBetter: 24,
    eWorse: 0.1,
    eRollback: 0,
    unlabelledDisagree: 0,
    unlabelledAgree: 0,
    watermarkMs: DAY0_MS,
    decision: "wait",
    seq: 1_000,
    ...patch,
  };
}

export function segmentOf(day: number): SegmentState {
  const fromMs = DAY0_MS + day * DAY_MS;
  return {
    track: 1,
    day: new Date(fromMs).toISOString().slice(0, 10),
    fromMs,
    toMs: fromMs + DAY_MS,
    sha256: String(day).padStart(64, "0"),
    rows: 100,
  };
}
