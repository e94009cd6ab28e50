// The composed control plane on a real nats-server, with an agent played over a real socket.
import { create } from "@bufbuild/protobuf";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Cell } from "#kernel/base/queue.ts";
import { systemClock } from "#kernel/base/clock.ts";
import { systemRand } from "#kernel/base/rand.ts";
import { silentLogger } from "#kernel/process/log.ts";
import { createMetrics } from "#kernel/process/metrics.ts";
import type { RunningService } from "#kernel/process/run.ts";
import { closeConnections, connectClient } from "#kernel/rpc/connect.ts";
import { grpcServer, grpcService } from "#kernel/rpc/grpcjs.ts";
import { testServer, type TestServer } from "#kernel/store/testing/nats-fixture.ts";
import { Agent, type ApplyRequest, type Observed, ObservedSchema } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { Deployments, DeploymentState } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Mesh } from "#proto/driftmesh/v1/mesh_pb.ts";
import { ModelKind } from "#proto/driftmesh/v1/model_pb.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import { Retraining, RunPhase } from "#proto/driftmesh/v1/retraining_pb.ts";
import { compose } from "./compose.ts";

let dir: string;
let nats: TestServer;
let agent: Awaited<ReturnType<typeof playAgent>>;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "driftmesh-plane-"));
  nats = await testServer();
  agent = await playAgent(join(dir, "agent.sock"));
}, 60_000);

afterAll(async () => {
  closeConnections();
  await agent.server[Symbol.asyncDispose]();
  await nats[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

/** An agent that makes every replica ready and every check succeed. */
async function playAgent(socket: string) {
  const applied: ApplyRequest[] = [];
  const machine = { agentBoot: "a1", nodes: [{ name: "local", cpu: 2, memoryBytes: 2n ** 31n }] };
  const seen = new Cell<Observed>(create(ObservedSchema, machine));
  const service = grpcService(Agent, {
    apply(request) {
      applied.push(request);
      const spec = {
        inputs: [{ name: "x", datatype: "FP32", shape: [-1n, 2n] }],
        outputs: [{ name: "y", datatype: "FP32", shape: [-1n, 1n] }],
      };
      const hashes = { artifactSha256: "a".repeat(64), profileSha256: "b".repeat(64) };
      seen.set(
        create(ObservedSchema, {
          ...machine,
          replicas: request.replicas.map(({ spec: s, draining }) => ({
            id: s?.id ?? "",
            boot: s?.boot ?? 0,
            phase: draining ? "gone" : "ready",
            address: "127.0.0.1:9",
            lastNumber: 5n,
          })),
          runs: request.runs.map(({ id, attempt }) => ({
            id,
            attempt,
            phase: "succeeded",
            ...hashes,
            artifactBytes: 3n,
            model: {
              ...spec,
              ...hashes,
              features: [
                { name: "f0", type: "number" },
                { name: "f1", type: "number" },
              ],
              scoreOutput: "y",
              scoreKind: "value",
            },
          })),
        }),
      );
      return {};
    },
    async *observe(_request, { signal }) {
      while (!signal.aborted) {
        const { value, version } = seen.get();
        yield value;
        await seen.changed(version, signal);
      }
    },
  });
  const server = await grpcServer({ listen: `unix:${socket}`, services: [service], log: silentLogger() });
  return { server, applied, socket };
}

async function start(): Promise<RunningService & { stop(): Promise<void> }> {
  const { url, credentials } = nats.server();
  const stop = new AbortController();
  const service = await compose({
    env: {
      DRIFTMESH_NATS_URL: url,
      DRIFTMESH_NATS_CREDENTIALS: JSON.stringify(credentials),
      DRIFTMESH_BLOBS: join(dir, "blobs"),
      DRIFTMESH_ENDPOINT: "127.0.0.1:4747",
      DRIFTMESH_AGENT_SOCKET: agent.socket,
    },
    log: silentLogger(),
    metrics: createMetrics("control-plane"),
    clock: systemClock,
    rand: systemRand,
    signal: stop.signal,
  });
  const end = async (): Promise<void> => {
    stop.abort();
    await service.drain?.(1_000);
    await service[Symbol.asyncDispose]();
  };
  return { ...service, stop: end };
}

test("a file becomes a version and a deployment becomes Ready, and the next control plane takes over where this one stopped", async () => {
  const first = await start();
  const registry = connectClient(Registry, first.address);
  const { sha256 } = await registry.uploadBlob(
    (async function* () {
      yield await Promise.resolve({ chunk: new Uint8Array([1, 2, 3]) });
    })(),
  );
  const { run } = await registry.registerModel({
    description: { name: "mine", kind: ModelKind.OTHER, inference: { artifactSha256: sha256 } },
  });
  for await (const seen of connectClient(Retraining, first.address).watchRun({ id: run }))
    if (seen.phase === RunPhase.SUCCEEDED) break;
  const deployments = connectClient(Deployments, first.address);
  const { id } = await deployments.requestDeployment({ model: "mine" });
  await deployments.acknowledgeDeployment({ id });
  for await (const seen of deployments.watchDeployment({ id })) if (seen.state === DeploymentState.READY) break;
  const before = (await connectClient(Mesh, first.address).getStatus({})).term;
  await first.stop();

  const next = await start();
  const again = connectClient(Deployments, next.address);
  expect((await again.getDeployment({ id })).state).toBe(DeploymentState.READY);
  await again.decommissionDeployment({ id });
  for await (const seen of again.watchDeployment({ id })) if (seen.state === DeploymentState.RELEASED) break;
  const status = await connectClient(Mesh, next.address).getStatus({});
  expect(status.term).toBeGreaterThan(before);
  expect(status).toMatchObject({ epoch: 1, hasLeader: true, models: 1, replicasReady: 1 });
  const starts = new Set(agent.applied.flatMap(({ replicas }) => replicas.map(({ spec }) => spec?.boot)));
  expect([...starts]).toEqual([1]);
  await next.stop();
}, 60_000);
