// Every protocol and HTTP version a client may speak to the edge, by the public clients of connect; and what tests of the edge share.
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterEach, beforeEach, expect } from "vitest";
import { Cell } from "#kernel/base/queue.ts";
import { closeConnections } from "#kernel/rpc/connect.ts";
import { grpcClient, type GrpcClient } from "#kernel/rpc/grpcjs.ts";
import { GRPCInferenceService } from "#proto/inference/grpc_service_pb.ts";
import { controlPlane, gateway, KEY, replica, type Replica, type RoutesInit } from "./stage.ts";

export const PROTOCOLS = {
  grpc: (url: string) => createGrpcTransport({ baseUrl: url }),
  "grpc-web on HTTP/1.1": (url: string) => createGrpcWebTransport({ baseUrl: url, httpVersion: "1.1" }),
  "grpc-web on HTTP/2": (url: string) => createGrpcWebTransport({ baseUrl: url, httpVersion: "2" }),
  "connect on HTTP/1.1": (url: string) => createConnectTransport({ baseUrl: url, httpVersion: "1.1" }),
  "connect JSON on HTTP/1.1": (url: string) =>
    createConnectTransport({ baseUrl: url, httpVersion: "1.1", useBinaryFormat: false }),
  "connect on HTTP/2": (url: string) => createConnectTransport({ baseUrl: url, httpVersion: "2" }),
};
export const EACH = Object.keys(PROTOCOLS) as (keyof typeof PROTOCOLS)[];

export type Stage = {
  routes: Cell<RoutesInit>;
  control: Awaited<ReturnType<typeof controlPlane>>;
  edge: Awaited<ReturnType<typeof gateway>>;
  a: Replica;
  b: Replica;
  oip: GrpcClient<typeof GRPCInferenceService>;
  url: string;
  /** Disposed after the test, before the stage. */
  open: (AsyncDisposable | Disposable)[];
};

/** Routes of one model, three deployments and three tracks. */
export function routesTo(endpoints: readonly string[]): RoutesInit {
  return {
    routes: [{ model: "flights", arms: [{ version: 1, weight: 100, endpoints: [...endpoints] }] }],
    deployments: [
      { id: "dep_f", model: "flights", follows: true },
      { id: "dep_s", model: "scans", strictNode: "clinic" },
      { id: "dep_w", model: "flights", state: "Pending" },
    ],
    macKeys: [KEY],
    tracks: [
      { ordinal: 1, model: "flights", scope: "open" },
      { ordinal: 2, model: "planes", scope: "open" },
      { ordinal: 3, model: "scans", scope: "node/clinic" },
    ],
  };
}

/** A fresh stage for each test of the file: two replicas, a control plane, a gateway that knows the routes. */
export function eachOnAStage(): () => Stage {
  let stage: Stage | undefined;
  beforeEach(async () => {
    const [a, b] = await Promise.all([replica("a"), replica("b")]);
    const routes = new Cell<RoutesInit>(routesTo([a.server.address, b.server.address]));
    const control = await controlPlane(routes);
    const edge = await gateway(control.address);
    const oip = grpcClient(GRPCInferenceService, edge.address);
    stage = { routes, control, edge, a, b, oip, url: `http://${edge.address}`, open: [] };
    await expect.poll(async () => (await oip.serverReady({})).ready).toBe(true);
  });
  afterEach(async () => {
    closeConnections();
    if (stage === undefined) return;
    for (const one of [
      ...stage.open.toReversed(),
      stage.oip,
      stage.edge,
      stage.control,
      stage.a.server,
      stage.b.server,
    ]) {
      if (Symbol.asyncDispose in one) await one[Symbol.asyncDispose]();
      else one[Symbol.dispose]();
    }
  });
  return () => {
    if (stage === undefined) throw new Error("the stage is built before each test");
    return stage;
  };
}

/** What the promise rejects with. */
export async function caught(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.unreachable("expected an error"),
    (error: unknown) => error,
  );
}
