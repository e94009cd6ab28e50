// Both servers with both clients over real sockets: errors, deadlines, streams, health, reflection, draining, one port for HTTP/1.1 and h2c.
import { execFile } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { connect, createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, describe, expect, test } from "vitest";
import { Feedback } from "#proto/driftmesh/v1/feedback_pb.ts";
import { Agent } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { Health } from "#proto/grpc/health/v1/health_pb.ts";
import { GRPCInferenceService } from "#proto/inference/grpc_service_pb.ts";
import { MeshError } from "../fault/error.ts";
import { silentLogger } from "../process/log.ts";
import { createMetrics } from "../process/metrics.ts";
import { closeConnections, Code, connectClient, ConnectError, fromConnectError, serveConnect } from "./connect.ts";
import { grpcClient, grpcCodeOf, grpcServer, grpcService } from "./grpcjs.ts";

const log = silentLogger();
const BUF = new URL("../../node_modules/.bin/buf", import.meta.url).pathname;
const open: AsyncDisposable[] = [];
afterEach(async () => {
  closeConnections();
  for (const one of open.splice(0).toReversed()) await one[Symbol.asyncDispose]();
});
function keep<T extends AsyncDisposable>(one: T): T {
  open.push(one);
  return one;
}

const VIOLATIONS = [{ field: "labels[3].inference_id", description: "expected inf_ and 26 characters" }];
const refuse = (): never => {
  throw new MeshError("DM-4001", "labels[3].inference_id is malformed: “ü”", { violations: VIOLATIONS });
};
type Gate = { entered: number; go: PromiseWithResolvers<void> };
const gateOf = (): Gate => ({ entered: 0, go: Promise.withResolvers() });

async function connectServer(listen = "127.0.0.1:0", gate?: Gate) {
  return keep(
    await serveConnect({
      listen,
      log,
      metrics: createMetrics("test"),
      routes: (router) =>
        router.service(Feedback, {
          async sendLabels({ labels }) {
            if (labels.length === 0) refuse();
            if (labels.length === 2) throw new Error("a secret value");
            if (gate !== undefined) gate.entered += 1;
            await gate?.go.promise;
            return { accepted: labels.length };
          },
          async *streamLabels(requests) {
            for await (const { number, labels } of requests) {
              if (labels.length === 0) refuse();
              yield { acknowledged: number, accepted: labels.length };
            }
          },
        }),
    }),
  );
}

async function jsServer(listen = "127.0.0.1:0", gate?: Gate) {
  return keep(
    await grpcServer({
      listen,
      log,
      services: [
        grpcService(Feedback, {
          async sendLabels({ labels }, call) {
            if (labels.length === 0) refuse();
            if (labels.length === 2) throw new Error("a secret value");
            call.setHeader("driftmesh_inference_id", "inf_x");
            if (gate !== undefined) gate.entered += 1;
            await gate?.go.promise;
            return { accepted: labels.length };
          },
          async *streamLabels(requests, call) {
            call.setHeader("hello", call.metadata.get("who") ?? "nobody");
            for await (const { number, labels } of requests) {
              if (labels.length === 0) refuse();
              yield { acknowledged: number, accepted: labels.length };
            }
          },
        }),
        grpcService(GRPCInferenceService, { serverLive: () => ({ live: true }) }),
      ],
    }),
  );
}

const servers = { connect: connectServer, "grpc-js": jsServer };
const unix = (): string => `unix:${join(mkdtempSync(join(tmpdir(), "dm-rpc-")), "s.sock")}`;
const LABEL = { inferenceId: "inf_a", row: 1, value: 1 };
async function* batches(sizes: readonly number[]) {
  for (const [i, size] of sizes.entries()) yield { number: BigInt(i + 1), labels: new Array(size).fill(LABEL) };
}
async function caught(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => expect.unreachable("expected an error"),
    (error: unknown) => error,
  );
}

describe.each(Object.keys(servers) as (keyof typeof servers)[])("the %s server", (kind) => {
  test.each(["127.0.0.1:0", "unix"])("answers both clients on %s", async (listen) => {
    const server = await servers[kind](listen === "unix" ? unix() : listen);
    const viaConnect = await connectClient(Feedback, server.address).sendLabels({ labels: [LABEL] });
    using js = grpcClient(Feedback, server.address);
    const viaJs = await js.sendLabels({ labels: [LABEL, LABEL, LABEL] });
    expect([viaConnect.accepted, viaJs.accepted]).toEqual([1, 3]);
  });

  test("sends a MeshError that comes out with its code, sentence and fields at both clients", async () => {
    const server = await servers[kind]();
    using js = grpcClient(Feedback, server.address);
    const errors = [
      fromConnectError(await caught(connectClient(Feedback, server.address).sendLabels({ labels: [] }))),
      await caught(js.sendLabels({ labels: [] })),
    ];
    for (const error of errors) {
      expect(error).toMatchObject({ fault: "DM-4001", violations: VIOLATIONS });
      expect((error as MeshError).message).toBe("labels[3].inference_id is malformed: “ü”");
    }
  });

  test("tells the caller nothing of an error nobody foresaw", async () => {
    const server = await servers[kind]();
    using js = grpcClient(Feedback, server.address);
    const error = await caught(js.sendLabels({ labels: [LABEL, LABEL] }));
    expect(error).toMatchObject({ fault: "DM-6008" });
    expect(String(error)).not.toContain("secret");
  });

  test("streams both ways, and an error after good answers arrives after them", async () => {
    const server = await servers[kind]();
    using js = grpcClient(Feedback, server.address);
    const clients = [connectClient(Feedback, server.address), js];
    for (const client of clients) {
      const acks: number[] = [];
      const read = async (): Promise<void> => {
        for await (const { acknowledged } of client.streamLabels(batches([1, 2, 0]))) acks.push(Number(acknowledged));
      };
      const error = fromConnectError(await caught(read()));
      expect(acks).toEqual([1, 2]);
      expect(error).toMatchObject({ fault: "DM-4001" });
    }
  });

  test("lets a reader leave a stream early", async () => {
    const server = await servers[kind]();
    using js = grpcClient(Feedback, server.address);
    async function* forever() {
      for (let n = 1n; ; n++) yield { number: n, labels: [LABEL] };
    }
    let seen = 0n;
    for await (const { acknowledged } of js.streamLabels(forever())) {
      seen = acknowledged;
      if (seen === 500n) break;
    }
    expect(seen).toBe(500n);
  });

  test("ends a call at its deadline", async () => {
    const server = await servers[kind]("127.0.0.1:0", gateOf());
    using js = grpcClient(Feedback, server.address);
    const viaJs = await caught(js.sendLabels({ labels: [LABEL] }, { deadlineMs: 50 }));
    const client = connectClient(Feedback, server.address, { deadlineMs: 50 });
    const viaConnect = fromConnectError(await caught(client.sendLabels({ labels: [LABEL] })));
    expect([viaJs, viaConnect]).toMatchObject([{ fault: "DM-3007" }, { fault: "DM-3007" }]);
  });

  test("drains without failing calls in flight, and ends streams so that callers begin elsewhere", async () => {
    const gate = gateOf();
    const server = await servers[kind]("127.0.0.1:0", gate);
    using js = grpcClient(Feedback, server.address);
    using health = grpcClient(Health, server.address);
    const watched = Promise.withResolvers<void>();
    const watch = async (): Promise<void> => {
      for await (const { status } of health.watch({ service: "" })) if (status === 1) watched.resolve();
    };
    const watching = caught(watch());
    const calls = [
      js.sendLabels({ labels: [LABEL] }),
      connectClient(Feedback, server.address).sendLabels({ labels: [LABEL] }),
    ];
    await watched.promise;
    await expect.poll(() => gate.entered).toBe(2);
    const drained = server.drain(20_000);
    gate.go.resolve();
    expect((await Promise.all(calls)).map((answer) => answer.accepted)).toEqual([1, 1]);
    expect(grpcCodeOf(await watching)).toBe(Code.Unavailable);
    await drained;
    expect(grpcCodeOf(await caught(js.sendLabels({ labels: [LABEL] })))).toBe(Code.Unavailable);
  });

  test("cuts calls that outlive the grace of draining", async () => {
    const gate = gateOf();
    const server = await servers[kind]("127.0.0.1:0", gate);
    using js = grpcClient(Feedback, server.address);
    const call = caught(js.sendLabels({ labels: [LABEL] }));
    await expect.poll(() => gate.entered).toBe(1);
    await server.drain(50);
    expect([Code.Unavailable, Code.Canceled, Code.Internal]).toContain(grpcCodeOf(await call));
  });

  test("answers health for itself, its services and names that it never heard of", async () => {
    const server = await servers[kind]();
    using health = grpcClient(Health, server.address);
    server.setServing("a-model", false);
    const statuses = await Promise.all(
      ["", Feedback.typeName, "a-model"].map(async (service) => (await health.check({ service })).status),
    );
    expect(statuses).toEqual([1, 1, 2]);
    expect(grpcCodeOf(await caught(health.check({ service: "never" })))).toBe(Code.NotFound);
  });

  test("is understood by a foreign client through reflection alone", async () => {
    const server = await servers[kind]();
    const args = ["curl", "--http2-prior-knowledge", "--protocol", "grpc"];
    const url = `http://${server.address}`;
    const label = { labels: [{ inferenceId: "inf_a", value: 1 }] };
    const call = await promisify(execFile)(
      BUF,
      args.concat("-d", JSON.stringify(label), `${url}/driftmesh.v1.Feedback/SendLabels`),
    );
    expect(JSON.parse(call.stdout)).toEqual({ accepted: 1 });
    const listed = await promisify(execFile)(BUF, [...args, "--list-services", url]);
    expect(listed.stdout).toContain("driftmesh.v1.Feedback");
    expect(listed.stdout).toContain("grpc.health.v1.Health");
  });

  test("refuses addresses beyond loopback and names a taken port", async () => {
    await expect(servers[kind]("0.0.0.0:0")).rejects.toMatchObject({ fault: "DM-6006" });
    const other = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => other.once("listening", resolve));
    const { port } = other.address() as AddressInfo;
    await expect(servers[kind](`127.0.0.1:${port}`)).rejects.toMatchObject({
      fault: "DM-6004",
      message: expect.stringContaining(String(port)),
    });
    other.close();
  });

  test("takes over a socket file that a dead process left", async () => {
    const address = unix();
    const path = address.slice("unix:".length);
    const dead = execFile(process.execPath, ["-e", `require("net").createServer().listen(${JSON.stringify(path)})`]);
    await expect.poll(() => reachable(path)).toBe(true);
    dead.kill("SIGKILL");
    await new Promise((resolve) => dead.once("exit", resolve));
    const server = await servers[kind](address);
    using js = grpcClient(Feedback, server.address);
    expect((await js.sendLabels({ labels: [LABEL] })).accepted).toBe(1);
    await expect(servers[kind](address)).rejects.toMatchObject({ fault: "DM-6004" });
  });
});

async function reachable(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const socket = connect(path);
  socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
  const answer = await promise;
  socket.destroy();
  return answer;
}

test("one port speaks HTTP/1.1: Connect as JSON, metrics, and a sentence for what is not there", async () => {
  const { address } = await connectServer();
  const post = await fetch(`http://${address}/driftmesh.v1.Feedback/SendLabels`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ labels: [{ inferenceId: "inf_a" }] }),
  });
  expect([post.status, await post.json()]).toEqual([200, { accepted: 1 }]);
  const metrics = await (await fetch(`http://${address}/metrics`)).text();
  expect(metrics).toContain('driftmesh_rpc_requests_total{method="driftmesh.v1.Feedback/SendLabels",code="OK"');
  const nothing = await fetch(`http://${address}/nowhere`);
  expect([nothing.status, await nothing.text()]).toEqual([404, "nothing is served at /nowhere\n"]);
});

test("a replica's port answers gRPC, and metrics over HTTP/1.1", async () => {
  const metrics = createMetrics("sidecar");
  metrics.counter("driftmesh_test_rows_total", "Rows.").inc({}, 3);
  const server = await grpcServer({ listen: "127.0.0.1:0", log: silentLogger(), services: [], metrics });
  expect(await (await fetch(`http://${server.address}/metrics`)).text()).toContain("driftmesh_test_rows_total");
  expect((await fetch(`http://${server.address}/else`)).status).toBe(404);
  using health = grpcClient(Health, server.address);
  expect(await health.check({})).toMatchObject({ status: 1 });
  await server.drain(1_000);
});

test("the first bytes of a connection may come one by one", async () => {
  const { address } = await connectServer();
  const socket = connect(Number(address.split(":")[1]), "127.0.0.1");
  socket.setNoDelay(true);
  for (const byte of "POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n") {
    await new Promise((resolve) => socket.write(byte, resolve));
  }
  let text = "";
  for await (const chunk of socket) text += String(chunk);
  expect(text).toMatch(/^HTTP\/1\.1 404/);
});

test("a client of a server that is not there says so", async () => {
  const error = fromConnectError(await caught(connectClient(Feedback, "127.0.0.1:1").sendLabels({ labels: [] })));
  expect(error).toMatchObject({ fault: "DM-6007" });
  using js = grpcClient(Feedback, "127.0.0.1:1");
  expect(grpcCodeOf(await caught(js.sendLabels({ labels: [] })))).toBe(Code.Unavailable);
});

test("a client reaches a server that was started again at the same address", async () => {
  const first = await connectServer();
  const client = connectClient(Feedback, first.address);
  using js = grpcClient(Feedback, first.address);
  await Promise.all([client.sendLabels({ labels: [LABEL] }), js.sendLabels({ labels: [LABEL] })]);
  await first[Symbol.asyncDispose]();
  await connectServer(first.address);
  await expect.poll(async () => (await client.sendLabels({ labels: [LABEL] })).accepted).toBe(1);
  await expect.poll(async () => (await js.sendLabels({ labels: [LABEL] })).accepted, { timeout: 10_000 }).toBe(1);
});

test("reflection never shows the internal services", async () => {
  const server = keep(
    await serveConnect({ listen: "127.0.0.1:0", log, routes: (router) => router.service(Agent, {}) }),
  );
  const listed = await promisify(execFile)(
    BUF,
    "curl --http2-prior-knowledge --protocol grpc --list-services".split(" ").concat(`http://${server.address}`),
  );
  expect(listed.stdout).not.toContain("internal");
});

test("a method without a handler answers UNIMPLEMENTED with a sentence", async () => {
  const server = await jsServer();
  using js = grpcClient(GRPCInferenceService, server.address);
  expect((await js.serverLive({})).live).toBe(true);
  const error = await caught(js.repositoryIndex({}));
  expect(error).toMatchObject({ fault: "DM-7001", message: expect.stringContaining("RepositoryIndex") });
});

test("headers go both ways on grpc-js", async () => {
  const server = await jsServer();
  using js = grpcClient(Feedback, server.address);
  const seen: (string | undefined)[] = [];
  await js.sendLabels({ labels: [LABEL] }, { onHeaders: (get) => seen.push(get("driftmesh_inference_id")) });
  for await (const answer of js.streamLabels(batches([1]), {
    headers: { who: "me" },
    onHeaders: (get) => seen.push(get("hello")),
  }))
    expect(answer.accepted).toBe(1);
  expect(seen).toEqual(["inf_x", "me"]);
});

test("a ConnectError that is not ours stays as it is", () => {
  const error = new ConnectError("no", Code.Aborted);
  expect(fromConnectError(error)).toBe(error);
});
