// A sidecar process for tests: real nats-server, blobs in a folder, a control plane that gives orders, a node log in memory.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, mkdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { create, fromBinary, toJson, type MessageInitShape } from "@bufbuild/protobuf";
import { Cell } from "#kernel/base/queue.ts";
import { denseCounts } from "#kernel/domain/counts.ts";
import { silentLogger } from "#kernel/process/log.ts";
import { grpcClient, grpcServer, grpcService, type GrpcClient, type GrpcServer } from "#kernel/rpc/grpcjs.ts";
import { FileBlobs } from "#kernel/store/file/blobs.ts";
import { rand, testServer, type TestServer } from "#kernel/store/testing/nats-fixture.ts";
import { until } from "#kernel/store/testing/wait.ts";
import { Agent, NodeLog, ReplicaSpecSchema, type ReplicaSpec } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { Sync, type ReplicaOrdersSchema } from "#proto/driftmesh/internal/v1/sync_pb.ts";
import {
  PaneSchema,
  RecordBatchSchema,
  type Pane,
  type RecordBatch,
} from "#proto/driftmesh/internal/v1/telemetry_pb.ts";
import { Feedback } from "#proto/driftmesh/v1/feedback_pb.ts";
import { GRPCInferenceService } from "#proto/inference/grpc_service_pb.ts";

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
export const MAC_KEY = Uint8Array.from({ length: 32 }, (_, i) => i);

export type Stored = { stream: string; subject: string; id: string; payload: Uint8Array };
export type SpecInit = Exclude<MessageInitShape<typeof ReplicaSpecSchema>, { $typeName: string }>;
export type Orders = MessageInitShape<typeof ReplicaOrdersSchema>;
export type World = AsyncDisposable & {
  folder: string;
  nats: TestServer;
  blobs: FileBlobs;
  orders: Cell<Orders>;
  /** What strict sidecars put into the node's log. */
  nodeLog: Stored[];
  panes(): Promise<Pane[]>;
  records(): Promise<RecordBatch[]>;
  start(spec: SpecInit, work?: string): Promise<Sidecar>;
};
export type Sidecar = {
  inference: GrpcClient<typeof GRPCInferenceService>;
  feedback: GrpcClient<typeof Feedback>;
  address: string;
  log: () => string;
  /** Ends it and waits. */
  end(signal: NodeJS.Signals): Promise<number | null>;
};

export async function testWorld(): Promise<World> {
  const folder = await mkdtemp(join(tmpdir(), "dm-sidecar-"));
  const nats = await testServer();
  const stores = await nats.open();
  const blobs = new FileBlobs({ dir: join(folder, "blobs"), rand });
  const orders = new Cell<Orders>({});
  const nodeLog: Stored[] = [];
  const control = await controlPlane(orders);
  const agent = await agentOf(join(folder, "agent.sock"), nodeLog);
  const children: ChildProcess[] = [];
  const read = async (stream: "MESH_PANE" | "MESH_REC"): Promise<Uint8Array[]> => {
    const log = stores.log(stream);
    const { lastSeq } = await log.info();
    const out: Uint8Array[] = [];
    if (lastSeq === 0) return out;
    const stop = new AbortController();
    for await (const event of log.read({ filter: ">", fromSeq: 1 }, stop.signal)) {
      if (event.kind !== "message") continue;
      out.push(event.message.payload);
      if (event.message.seq >= lastSeq) break;
    }
    stop.abort();
    return out;
  };
  return {
    folder,
    nats,
    blobs,
    orders,
    nodeLog,
    panes: async () => (await read("MESH_PANE")).map((bytes) => fromBinary(PaneSchema, bytes)),
    records: async () => (await read("MESH_REC")).map((bytes) => fromBinary(RecordBatchSchema, bytes)),
    async start(spec, work = "work") {
      const full: ReplicaSpec = create(ReplicaSpecSchema, {
        id: "wl_1",
        workload: "wl",
        boot: 7,
        node: "laptop",
        scope: "open",
        track: 3,
        cpu: 1,
        macKeys: [MAC_KEY],
        ...spec,
      });
      const place = join(folder, work);
      await mkdir(place, { recursive: true });
      const server = nats.server();
      const env = {
        PATH: process.env["PATH"],
        DRIFTMESH_REPLICA: JSON.stringify(toJson(ReplicaSpecSchema, full)),
        DRIFTMESH_CONTROL: control.address,
        DRIFTMESH_BLOBS: join(folder, "blobs"),
        DRIFTMESH_WORK: place,
        DRIFTMESH_AGENT_SOCKET: join(folder, "agent.sock"),
        DRIFTMESH_NATS_URL: server.url,
        DRIFTMESH_NATS_CREDENTIALS: JSON.stringify(server.credentials),
      };
      return launch(env, children);
    },
    async [Symbol.asyncDispose]() {
      for (const child of children) child.kill("SIGKILL");
      await control[Symbol.asyncDispose]();
      await agent[Symbol.asyncDispose]();
      await stores[Symbol.asyncDispose]();
      await nats[Symbol.asyncDispose]();
      await rm(folder, {
        recursive: true,
        force: true,
      });
    },
  };
}

async function launch(env: Record<string, string | undefined>, children: ChildProcess[]): Promise<Sidecar> {
  const child = spawn(process.execPath, [MAIN], { env, stdio: ["ignore", "ignore", "pipe"] });
  children.push(child);
  let log = "";
  child.stderr.on("data", (chunk: Buffer) => (log += chunk.toString()));
  const exit = new Promise<number | null>((resolve) => child.once("exit", resolve));
  const address = (): string | undefined => /"address":"([^"]+)"/.exec(log)?.[1];
  await until(
    "the sidecar is ready",
    () => {
      if (child.exitCode !== null) throw new Error(`the sidecar ended: ${log}`);
      return address() !== undefined;
    },
    10_000,
  );
  const at = address() ?? "";
  return {
    address: at,
    inference: grpcClient(GRPCInferenceService, at),
    feedback: grpcClient(Feedback, at),
    log: () => log,
    end: (signal) => {
      child.kill(signal);
      return exit;
    },
  };
}

function controlPlane(orders: Cell<Orders>): Promise<GrpcServer> {
  return grpcServer({
    listen: "127.0.0.1:0",
    log: silentLogger(),
    services: [
      grpcService(Sync, {
        async *followReplica(_request, call) {
          for (;;) {
            const { value, version } = orders.get();
            yield value;
            await orders.changed(version, call.signal);
            if (call.signal.aborted) return;
          }
        },
      }),
    ],
  });
}

function agentOf(socket: string, stored: Stored[]): Promise<GrpcServer> {
  return grpcServer({
    listen: `unix:${socket}`,
    log: silentLogger(),
    services: [
      grpcService(Agent, {}),
      grpcService(NodeLog, {
        publish({ stream, subject, id, payload }) {
          const before = stored.findIndex((message) => message.stream === stream && message.id === id);
          if (before >= 0) return { seq: BigInt(before + 1), duplicate: true };
          stored.push({ stream, subject, id, payload: Uint8Array.from(payload) });
          return { seq: BigInt(stored.length), duplicate: false };
        },
      }),
    ],
  });
}

/** Rows in the cells of panes. */
export const rowsInCells = (panes: readonly Pane[]): number =>
  panes.reduce((sum, pane) => sum + pane.cells.reduce((cells, cell) => cells + Number(cell.rows), 0), 0);

export const dense = (counts: { size: number; gap: number[]; value: bigint[] } | undefined): number[] =>
  counts === undefined ? [] : (denseCounts(counts) ?? []);
