import { expect, test } from "vitest";
import { DeploymentState } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Mode } from "#proto/driftmesh/v1/model_pb.ts";
import { deployed, GIB, obey, registered, startMesh, succeedRun, trainable } from "../testing/mesh.ts";

test("a deployment goes from offer to Ready, with instructions that work as they are", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  const offer = await mesh.deployments.requestDeployment({ model, requestId: "r1" });
  await mesh.settle();
  expect(offer.state).toBe(DeploymentState.OFFERED);
  expect(mesh.backend.wanted.replicas).toEqual([]);
  const acknowledged = await mesh.deployments.acknowledgeDeployment({ id: offer.id });
  expect(acknowledged.state).toBe(DeploymentState.PENDING);
  await mesh.settle();
  expect((await mesh.deployments.getDeployment({ id: offer.id })).state).toBe(DeploymentState.STARTING);
  await obey(mesh);
  const ready = await mesh.deployments.getDeployment({ id: offer.id });
  expect(ready.state).toBe(DeploymentState.READY);
  expect(ready.version).toBe(1);
  expect(ready.instructions?.endpoint).toBe("127.0.0.1:4747");
  expect(JSON.parse(ready.instructions?.exampleRequest ?? "")).toMatchObject({
    modelName: offer.id,
    inputs: [{ name: "hour", contents: { fp32Contents: [0] } }, { name: "origin" }],
  });
  expect(ready.instructions?.exampleCall).toContain("grpcurl -plaintext -d '{");
});

test("a request id makes one deployment, and is refused for another one", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  const first = await mesh.deployments.requestDeployment({ model, requestId: "same" });
  const again = await mesh.deployments.requestDeployment({ model, requestId: "same" });
  expect(again.id).toBe(first.id);
  await expect(mesh.deployments.requestDeployment({ model, requestId: "same", replicas: 2 })).rejects.toThrow(
    "(DM-1002) request_id",
  );
});

test("a replica that nothing has room for leaves the deployment Pending with what is missing, and it goes on when there is room", async () => {
  await using mesh = await startMesh({ nodes: [{ name: "clinic", cpu: 2, memoryBytes: 100 * 2 ** 20 }] });
  const description = await trainable(mesh, {
    trainingResources: { cpu: 1, memoryBytes: 50n * 2n ** 20n },
    runResources: { cpu: 0.25, memoryBytes: 512n * 2n ** 20n },
  });
  const { run } = await mesh.registry.registerModel({ description });
  await mesh.settle();
  await succeedRun(mesh, run);
  const id = await deployed(mesh, { model: description.name });
  const pending = await mesh.deployments.getDeployment({ id });
  expect(pending.state).toBe(DeploymentState.PENDING);
  expect(pending.reason).toBe("no node has room: node clinic: memory 512Mi asked, 100Mi free");
  expect(pending.queuePosition).toBe(1);
  mesh.backend.see({ nodes: [{ name: "clinic", shares: { cpu: 2, memoryBytes: GIB } }] });
  await mesh.settle();
  await obey(mesh);
  expect((await mesh.deployments.getDeployment({ id })).state).toBe(DeploymentState.READY);
});

test("while another deployment claims the version nothing stops; then it is cached, comes back at once, and is destroyed after the grace", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  const one = await deployed(mesh, { model });
  const two = await deployed(mesh, { model, version: 1 });
  await obey(mesh);
  const phase = async (): Promise<string | undefined> =>
    (await mesh.mesh.listWorkloads({ all: true })).workloads[0]?.phase;
  await mesh.deployments.decommissionDeployment({ id: one });
  await mesh.settle();
  expect(await phase()).toBe("Serving");
  expect((await mesh.deployments.getDeployment({ id: two })).state).toBe(DeploymentState.READY);
  expect((await mesh.deployments.getDeployment({ id: one })).state).toBe(DeploymentState.RELEASED);
  await mesh.deployments.decommissionDeployment({ id: two });
  await mesh.settle();
  expect(await phase()).toBe("Cached");
  expect(mesh.world.get("route", "route.flight-delay.open")?.value.arms).toEqual([]);
  const three = await deployed(mesh, { model });
  expect((await mesh.deployments.getDeployment({ id: three })).state).toBe(DeploymentState.READY);
  expect(mesh.backend.wanted.replicas).toHaveLength(1);
  await mesh.deployments.decommissionDeployment({ id: three });
  await mesh.settle();
  await mesh.advance(59_000);
  expect(await phase()).toBe("Cached");
  await mesh.advance(2_000);
  expect(await phase()).toBe("Destroying");
  await obey(mesh);
  expect(await phase()).toBe("Destroyed");
  expect((await mesh.mesh.listReplicas({ all: true })).replicas).toHaveLength(1);
  const four = await deployed(mesh, { model });
  await obey(mesh);
  expect((await mesh.deployments.getDeployment({ id: four })).state).toBe(DeploymentState.READY);
  expect(mesh.world.get("workload", "workload.wl_flight-delay_1_open")?.value.generation).toBe(2);
});

test("a lost replica degrades its deployment and is replaced under a new boot", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  const id = await deployed(mesh, { model });
  await obey(mesh);
  const first = mesh.backend.wanted.replicas[0];
  mesh.backend.replica({
    id: first?.id ?? "",
    boot: first?.boot ?? 0,
    phase: "lost",
    reason: "killed by signal 9",
    lastNumber: 17,
  });
  await mesh.settle();
  const degraded = await mesh.deployments.getDeployment({ id });
  expect(degraded.state).toBe(DeploymentState.DEGRADED);
  expect(degraded.reason).toContain("killed by signal 9");
  await obey(mesh);
  expect((await mesh.deployments.getDeployment({ id })).state).toBe(DeploymentState.READY);
  const boots = (await mesh.mesh.listReplicas({ all: true })).replicas.map(({ boot, phase }) => `${boot} ${phase}`);
  expect(boots).toEqual(["1 Lost", "2 Ready"]);
});

test("a replica that keeps getting lost is started ever later, and the deployment says why", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  const id = await deployed(mesh, { model });
  const lose = async (): Promise<void> => {
    for (const { id: replica, boot } of mesh.backend.wanted.replicas)
      mesh.backend.replica({ id: replica, boot, phase: "lost", reason: "exited with 1" });
    await mesh.settle();
  };
  await lose();
  await lose();
  expect(mesh.backend.wanted.replicas).toHaveLength(0);
  const waiting = await mesh.deployments.getDeployment({ id });
  expect(waiting.state).toBe(DeploymentState.PENDING);
  expect(waiting.reason).toContain("exited with 1");
  await mesh.advance(2_500);
  expect(mesh.backend.wanted.replicas).toHaveLength(1);
});

test("an offer that nobody acknowledges expires, and can then not be acknowledged", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  const { id } = await mesh.deployments.requestDeployment({ model, offerTtl: { seconds: 10n } });
  await mesh.advance(20_000);
  expect((await mesh.deployments.getDeployment({ id })).state).toBe(DeploymentState.EXPIRED);
  await expect(mesh.deployments.acknowledgeDeployment({ id })).rejects.toThrow("(DM-2008)");
});

test("a strict deployment gets a track of its own, runs on its node only, and is served at its replica's address", async () => {
  await using mesh = await startMesh({
    nodes: [
      { name: "local", cpu: 4, memoryBytes: 4 * GIB },
      { name: "clinic", cpu: 1, memoryBytes: GIB },
    ],
  });
  const model = await registered(mesh);
  const id = await deployed(mesh, { model, mode: Mode.STRICT, node: "clinic" });
  expect(mesh.backend.wanted.replicas.map(({ node, scope, ordinal }) => ({ node, scope, ordinal }))).toEqual([
    { node: "clinic", scope: "node/clinic", ordinal: 2 },
  ]);
  await obey(mesh);
  const ready = await mesh.deployments.getDeployment({ id });
  expect(ready.state).toBe(DeploymentState.READY);
  expect(ready.instructions?.endpoint).toBe("127.0.0.1:10001");
  expect(mesh.world.get("alias", "alias.flight-delay.node_clinic.champion")?.value.version).toBe(1);
});

test("strict mode without a node, or on an unknown one, is refused with a sentence", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  await expect(mesh.deployments.requestDeployment({ model, mode: Mode.STRICT })).rejects.toThrow("(DM-2010)");
  await expect(mesh.deployments.requestDeployment({ model, mode: Mode.STRICT, node: "lokal" })).rejects.toThrow(
    `(DM-2004) no node is called "lokal"; did you mean local?; there is local`,
  );
});

test("a cached workload gives its room to one that is claimed", async () => {
  await using mesh = await startMesh({ nodes: [{ name: "local", cpu: 1, memoryBytes: GIB }] });
  const small = { runResources: { cpu: 0.75, memoryBytes: 100n * 2n ** 20n } };
  const first = await registered(mesh, small);
  const second = await registered(mesh, { ...small, name: "second" });
  const one = await deployed(mesh, { model: first });
  await obey(mesh);
  await mesh.deployments.decommissionDeployment({ id: one });
  await mesh.settle();
  const two = await deployed(mesh, { model: second });
  expect((await mesh.deployments.getDeployment({ id: two })).reason).toContain("is making room");
  await obey(mesh);
  await obey(mesh);
  expect((await mesh.deployments.getDeployment({ id: two })).state).toBe(DeploymentState.READY);
});

test("a watch shows the deployment, each change, and ends when it is released", async () => {
  await using mesh = await startMesh();
  const model = await registered(mesh);
  const { id } = await mesh.deployments.requestDeployment({ model });
  const states: DeploymentState[] = [];
  const watching = (async () => {
    for await (const { state } of mesh.deployments.watchDeployment({ id })) states.push(state);
  })();
  await mesh.settle();
  await mesh.deployments.acknowledgeDeployment({ id });
  await mesh.settle();
  await obey(mesh);
  await mesh.deployments.decommissionDeployment({ id });
  await mesh.settle();
  await watching;
  expect(states[0]).toBe(DeploymentState.OFFERED);
  expect(states).toContain(DeploymentState.READY);
  expect(states.at(-1)).toBe(DeploymentState.RELEASED);
});
