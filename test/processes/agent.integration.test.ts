import { create } from "@bufbuild/protobuf";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type GrpcClient, grpcClient } from "#kernel/rpc/grpcjs.ts";
import { processBegan } from "#kernel/store/lock.ts";
import {
  Agent,
  NodeLog,
  type Observed,
  type ObservedReplica,
  ReplicaSpecSchema,
  TokenSchema,
} from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { nodesFrom, type RunningMesh, startMesh, stopMesh } from "../../cli/local/door.ts";
import { testContext, type TestContext } from "./context.ts";
import { standIn, type StandIn } from "./stand-in.ts";

let place: StandIn;
let context: TestContext;
let mesh: RunningMesh;
let agent: GrpcClient<typeof Agent>;
beforeEach(async () => {
  place = await standIn();
  context = testContext(place);
  await start();
});
afterEach(async () => {
  await stopMesh(context);
  await place[Symbol.asyncDispose]();
});

async function start(): Promise<void> {
  mesh = await startMesh(context, { port: 0, nodes: nodesFrom(["local:cpu=2,memory=1Gi", "clinic:cpu=1,memory=1Gi"]) });
  agent = grpcClient(Agent, `unix:${mesh.host.socket}`);
}

const token = (term: number) => create(TokenSchema, { epoch: 1n, term: BigInt(term) });
const replica = (
  id: string,
  more: { boot?: number; model?: string; scope?: string; draining?: boolean; track?: number } = {},
) => ({
  spec: create(ReplicaSpecSchema, {
    id,
    boot: more.boot ?? 1,
    scope: more.scope ?? "open",
    node: more.scope === "node/clinic" ? "clinic" : "local",
    track: more.track ?? 7,
    model: { model: more.model ?? "m" },
  }),
  draining: more.draining ?? false,
});

/** Waits until what is observed satisfies `holds`. */
async function until(holds: (observed: Observed) => boolean): Promise<Observed> {
  const signal = AbortSignal.timeout(30_000);
  for await (const observed of agent.observe({}, { signal })) if (holds(observed)) return observed;
  throw new Error("the stream ended first");
}
const phase = (observed: Observed, id: string): ObservedReplica | undefined =>
  observed.replicas.find((r) => r.id === id);

test("nodes are told with their shares, and the services with their addresses", async () => {
  const { nodes } = await until(() => true);
  expect(nodes).toMatchObject([
    { name: "local", cpu: 2, memoryBytes: 1n << 30n },
    { name: "clinic", cpu: 1 },
  ]);
  const { services } = await agent.getServices({}, {});
  expect(services.map(({ name, state }) => `${name} ${state}`)).toEqual([
    "nats-server ready",
    "control-plane ready",
    "drift ready",
    "gateway ready",
  ]);
});

test("a wanted replica becomes ready, is drained when told, and is told as gone until it is wanted no more", async () => {
  await agent.apply({ token: token(1), replicas: [replica("r1")], runs: [] }, {});
  const ready = await until((o) => phase(o, "r1")?.phase === "ready");
  expect(phase(ready, "r1")?.address).toMatch(/^127\.0\.0\.1:\d+$/);
  await agent.apply({ token: token(1), replicas: [replica("r1", { draining: true })], runs: [] }, {});
  await until((o) => phase(o, "r1")?.phase === "gone");
  await agent.apply({ token: token(1), replicas: [], runs: [] }, {});
  await until((o) => o.replicas.length === 0);
});

test("a replica that ends on its own is lost and not started again", async () => {
  await agent.apply({ token: token(1), replicas: [replica("r1", { model: "crash" })], runs: [] }, {});
  const lost = await until((o) => phase(o, "r1")?.phase === "lost");
  expect(phase(lost, "r1")?.reason).toBe("the sidecar exited with 7");
  await agent.apply({ token: token(1), replicas: [replica("r1", { model: "crash" }), replica("r2")], runs: [] }, {});
  const later = await until((o) => phase(o, "r2")?.phase === "ready");
  expect(phase(later, "r1")?.phase).toBe("lost");
});

test("what a lost replica left unsent goes to the next replica of its track, and to no other", async () => {
  const folder = (id: string): string => join(place.data, "nodes/local/replicas", id);
  await agent.apply({ token: token(1), replicas: [replica("r1", { model: "crash" })], runs: [] }, {});
  await until((o) => phase(o, "r1")?.phase === "lost");
  await writeFile(join(folder("r1"), "1-1.wal"), "rows");
  await agent.apply({ token: token(1), replicas: [replica("s1", { track: 8 })], runs: [] }, {});
  await until((o) => phase(o, "s1")?.phase === "ready");
  expect(await readdir(folder("s1"))).toEqual(["track.json"]);
  await agent.apply({ token: token(1), replicas: [replica("r2")], runs: [] }, {});
  await until((o) => phase(o, "r2")?.phase === "ready");
  expect(await readFile(join(folder("r2"), "1-1.wal"), "utf8")).toBe("rows");
  await expect(readdir(folder("r1"))).rejects.toThrow(/ENOENT/);
});

test("an older token is refused, also after the agent was killed and started again", async () => {
  await agent.apply({ token: token(5), replicas: [], runs: [] }, {});
  await expect(agent.apply({ token: token(4), replicas: [], runs: [] }, {})).rejects.toThrow(/term 4.*older.*term 5/);
  await expect.poll(async () => readFile(join(place.data, "agent.json"), "utf8")).toContain('"term":"5"');
  process.kill(mesh.host.agent.pid, "SIGKILL");
  await mesh.ended();
  await start();
  await expect(agent.apply({ token: token(4), replicas: [], runs: [] }, {})).rejects.toThrow(/older/);
});

test("when the agent was killed, the next one ends its children, keeps the ports and tells old boots as lost", async () => {
  await agent.apply({ token: token(1), replicas: [replica("r1")], runs: [] }, {});
  await until((o) => phase(o, "r1")?.phase === "ready");
  await expect.poll(async () => readFile(join(place.data, "agent.json"), "utf8")).toContain("replica/r1");
  const before = JSON.parse(await readFile(join(place.data, "agent.json"), "utf8")) as RunningMesh["host"];
  process.kill(mesh.host.agent.pid, "SIGKILL");
  await mesh.ended();
  await start();
  expect(mesh.host.ports).toEqual(before.ports);
  for (const { pid, began } of before.children) expect(await processBegan(pid)).not.toBe(began);
  await agent.apply({ token: token(1), replicas: [replica("r1"), replica("r1", { boot: 2 })], runs: [] }, {});
  const seen = await until((o) => o.replicas.some((r) => r.boot === 2 && r.phase === "ready"));
  expect(seen.replicas.find((r) => r.boot === 1)).toMatchObject({ phase: "lost", reason: "its agent was restarted" });
});

test("a service that is killed is started again at the same address", async () => {
  const control = (await agent.getServices({}, {})).services.find(({ name }) => name === "control-plane");
  process.kill(control?.pid ?? 0, "SIGKILL");
  await expect
    .poll(async () => (await agent.getServices({}, {})).services.find(({ name }) => name === "control-plane"), {
      timeout: 20_000,
    })
    .toMatchObject({ state: "ready", restarts: 1, address: control?.address });
});

test("nats-server that is killed is started again on its port", async () => {
  const nats = (await agent.getServices({}, {})).services.find(({ name }) => name === "nats-server");
  process.kill(nats?.pid ?? 0, "SIGKILL");
  await expect
    .poll(async () => (await agent.getServices({}, {})).services.find(({ name }) => name === "nats-server"), {
      timeout: 20_000,
    })
    .toMatchObject({ state: "ready", restarts: 1, address: nats?.address });
});

test("the first strict replica of a node starts the node's joiner", async () => {
  await agent.apply({ token: token(1), replicas: [replica("s1", { scope: "node/clinic" })], runs: [] }, {});
  await until((o) => phase(o, "s1")?.phase === "ready");
  const { services } = await agent.getServices({}, {});
  expect(services.map(({ name }) => name)).toContain("drift/clinic");
});

test("an unknown node is refused by its name", async () => {
  const spec = create(ReplicaSpecSchema, { id: "r", boot: 1, node: "moon", scope: "open" });
  await expect(agent.apply({ token: token(1), replicas: [{ spec, draining: false }], runs: [] }, {})).rejects.toThrow(
    /"moon"/,
  );
});

test("streams of a node are kept in its folder and read back in order", async () => {
  const log = grpcClient(NodeLog, `unix:${mesh.host.socket}`);
  const publish = (id: string) =>
    log.publish({ node: "clinic", stream: "MESH_REC", subject: "mesh.rec.1.1.1", id, payload: Buffer.from(id) }, {});
  expect(await publish("a")).toMatchObject({ seq: 1n, duplicate: false });
  expect(await publish("b")).toMatchObject({ seq: 2n });
  expect(await publish("a")).toMatchObject({ seq: 1n, duplicate: true });
  const read: string[] = [];
  const signal = AbortSignal.timeout(20_000);
  const request = { node: "clinic", stream: "MESH_REC", filter: "mesh.rec.>", fromSeq: 1n };
  for await (const { payload } of log.read(request, { signal }))
    if (read.push(Buffer.from(payload).toString()) === 2) break;
  expect(read).toEqual(["a", "b"]);
  expect(await log.info({ node: "clinic", stream: "MESH_REC", filter: "" }, {})).toMatchObject({
    firstSeq: 1n,
    lastSeq: 2n,
  });
  await expect(log.info({ node: "moon", stream: "MESH_REC", filter: "" }, {})).rejects.toThrow(/"moon"/);
  await expect(log.info({ node: "clinic", stream: "../x", filter: "" }, {})).rejects.toThrow(/no name of a stream/);
});
