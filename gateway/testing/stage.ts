// A gateway on real sockets between fakes made of our own servers: replicas, a control plane, a store in memory.
import { systemClock } from "#kernel/base/clock.ts";
import { Cell } from "#kernel/base/queue.ts";
import { seededRand } from "#kernel/base/rand.ts";
import { inferenceId } from "#kernel/domain/ids.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { silentLogger } from "#kernel/process/log.ts";
import { createMetrics } from "#kernel/process/metrics.ts";
import { serveConnect, type ConnectServer } from "#kernel/rpc/connect.ts";
import { grpcServer, grpcService, type GrpcServer } from "#kernel/rpc/grpcjs.ts";
import { MemoryEventLog } from "#kernel/store/memory/event-log.ts";
import type { EventLog } from "#kernel/store/ports.ts";
import { Sync, type RoutesSchema } from "#proto/driftmesh/internal/v1/sync_pb.ts";
import { Deployments } from "#proto/driftmesh/v1/deployments_pb.ts";
import { Registry } from "#proto/driftmesh/v1/registry_pb.ts";
import { GRPCInferenceService } from "#proto/inference/grpc_service_pb.ts";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { serveGateway } from "../compose.ts";

export type RoutesInit = MessageInitShape<typeof RoutesSchema>;
export const KEY = seededRand(1).bytes(32);
export const idOf = (track: number, number: number): string => inferenceId({ track, boot: 7, number }, KEY);

/** A replica: echoes raw contents; the `id` of a request tells it to fail, wait or count. */
export type Replica = {
  server: GrpcServer;
  served: number;
  cancelled: number;
  headers: (string | undefined)[];
  release: () => void;
};

export async function replica(name: string): Promise<Replica> {
  const gate = Promise.withResolvers<void>();
  const state: Omit<Replica, "server"> = { served: 0, cancelled: 0, headers: [], release: () => gate.resolve() };
  const server = await grpcServer({
    listen: "127.0.0.1:0",
    log: silentLogger(),
    services: [
      grpcService(GRPCInferenceService, {
        async modelInfer({ id, modelName, rawInputContents }, call) {
          state.served += 1;
          state.headers.push(call.metadata.get("traceparent"));
          call.setHeader("driftmesh_inference_id", "inf_x");
          call.setTrailer("x-replica", name);
          if (id === "fail")
            throw new MeshError("DM-3001", "tensor “x” has a wrong shape", {
              violations: [{ field: "inputs[0].shape", description: "expected [n, 4]" }],
            });
          if (id === "wait") {
            call.signal.addEventListener("abort", () => (state.cancelled += 1));
            await Promise.race([gate.promise, new Promise((end) => call.signal.addEventListener("abort", end))]);
          }
          return { modelName, modelVersion: name, id, rawOutputContents: rawInputContents };
        },
        modelReady: () => ({ ready: true }),
        async *modelStreamInfer(requests) {
          for await (const { id, modelName } of requests)
            yield { inferResponse: { modelName, modelVersion: name, id } };
        },
      }),
    ],
  });
  return Object.assign(state, { server });
}

/** A control plane that pushes what `routes` holds. */
export async function controlPlane(routes: Cell<RoutesInit>, listen = "127.0.0.1:0"): Promise<ConnectServer> {
  return serveConnect({
    listen,
    log: silentLogger(),
    metrics: createMetrics("control-plane"),
    routes(router) {
      router.service(Sync, {
        async *followRoutes(_request, { signal }) {
          while (!signal.aborted) {
            const { value, version } = routes.get();
            yield value;
            await routes.changed(version, signal);
          }
        },
      });
      router.service(Registry, {
        listModels: ({ pageToken }) => ({ nextPageToken: pageToken }),
        getModel({ name }) {
          throw new MeshError("DM-2001", `no model is called “${name}”`);
        },
        async uploadBlob(chunks) {
          let bytes = 0;
          for await (const { chunk } of chunks) bytes += chunk.length;
          return { byteSize: BigInt(bytes) };
        },
        async *downloadBlob() {
          for (let i = 0; i < 64; i++) yield { chunk: new Uint8Array(64 << 10) };
        },
      });
      router.service(Deployments, {
        async *watchDeployment({ id }, { signal }) {
          yield { id };
          await new Promise((end) => signal.addEventListener("abort", end));
        },
      });
    },
  });
}

/** A gateway in front of `control`, with labels kept in `labels`. */
export async function gateway(
  control: string,
  options: { log?: () => EventLog | undefined; origins?: readonly string[]; listen?: string; drift?: string } = {},
) {
  const labels = new MemoryEventLog(systemClock);
  const metrics = createMetrics("gateway");
  const served = await serveGateway(
    {
      listen: options.listen ?? "127.0.0.1:0",
      control,
      drift: options.drift ?? "127.0.0.1:1",
      origins: options.origins ?? [],
      feedbackLog: options.log ?? (() => labels),
    },
    { clock: systemClock, log: silentLogger(), metrics, rand: seededRand(1) },
  );
  return { ...served, labels, metrics };
}
