import { expect, test } from "vitest";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { DAY_MS } from "#kernel/domain/profile.ts";
import type { DataManifest, EvidenceState, RolloutState, TrackFact } from "#kernel/domain/state.ts";
import { fromBinary } from "@bufbuild/protobuf";
import { FactEnvelopeSchema } from "#proto/driftmesh/internal/v1/telemetry_pb.ts";
import { RunPhase } from "#proto/driftmesh/v1/retraining_pb.ts";
import { RolloutStage } from "#proto/driftmesh/v1/rollouts_pb.ts";
import {
  DAY0_MS,
  deployed,
  episodeOf,
  evidenceOf,
  obey,
  registered,
  segmentOf,
  startMesh,
  succeedRun,
  type TestMesh,
  trainable,
  verdictOf,
} from "../testing/mesh.ts";

const runsOf = async (mesh: TestMesh) => (await mesh.retraining.listRuns({ model: "flight-delay" })).runs;
const ordersOf = async (mesh: TestMesh) => (await mesh.retraining.listOrders({ model: "flight-delay" })).orders;
const rolloutOf = (mesh: TestMesh): RolloutState => mesh.world.all("rollout").at(-1)?.value ?? never("a rollout");
const never = (what: string): never => {
  throw new Error(`${what} is missing`);
};
async function manifestOf(mesh: TestMesh, sha256: string): Promise<DataManifest> {
  return JSON.parse(new TextDecoder().decode(await mesh.blobs.get(sha256))) as DataManifest;
}
/** Facts of a kind, in order of the stream. */
async function factsOf(mesh: TestMesh): Promise<TrackFact[]> {
  const { lastSeq } = await mesh.panes.info();
  const stop = new AbortController();
  const found: TrackFact[] = [];
  if (lastSeq === 0) return found;
  for await (const event of mesh.panes.read({ filter: "mesh.fact.>", fromSeq: 1 }, stop.signal)) {
    if (event.kind !== "message") continue;
    const fact = JSON.parse(fromBinary(FactEnvelopeSchema, event.message.payload).json) as TrackFact;
    if (fact.kind === "track") found.push(fact);
    if (event.message.seq === lastSeq) stop.abort();
  }
  return found;
}

/** A drifting, deployed model with a run that has just been ordered. */
async function drifting(mesh: TestMesh): Promise<string> {
  const model = await registered(mesh);
  await deployed(mesh, { model });
  await deployed(mesh, { model, version: 1 });
  await obey(mesh);
  await mesh.putVerdict(verdictOf(83));
  for (let day = 28; day < 84; day += 1) await mesh.putSegment(segmentOf(day));
  await mesh.putEpisode(
    episodeOf({
      id: "epi_fault",
      number: 2,
      class: "quality",
      retrain: false,
      withheld: "the feed is broken",
      state: "Closed",
      closedAs: "data-fixed",
      fromMs: DAY0_MS + 60 * DAY_MS,
      toMs: DAY0_MS + 68 * DAY_MS,
    }),
  );
  const day = { fromMs: DAY0_MS + 70 * DAY_MS, toMs: DAY0_MS + 71 * DAY_MS };
  const closed = { state: "Closed", closedAs: "transient", confirmedMs: 0, retrain: false } as const;
  await mesh.putEpisode(episodeOf({ id: "epi_blip", number: 3, class: "quality", ...closed, ...day }));
  await mesh.putEpisode(episodeOf());
  await mesh.settle();
  const run = (await runsOf(mesh)).at(-1);
  return run?.id ?? "";
}

async function inShadow(mesh: TestMesh): Promise<RolloutState> {
  await succeedRun(mesh, await drifting(mesh));
  await obey(mesh);
  return rolloutOf(mesh);
}

const decideOn = async (mesh: TestMesh, patch: Partial<EvidenceState>): Promise<RolloutState> => {
  await mesh.putEvidence(evidenceOf(rolloutOf(mesh), patch));
  await mesh.settle();
  return rolloutOf(mesh);
};

test("a confirmed episode becomes one order and one run, on the data since the change without data faults", async () => {
  await using mesh = await startMesh();
  await drifting(mesh);
  const run = (await runsOf(mesh)).at(-1);
  expect(run).toMatchObject({ trigger: "drift", episode: "epi_one", phase: RunPhase.RUNNING, attempt: 1 });
  const order = (await ordersOf(mesh)).find(({ withheld }) => withheld === "");
  expect(order).toMatchObject({
    kind: "retrain",
    by: "policy",
    withheld: "",
    eventTime: timestampFromMs(DAY0_MS + 84 * DAY_MS),
  });
  expect(order?.evidence).toMatchObject({ episode: "epi_one", excess: "0.012", decision: "episode-1-900" });
  const manifest = await manifestOf(mesh, run?.dataManifestSha256 ?? "");
  expect(manifest.changeMs).toBe(DAY0_MS + 75 * DAY_MS);
  expect(manifest.excluded).toMatchObject([
    { fromMs: DAY0_MS + 60 * DAY_MS, toMs: DAY0_MS + 68 * DAY_MS },
    { fromMs: DAY0_MS + 70 * DAY_MS, toMs: DAY0_MS + 71 * DAY_MS },
  ]);
  const days = manifest.files.map(({ fromMs }) => (fromMs - DAY0_MS) / DAY_MS);
  expect(days).toEqual([...range(47, 60), ...range(68, 70), ...range(71, 84)]);
  expect(manifest.files.every(({ kind }) => kind === "segment")).toBe(true);
  expect(mesh.world.get("track", "track.flight-delay.open")?.value.ordersMs).toEqual([DAY0_MS + 84 * DAY_MS]);
});

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

test("the registered data is used as long as it reaches into the window", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  await deployed(mesh, { model });
  await obey(mesh);
  await mesh.putVerdict(verdictOf(40));
  await mesh.putSegment(segmentOf(35));
  await mesh.putEpisode(episodeOf({ fromMs: DAY0_MS + 36 * DAY_MS, confirmedMs: DAY0_MS + 40 * DAY_MS }));
  await mesh.settle();
  const manifest = await manifestOf(mesh, (await runsOf(mesh)).at(-1)?.dataManifestSha256 ?? "");
  expect(manifest.files.map(({ kind, toMs }) => [kind, (toMs - DAY0_MS) / DAY_MS])).toEqual([
    ["training", 28],
    ["segment", 36],
  ]);
});

test("a data fault gives a withheld order with its evidence, and no run", async () => {
  await using mesh = await startMesh();
  await registered(mesh);
  const causes = [{ feature: "hour", kind: "scale" as const, value: 99.8 }];
  await mesh.putEpisode(
    episodeOf({ class: "quality", retrain: false, withheld: "the feed of hour looks broken", causes }),
  );
  await mesh.settle();
  await mesh.advance(5_000);
  const orders = await ordersOf(mesh);
  expect(orders).toHaveLength(1);
  expect(orders[0]).toMatchObject({
    withheld: "the feed of hour looks broken",
    evidence: { hour: "scale 99.8", class: "quality" },
  });
  expect(await runsOf(mesh)).toHaveLength(1);
});

test("a data fault that was over before the leader looked still leaves its withheld order", async () => {
  await using mesh = await startMesh();
  await registered(mesh);
  const confirmedMs = DAY0_MS + 61 * DAY_MS;
  await mesh.putVerdict(verdictOf(90));
  await mesh.putEpisode(
    episodeOf({ class: "quality", retrain: false, state: "Closed", closedAs: "recovered", confirmedMs }),
  );
  await mesh.settle();
  expect(await ordersOf(mesh)).toMatchObject([
    { eventTime: timestampFromMs(confirmedMs), withheld: expect.stringContaining("data fault") },
  ]);
});

test.each([
  ["suggest", { policy: { retraining: "suggest" } }, "a person orders"],
  ["cooldown", {}, "cooldown until 2001-05-01"],
  ["budget", { policy: { runsPerMonth: 0 } }, "the budget is used up"],
])("%s withholds the order and says so", async (code, patch, says) => {
  await using mesh = await startMesh();
  await registered(mesh, patch);
  if (code === "cooldown") {
    const track = mesh.world.get("track", "track.flight-delay.open") ?? never("the track");
    await mesh.state.write({
      kind: "put",
      key: track.key,
      value: new TextEncoder().encode(JSON.stringify({ ...track.value, cooldownUntilMs: Date.UTC(2001, 4, 1) })),
    });
  }
  await mesh.putEpisode(episodeOf());
  await mesh.settle();
  expect((await ordersOf(mesh)).map(({ withheld }) => withheld)).toEqual([expect.stringContaining(says)]);
  expect(await runsOf(mesh)).toHaveLength(1);
});

test("observe says nothing but verdicts", async () => {
  await using mesh = await startMesh();
  await registered(mesh, { policy: { retraining: "observe" } });
  await mesh.putEpisode(episodeOf());
  await mesh.settle();
  expect(await ordersOf(mesh)).toEqual([]);
});

test("an order that the cooldown withheld is given when the cooldown is over", async () => {
  await using mesh = await startMesh();
  await drifting(mesh);
  const run = (await runsOf(mesh)).at(-1);
  mesh.backend.run({ id: run?.id ?? "", attempt: 1, phase: "failed", reason: "train code ended with 3" });
  await mesh.settle();
  expect((await runsOf(mesh)).at(-1)).toMatchObject({ phase: RunPhase.FAILED, reason: "train code ended with 3" });
  expect((await ordersOf(mesh)).map(({ withheld }) => withheld)).toContainEqual(
    expect.stringContaining("cooldown until"),
  );
  await mesh.putVerdict(verdictOf(92));
  await mesh.settle();
  expect((await runsOf(mesh)).filter(({ trigger }) => trigger === "drift")).toHaveLength(2);
});

test("a challenger goes from Preparing to shadow when it runs, is promoted on evidence, and kept after probation", async () => {
  await using mesh = await startMesh();
  await succeedRun(mesh, await drifting(mesh));
  expect(rolloutOf(mesh)).toMatchObject({ stage: "Preparing", champion: 1, challenger: 2 });
  expect(mesh.world.get("route", "route.flight-delay.open")?.value.shadow).toBeNull();
  await obey(mesh);
  expect(rolloutOf(mesh).stage).toBe("Shadow");
  expect(mesh.world.get("route", "route.flight-delay.open")?.value).toMatchObject({
    arms: [{ version: 1, weight: 100 }],
    shadow: { version: 2, rate: 1 },
  });
  const stale = await decideOn(mesh, { stage: "Preparing", decision: "promote" });
  expect(stale.stage).toBe("Shadow");
  const probation = await decideOn(mesh, { stage: "Shadow", decision: "promote", seq: 1_234 });
  expect(probation).toMatchObject({
    stage: "Probation",
    episode: "epi_one",
    numbers: { e_better: 24, mean_gain: 0.006 },
  });
  expect(mesh.world.get("alias", "alias.flight-delay.open.champion")?.value).toMatchObject({ version: 2, previous: 1 });
  await mesh.settle();
  expect(mesh.world.get("route", "route.flight-delay.open")?.value).toMatchObject({
    arms: [{ version: 2 }],
    shadow: { version: 1 },
  });
  const promoted = await decideOn(mesh, { stage: "Probation", decision: "keep", probationBlocks: 3 });
  expect(promoted.stage).toBe("Promoted");
  expect(mesh.world.get("route", "route.flight-delay.open")?.value.shadow).toBeNull();
  const shown = await mesh.rollouts.getRollout({ id: promoted.id });
  expect(shown).toMatchObject({ stage: RolloutStage.PROMOTED, decision: "evidence-1-1000" });
  const facts = await factsOf(mesh);
  expect(facts.map(({ revision }) => revision)).toEqual(range(1, facts.length + 1));
  expect(
    facts.map(({ champion, rollout, ended }) => `${champion} ${rollout?.stage ?? "-"} ${ended?.as ?? "-"}`),
  ).toEqual(["1 - -", "1 Preparing -", "1 Shadow -", "2 Probation retrained", "2 - retrained"]);
});

test("deployments stay Ready through a promotion, and the pinned one keeps its version", async () => {
  await using mesh = await startMesh();
  await inShadow(mesh);
  await decideOn(mesh, { decision: "promote" });
  const shown = (await mesh.deployments.listDeployments({})).deployments;
  expect(shown.map(({ version, state, pinned }) => ({ version, state, pinned }))).toEqual([
    { version: 2, state: 5, pinned: false },
    { version: 1, state: 5, pinned: true },
  ]);
});

test.each([
  ["reject-worse", "worse: mean gain"],
  ["reject-budget", "budget-exhausted: not better within 14 days"],
] as const)(
  "%s ends the rollout as Rejected with its numbers, and tells drift that the episode ended",
  async (decision, says) => {
    await using mesh = await startMesh();
    await inShadow(mesh);
    const rollout = await decideOn(mesh, { decision });
    expect(rollout).toMatchObject({ stage: "Rejected", numbers: { blocks: 8, pairs: 1_600 } });
    expect(rollout.reason).toContain(says);
    expect(mesh.world.get("alias", "alias.flight-delay.open.champion")?.value.version).toBe(1);
    expect((await factsOf(mesh)).at(-1)).toMatchObject({
      champion: 1,
      rollout: null,
      ended: { episode: "epi_one", as: "rejected" },
    });
  },
);

test("a challenger that proves worse in probation is rolled back: alias and route return", async () => {
  await using mesh = await startMesh();
  await inShadow(mesh);
  await decideOn(mesh, { decision: "promote" });
  const rollout = await decideOn(mesh, { decision: "roll-back", eRollback: 30 });
  expect(rollout.stage).toBe("RolledBack");
  expect(mesh.world.get("alias", "alias.flight-delay.open.champion")?.value).toMatchObject({ version: 1, previous: 2 });
  expect(mesh.world.get("route", "route.flight-delay.open")?.value).toMatchObject({
    arms: [{ version: 1 }],
    shadow: null,
  });
});

test("a person promotes in Shadow only, and rejects in Shadow or rolls back in Probation", async () => {
  await using mesh = await startMesh();
  const { id } = await inShadow(mesh);
  const promoted = await mesh.rollouts.promoteRollout({ id, reason: "looks good" });
  expect(promoted).toMatchObject({ stage: RolloutStage.PROBATION, reason: "by hand: looks good" });
  await expect(mesh.rollouts.promoteRollout({ id })).rejects.toThrow("(DM-2007)");
  const rejected = await mesh.rollouts.rejectRollout({ id });
  expect(rejected.stage).toBe(RolloutStage.ROLLED_BACK);
  await expect(mesh.rollouts.rejectRollout({ id })).rejects.toThrow("it has ended");
});

test("a run by hand waits for the rollout before it, takes its own shadow days, and its request id makes it once", async () => {
  await using mesh = await startMesh();
  await inShadow(mesh);
  const ordered = await mesh.retraining.orderRun({
    model: "flight-delay",
    reason: "why not",
    shadowDays: 5,
    requestId: "hand",
  });
  const again = await mesh.retraining.orderRun({ model: "flight-delay", shadowDays: 5, requestId: "hand" });
  expect(again.id).toBe(ordered.id);
  await mesh.settle();
  expect((await mesh.retraining.getRun({ id: ordered.id })).reason).toContain("waits for rollout");
  await decideOn(mesh, { decision: "reject-worse" });
  expect((await mesh.retraining.getRun({ id: ordered.id })).phase).toBe(RunPhase.RUNNING);
  await succeedRun(mesh, ordered.id);
  expect(mesh.world.all("rollout").find(({ value }) => value.run === ordered.id)?.value.shadowDays).toBe(5);
  await mesh.settle();
  expect((await factsOf(mesh)).at(-1)?.policy.shadowDays).toBe(5);
});

test("a lost machine gives a run a second attempt, and no third", async () => {
  await using mesh = await startMesh();
  const { run: id } = await mesh.registry.registerModel({ description: await trainable(mesh) });
  await mesh.settle();
  const lose = async (attempt: number): Promise<void> => {
    mesh.backend.run({ id, attempt, phase: "failed", reason: "machine lost: its agent ended while it ran" });
    await mesh.settle();
  };
  await lose(1);
  expect(await mesh.retraining.getRun({ id })).toMatchObject({ phase: RunPhase.RUNNING, attempt: 2 });
  await lose(2);
  expect(await mesh.retraining.getRun({ id })).toMatchObject({ phase: RunPhase.FAILED, attempt: 2 });
});
