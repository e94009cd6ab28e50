// Builds one sidecar: model, recorder, orders, services; ready when a probe inference has answered.
// S1 It listens only after the model has answered. S2 Draining: leave health, finish what is in flight, store what is recorded, stop.
import { warmupProfile } from "#kernel/domain/profile-build.ts";
import type { Profile } from "#kernel/domain/profile.ts";
import { MeshError, messageOf } from "#kernel/fault/error.ts";
import type { Metrics } from "#kernel/process/metrics.ts";
import type { RunningService, ServiceContext } from "#kernel/process/run.ts";
import { grpcClient, grpcServer } from "#kernel/rpc/grpcjs.ts";
import { FileBlobs } from "#kernel/store/file/blobs.ts";
import type { Blobs } from "#kernel/store/ports.ts";
import { NodeLog, type ModelSpec } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { feedbackService, type StoreLabels } from "./feedback/door.ts";
import { startRecorder } from "./recorder/door.ts";
import { exampleInputs, loadOnnx, planFeatures, type FeatureSource, type Runtime } from "./runtime/door.ts";
import { Admission, DEFAULT_BOUNDS, EventTime, inferenceService } from "./serve/door.ts";
import { readSidecarSettings, type SidecarSettings } from "./settings.ts";
import { followOrders, OtherArm } from "./sync/door.ts";

type Feature = { name: string; type: "number" | "category" };

export async function compose(context: ServiceContext): Promise<RunningService> {
  const { clock, rand, metrics } = context;
  const settings = readSidecarSettings(context.env);
  const { spec, strict } = settings;
  const log = context.log.child({
    replica: spec.id,
    boot: spec.boot,
    model: spec.model.model,
    version: spec.model.version,
  });
  await using stack = new AsyncDisposableStack();
  const blobs = new FileBlobs({ dir: settings.blobs, rand });
  const runtime = stack.use(await loadOnnx(await blobOf(blobs, spec.model.artifactSha256, "artifact"), spec.cpu));
  const features = featuresOf(spec.model);
  const sources = sourcesOf(features, runtime);
  await probe(runtime, features, (error) =>
    log.warn("sidecar.probe-failed", { reason: strict ? "withheld in strict mode" : messageOf(error) }),
  );

  const keys = { newest: spec.macKeys };
  const macKeys = (): readonly Uint8Array[] => keys.newest;
  const otherArm = new OtherArm({ boot: spec.boot, signature: runtime.signature, blobs, cpu: spec.cpu, strict, log });
  stack.defer(() => otherArm.close());
  const recorder = startRecorder({
    sources,
    log,
    metrics,
    otherArm: (call) => otherArm.score(call),
    order: orderOf(settings, await profileOf(blobs, spec.model, features)),
  });
  stack.defer(() => recorder.close());

  const serving = { ready: true };
  const eventTime = new EventTime(spec.clientEventTime);
  const inference = inferenceService({
    identity: {
      ...spec.model,
      track: spec.track,
      boot: spec.boot,
      strict,
      clientEventTime: spec.clientEventTime,
    },
    runtime,
    macKeys,
    clock,
    admission: new Admission(DEFAULT_BOUNDS),
    eventTime,
    record: (call) => recorder.record(call),
    ready: () => serving.ready,
    observed: observerOf(metrics, eventTime),
  });
  const feedback = feedbackService({ track: spec.track, macKeys, store: labelStore(settings, stack), clock, rand });
  const server = stack.use(
    await grpcServer({ listen: settings.listen, services: [inference.service, feedback], log, metrics }),
  );
  server.setServing(spec.model.model, true);

  const leaving = new AbortController();
  const following = followOrders(
    { control: settings.control, replica: spec.id, boot: spec.boot, clock, rand, log },
    async (orders) => {
      if (orders.macKeys.length > 0) keys.newest = orders.macKeys;
      await otherArm.follow(orders.shadow);
    },
    leaving.signal,
  );
  stack.defer(async () => {
    leaving.abort();
    await following;
  });

  let drained: Promise<void> | undefined;
  async function drain(graceMs: number): Promise<void> {
    serving.ready = false;
    const grace = clock.sleep(graceMs);
    await server.drain(graceMs * 0.7);
    const outcome = await recorder.drain(inference.lastNumber(), grace);
    if (outcome === "left") log.warn("sidecar.left-unsent", { folder: settings.work });
  }
  const everything = stack.move();
  return {
    address: server.address,
    lastNumber: inference.lastNumber,
    drain: (graceMs) => (drained ??= drain(graceMs)),
    [Symbol.asyncDispose]: () => everything.disposeAsync(),
  };
}

async function blobOf(blobs: Blobs, sha256: string, what: string): Promise<Uint8Array> {
  const content = await blobs.get(sha256);
  if (content === undefined) throw new MeshError("DM-2011", `the ${what} ${sha256} is not among the blobs`);
  return content;
}

const featuresOf = (model: ModelSpec): Feature[] =>
  model.features.map(({ name, type }) => ({ name, type: type === "category" ? "category" : "number" }));

function sourcesOf(features: readonly Feature[], runtime: Runtime): FeatureSource[] {
  const plan = planFeatures(features, runtime.signature.inputs);
  if (plan.kind === "ok") return plan.sources;
  throw new MeshError("DM-5002", plan.problems.join("; "));
}

async function profileOf(
  blobs: Blobs,
  model: ModelSpec,
  features: readonly Feature[],
): Promise<Pick<Profile, "features" | "score">> {
  if (model.profileSha256 === "") return warmupProfile(features, model.scoreKind === "value" ? "value" : "probability");
  const content = await blobOf(blobs, model.profileSha256, "profile");
  const profile = JSON.parse(Buffer.from(content).toString()) as Profile;
  const named = profile.features.map(({ name }) => name).join();
  if (named !== features.map(({ name }) => name).join()) {
    throw new MeshError("DM-5002", `the profile ${model.profileSha256} counts other features than the model has`);
  }
  return { features: profile.features, score: profile.score };
}

/**
 * One row of zeros and empty texts, since the replica's orders carry no example. The check of the artifact has run its own example;
 * a model that refuses zeros is served, and the log says so.
 */
async function probe(runtime: Runtime, features: readonly Feature[], refused: (error: unknown) => void): Promise<void> {
  try {
    await runtime.infer(exampleInputs(runtime.signature, features, []));
  } catch (error) {
    refused(error);
  }
}

function orderOf({ spec, strict, ...settings }: SidecarSettings, profile: Pick<Profile, "features" | "score">) {
  const { agent: address } = settings;
  return {
    identity: { track: spec.track, boot: spec.boot, version: spec.model.version, strict },
    profile,
    profileSha256: spec.model.profileSha256,
    folder: settings.work,
    blobs: settings.blobs,
    nats: { ...settings.nats, name: `sidecar-${spec.track}-${spec.boot}` },
    nodeLog: strict && address !== undefined ? { address, node: spec.node } : undefined,
  };
}

/** Where labels of a strict deployment are kept; undefined for an open one. */
function labelStore(
  { strict, agent: address, spec }: SidecarSettings,
  stack: AsyncDisposableStack,
): StoreLabels | undefined {
  if (!strict || address === undefined) return undefined;
  const agent = stack.use(grpcClient(NodeLog, address));
  return async (message) => {
    await agent.publish({ node: spec.node, stream: "MESH_FB", ...message }, { deadlineMs: 10_000 });
  };
}

function observerOf(metrics: Metrics, eventTime: EventTime) {
  const calls = metrics.counter("driftmesh_sidecar_calls_total", "ModelInfer calls by outcome", ["outcome"]);
  const rows = metrics.counter("driftmesh_sidecar_rows_total", "Rows answered");
  const skewed = metrics.gauge("driftmesh_sidecar_skewed_rows", "Rows whose stated event time was too far ahead");
  const buckets = [0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 1_000];
  const time = metrics.histogram(
    "driftmesh_sidecar_call_ms",
    "Milliseconds from a decoded request to its answer",
    buckets,
  );
  return (outcome: "answered" | "refused" | "failed", count: number, ms: number): void => {
    calls.inc({ outcome });
    if (outcome !== "answered") return;
    rows.inc({}, count);
    skewed.set({}, eventTime.skewed);
    time.observe({}, ms);
  };
}
