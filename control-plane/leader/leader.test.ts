import { expect, test } from "vitest";
import fc from "fast-check";
import { readInferenceId, inferenceId } from "#kernel/domain/ids.ts";
import { silentLogger } from "#kernel/process/log.ts";
import { seededRand } from "#kernel/base/rand.ts";
import { macKeys, REPLICA_ENDED } from "../world/door.ts";
import { createControlPlane } from "../plane.ts";
import {
  deployed,
  episodeOf,
  evidenceOf,
  obey,
  registered,
  segmentOf,
  startMesh,
  succeedRun,
  type TestMesh,
  verdictOf,
} from "../testing/mesh.ts";

/** A second instance on the same stores. */
function second(mesh: TestMesh) {
  const plane = createControlPlane({
    ...mesh,
    rand: seededRand(8),
    log: silentLogger(),
    holder: "second",
    settings: { endpoint: "127.0.0.1:4747", dataFolder: "/data", version: "0.0.0" },
  });
  const stop = new AbortController();
  const running = plane.run(stop.signal);
  return {
    plane,
    [Symbol.asyncDispose]: async (): Promise<void> => {
      stop.abort();
      await mesh.settle();
      await running;
    },
  };
}

test("a world that is as it should be is left alone", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  await deployed(mesh, { model });
  await obey(mesh);
  const before = mesh.state.snapshot().entries.filter(({ key }) => !key.startsWith("lease."));
  await mesh.advance(10_000);
  expect(mesh.state.snapshot().entries.filter(({ key }) => !key.startsWith("lease."))).toEqual(before);
});

test("the leader makes one key per epoch, and ids made with it verify", async () => {
  await using mesh = await startMesh();
  const keys = macKeys(mesh.world);
  expect(keys).toHaveLength(1);
  const address = { track: 1, boot: 1, number: 7 };
  expect(readInferenceId(inferenceId(address, keys[0] ?? new Uint8Array(32)), keys)).toEqual({ kind: "ok", address });
});

test("another instance serves reads, leads when the first is gone, and starts nothing twice", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  await deployed(mesh, { model });
  await obey(mesh);
  await using other = second(mesh);
  await mesh.settle();
  expect(other.plane.term()).toBeUndefined();
  expect(other.plane.world.all("replica")).toHaveLength(1);
  await mesh.state.write({
    kind: "put",
    key: "lease.leader",
    value: new TextEncoder().encode(`{"holder":"","term":1,"ttlMs":15000}`),
  });
  await mesh.advance(40_000);
  const terms = [mesh.plane.term(), other.plane.term()].filter((term) => term !== undefined);
  expect(terms).toEqual([2]);
  expect(mesh.world.all("replica").filter(({ value }) => !REPLICA_ENDED.has(value.phase))).toHaveLength(1);
});

test("what a leader left undone the next one does: facts and boot-ended are published once each", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  const id = await deployed(mesh, { model });
  await obey(mesh);
  await mesh.deployments.decommissionDeployment({ id });
  await mesh.advance(61_000);
  await obey(mesh);
  const { lastSeq } = await mesh.panes.info("mesh.fact.>");
  expect(lastSeq).toBe(2);
  expect(mesh.world.all("replica")[0]?.value).toMatchObject({ phase: "Gone", told: true, lastNumber: 41 });
  expect(mesh.world.get("fact", "fact.1")?.value).toMatchObject({ acked: 1, fact: { revision: 1 } });
});

test("a silent agent's node is not alive, and its replicas are lost only after a minute", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  await deployed(mesh, { model });
  await obey(mesh);
  mesh.backend.see({ connected: false, sinceMs: mesh.clock.wallMs() });
  await mesh.advance(20_000);
  expect((await mesh.mesh.listNodes({})).nodes[0]?.alive).toBe(false);
  expect((await mesh.mesh.getStatus({})).replicasReady).toBe(1);
  await mesh.advance(45_000);
  expect((await mesh.mesh.getStatus({})).replicasReady).toBe(0);
  mesh.backend.see({ connected: true, sinceMs: mesh.clock.wallMs() });
  await obey(mesh);
  expect((await mesh.mesh.getStatus({})).replicasReady).toBe(1);
});

test("each transition is told on the stream of events", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  await deployed(mesh, { model });
  await obey(mesh);
  const { lastSeq } = await mesh.events.info();
  const stop = new AbortController();
  const told: string[] = [];
  for await (const event of mesh.events.read({ filter: ">", fromSeq: 1 }, stop.signal)) {
    if (event.kind !== "message") continue;
    const { kind, from, to } = JSON.parse(new TextDecoder().decode(event.message.payload)) as {
      kind: string;
      from: string;
      to: string;
    };
    told.push(`${kind} ${from}>${to}`);
    if (event.message.seq === lastSeq) stop.abort();
  }
  expect(told).toContain("run Checking>Succeeded");
  expect(told).toContain("alias 0>1");
  expect(told.filter((line) => line.startsWith("deployment"))).toEqual([
    "deployment >Offered",
    "deployment Offered>Pending",
    "deployment Pending>Starting",
    "deployment Starting>Ready",
  ]);
});

// ---- any order of events

const step = fc.oneof(
  fc.record({ act: fc.constant("deploy" as const), pinned: fc.boolean(), replicas: fc.integer({ min: 1, max: 3 }) }),
  fc.record({
    act: fc.constantFrom("release", "obey", "lose", "succeed", "fail", "machine-lost", "order", "agent", "leader"),
    pick: fc.nat(7),
  }),
  fc.record({
    act: fc.constant("decide" as const),
    decision: fc.constantFrom("promote", "reject-worse", "reject-budget", "keep", "roll-back", "freeze"),
  }),
  fc.record({ act: fc.constant("wait" as const), ms: fc.constantFrom(500, 5_000, 70_000) }),
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

async function play(mesh: TestMesh, model: string, one: Step, ids: string[]): Promise<void> {
  switch (one.act) {
    case "deploy":
      ids.push(await deployed(mesh, { model, version: one.pinned ? 1 : 0, replicas: one.replicas }));
      return;
    case "wait":
      return mesh.advance(one.ms);
    case "decide": {
      const rollout = mesh.world.all("rollout").at(-1)?.value;
      if (rollout !== undefined) await mesh.putEvidence(evidenceOf(rollout, { decision: one.decision as "promote" }));
      return mesh.settle();
    }
    default:
      return disturb(mesh, model, one, ids);
  }
}

async function disturb(
  mesh: TestMesh,
  model: string,
  { act, pick }: { act: string; pick: number },
  ids: string[],
): Promise<void> {
  const { replicas, runs } = mesh.backend.wanted;
  const replica = replicas[pick % Math.max(1, replicas.length)];
  const run = runs[pick % Math.max(1, runs.length)];
  if (act === "release" && ids.length > 0)
    await mesh.deployments.decommissionDeployment({ id: ids[pick % ids.length] ?? "" });
  if (act === "obey") await obey(mesh);
  if (act === "lose" && replica !== undefined)
    mesh.backend.replica({ id: replica.id, boot: replica.boot, phase: "lost", reason: "killed" });
  if (act === "succeed" && run !== undefined) await succeedRun(mesh, run.id);
  if (act === "fail" && run !== undefined)
    mesh.backend.run({ id: run.id, attempt: run.attempt, phase: "failed", reason: "exit 3" });
  if (act === "machine-lost" && run !== undefined)
    mesh.backend.run({ id: run.id, attempt: run.attempt, phase: "failed", reason: "machine lost" });
  if (act === "order") await mesh.retraining.orderRun({ model }).catch(() => undefined);
  if (act === "agent") {
    const connected = !mesh.backend.seen().connected;
    mesh.backend.see({ connected, sinceMs: mesh.clock.wallMs(), agentBoot: `a${pick}` });
  }
  if (act === "leader")
    await mesh.state.write({
      kind: "put",
      key: "lease.leader",
      value: new TextEncoder().encode(`{"holder":"","term":1,"ttlMs":15000}`),
    });
  await mesh.settle();
}

test("in any order of events states go along the arrows, boots are given once, and when the faults stop every claim is served", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      await using mesh = await startMesh();
      const model = await registered(mesh, { policy: { cacheGraceSeconds: 10, clientEventTime: true } });
      await mesh.putVerdict(verdictOf(83));
      await mesh.putSegment(segmentOf(80));
      await mesh.putEpisode(episodeOf());
      await mesh.settle();
      const ids: string[] = [];
      for (const one of steps) await play(mesh, model, one, ids);
      // The faults stop.
      mesh.backend.see({ connected: true, sinceMs: mesh.clock.wallMs() });
      for (let round = 0; round < 6; round += 1) {
        await mesh.advance(61_000);
        await obey(mesh);
      }
      for (const { state, reason } of (await mesh.deployments.listDeployments({ pageSize: 1_000 })).deployments)
        expect(`${state} ${reason}`).toBe("5 ");
      expect(mesh.world.all("alias").filter(({ key }) => key.endsWith("open.champion"))).toHaveLength(1);
      const live = mesh.world
        .all("rollout")
        .filter(({ value }) => !["Promoted", "Rejected", "RolledBack"].includes(value.stage));
      expect(live.length).toBeLessThanOrEqual(1);
    }),
    { numRuns: 6, seed: 42, endOnFailure: false },
  );
}, 60_000);
