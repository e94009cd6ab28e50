import { expect, test } from "vitest";
import type { ReplicaOrders, Routes } from "#proto/driftmesh/internal/v1/sync_pb.ts";
import { Mode } from "#proto/driftmesh/v1/model_pb.ts";
import {
  deployed,
  episodeOf,
  evidenceOf,
  GIB,
  obey,
  registered,
  segmentOf,
  startMesh,
  succeedRun,
  type TestMesh,
  verdictOf,
} from "../testing/mesh.ts";

/** Collects what a stream says, until the test ends. */
function collect<T>(stream: (signal: AbortSignal) => AsyncIterable<T>): { said: T[]; stop(): Promise<void> } {
  const stop = new AbortController();
  const said: T[] = [];
  const reading = (async () => {
    for await (const message of stream(stop.signal)) said.push(message);
  })().catch(() => undefined);
  return {
    said,
    stop: async () => {
      stop.abort();
      await reading;
    },
  };
}
const routes = (mesh: TestMesh) => collect<Routes>((signal) => mesh.sync.followRoutes({ gateway: "g" }, { signal }));

test("a gateway is told routes, deployments, keys and tracks, and then what changes", async () => {
  await using mesh = await startMesh({
    nodes: [
      { name: "local", cpu: 4, memoryBytes: 4 * GIB },
      { name: "clinic", cpu: 1, memoryBytes: GIB },
    ],
  });
  const model = await registered(mesh);
  const follows = await deployed(mesh, { model });
  const pinned = await deployed(mesh, { model, version: 1 });
  const strict = await deployed(mesh, { model, mode: Mode.STRICT, node: "clinic" });
  const following = routes(mesh);
  await obey(mesh);
  await mesh.advance(100);
  const last = following.said.at(-1);
  expect(last?.epoch).toBe(1n);
  expect(last?.routes).toMatchObject([{ model, arms: [{ version: 1, weight: 100, endpoints: ["127.0.0.1:10001"] }] }]);
  const byId = new Map(last?.deployments.map((d) => [d.id, d]));
  expect(byId.get(follows)).toMatchObject({ follows: true, endpoints: [], state: "Ready" });
  expect(byId.get(pinned)).toMatchObject({ follows: false, endpoints: ["127.0.0.1:10001"], strictNode: "" });
  expect(byId.get(strict)).toMatchObject({ follows: false, endpoints: [], strictNode: "clinic" });
  expect(last?.tracks).toMatchObject([
    { ordinal: 1, scope: "open" },
    { ordinal: 2, scope: "node/clinic" },
  ]);
  expect(last?.macKeys.map(({ length }) => length)).toEqual([32]);
  await mesh.deployments.decommissionDeployment({ id: follows });
  await mesh.settle();
  await mesh.advance(100);
  expect(following.said.at(-1)?.routes[0]?.arms).toEqual([]);
  await following.stop();
});

test("a serving replica is told the challenger to score, and after a promotion the new one is told the old", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  await deployed(mesh, { model });
  await obey(mesh);
  const follow = (version: number) => {
    const replica = mesh.backend.wanted.replicas.find(({ load }) => load.version === version);
    return collect<ReplicaOrders>((signal) =>
      mesh.sync.followReplica({ replica: replica?.id ?? "", boot: replica?.boot ?? 0 }, { signal }),
    );
  };
  const champion = follow(1);
  await mesh.advance(100);
  expect(champion.said.at(-1)?.shadow).toBeUndefined();
  await mesh.putVerdict(verdictOf(83));
  await mesh.putSegment(segmentOf(80));
  await mesh.putEpisode(episodeOf());
  await mesh.settle();
  await succeedRun(mesh, mesh.backend.wanted.runs[0]?.id ?? "");
  await obey(mesh);
  await mesh.advance(100);
  const challenger = follow(2);
  const rollout = mesh.world.all("rollout")[0]?.value;
  expect(champion.said.at(-1)?.shadow).toMatchObject({ rollout: rollout?.id, rate: 1, model: { model, version: 2 } });
  await mesh.advance(100);
  expect(challenger.said.at(-1)?.shadow).toBeUndefined();
  if (rollout !== undefined) await mesh.putEvidence(evidenceOf(rollout, { decision: "promote" }));
  await mesh.advance(100);
  expect(challenger.said.at(-1)?.shadow?.model?.version).toBe(1);
  expect(champion.said.at(-1)?.shadow).toBeUndefined();
  await champion.stop();
  await challenger.stop();
});

test("a replica with another boot is refused", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  await deployed(mesh, { model });
  const first = mesh.backend.wanted.replicas[0]?.id ?? "";
  const next = mesh.sync.followReplica({ replica: first, boot: 99 })[Symbol.asyncIterator]().next();
  await expect(next).rejects.toThrow("(DM-2007)");
});
