import { expect, test } from "vitest";
import { inferenceId, readInferenceId } from "#kernel/domain/ids.ts";
import { deployed, obey, registered, startMesh, type TestMesh } from "../testing/mesh.ts";
import { macKeys, REPLICA_ENDED } from "../world/door.ts";
import { BOOT_LEAP } from "./epoch.ts";

const replicas = (mesh: TestMesh) => mesh.world.all("replica").map(({ value }) => value);
const living = (mesh: TestMesh) => replicas(mesh).filter(({ phase }) => !REPLICA_ENDED.has(phase));

async function factsOf(mesh: TestMesh): Promise<string[]> {
  const { lastSeq } = await mesh.panes.info();
  const stop = new AbortController();
  const told: string[] = [];
  for await (const event of mesh.panes.read({ filter: "mesh.fact.>", fromSeq: 1 }, stop.signal)) {
    if (event.kind !== "message") continue;
    told.push(new TextDecoder().decode(event.message.payload));
    if (event.message.seq === lastSeq) break;
  }
  stop.abort();
  return told;
}

async function oldLife(): Promise<TestMesh> {
  const mesh = await startMesh();
  const model = await registered(mesh);
  await deployed(mesh, { model, replicas: 2 });
  await obey(mesh);
  return mesh;
}

test("on new streams the next epoch begins: no replica of the old life is started, others take their place with boots never given out", async () => {
  await using old = await oldLife();
  const boots = living(old).map(({ boot }) => boot);
  await using mesh = await startMesh({ restoredFrom: old });
  expect((await mesh.mesh.getStatus({})).epoch).toBe(2);
  expect(mesh.backend.wanted.replicas.map(({ boot }) => boot)).toEqual([BOOT_LEAP + 1, BOOT_LEAP + 2]);
  await obey(mesh);
  for (const { boot, phase, reason } of replicas(mesh))
    expect([phase, reason]).toEqual(
      boots.includes(boot) ? ["Lost", "it ran before epoch 2 of the store began"] : ["Ready", ""],
    );
  expect((await mesh.deployments.listDeployments({})).deployments[0]?.state).toBe(5);
});

test("a replica of the old life that an agent still has goes on, and nothing takes its place", async () => {
  await using old = await oldLife();
  const running = old.backend.seen();
  await using mesh = await startMesh({ restoredFrom: old, observed: running });
  expect((await mesh.mesh.getStatus({})).epoch).toBe(2);
  await mesh.advance(70_000);
  expect(mesh.backend.wanted.replicas.map(({ id, draining }) => ({ id, draining }))).toEqual(
    running.replicas.map(({ id }) => ({ id, draining: false })),
  );
  expect(living(mesh).every(({ phase }) => phase === "Ready")).toBe(true);
});

test("nothing is told to a backend, and nothing is lost, before an agent has reported", async () => {
  await using old = await oldLife();
  const silent = { ...old.backend.seen(), connected: false, nodes: [], replicas: [] };
  await using mesh = await startMesh({ restoredFrom: old, observed: silent });
  await mesh.advance(20_000);
  expect(mesh.backend.wanted.replicas).toEqual([]);
  expect(living(mesh)).toHaveLength(2);
});

test("the new stream is told every fact again, one revision higher, and every boot that ended", async () => {
  await using old = await oldLife();
  const gone = living(old)[0];
  old.backend.replica({ id: gone?.id ?? "", boot: gone?.boot ?? 0, phase: "lost", reason: "killed", lastNumber: 41 });
  await old.settle();
  await obey(old);
  const before = old.world.all("fact").map(({ value }) => value.fact.revision);
  await using mesh = await startMesh({ restoredFrom: old });
  expect(mesh.world.all("fact").map(({ value: { fact, acked } }) => [fact.revision, acked])).toEqual(
    before.map((revision) => [revision + 1, revision + 1]),
  );
  const told = (await factsOf(mesh)).join(" ");
  expect(told).toContain('"kind":"track"');
  for (const { boot } of replicas(old)) expect(told).toContain(`"boot":${boot},`);
});

test("ids of the old life verify, new ones are made with a new key", async () => {
  await using old = await oldLife();
  const address = { track: 1, boot: 1, number: 7 };
  const id = inferenceId(address, macKeys(old.world)[0] ?? new Uint8Array());
  await using mesh = await startMesh({ restoredFrom: old });
  expect(readInferenceId(id, macKeys(mesh.world))).toEqual({ kind: "ok", address });
  expect(macKeys(mesh.world)[0]).not.toEqual(macKeys(old.world)[0]);
});
