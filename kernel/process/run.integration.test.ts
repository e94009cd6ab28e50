// A real child process under a real lifeline: it reports ready, drains when told, ends by itself, and says why it could not start.
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, expect, test } from "vitest";
import { Agent } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { grpcServer, grpcService, type GrpcServer } from "../rpc/grpcjs.ts";
import { silentLogger } from "./log.ts";

const RUN = new URL("./run.ts", import.meta.url).href;
const children: ChildProcess[] = [];
afterEach(() => children.splice(0).forEach((child) => child.kill("SIGKILL")));

type Report = { child: string; state: string; address: string; reason: string; lastNumber: bigint; pid: number };

async function agent(reports: Report[], drain: Promise<void>): Promise<{ server: GrpcServer; socket: string }> {
  const socket = join(mkdtempSync(join(tmpdir(), "dm-run-")), "agent.sock");
  const orders = Promise.withResolvers<void>();
  const server = await grpcServer({
    listen: `unix:${socket}`,
    log: silentLogger(),
    services: [
      grpcService(Agent, {
        async *hold(requests) {
          void drain.then(() => orders.resolve());
          const reading = (async () => {
            for await (const report of requests) reports.push(report);
          })();
          await Promise.race([orders.promise, reading]);
          yield { drain: true, graceMs: 1_000 };
          await reading;
        },
      }),
    ],
  });
  return { server, socket };
}

function child(socket: string, body: string): { exit: Promise<number | null>; log: () => string } {
  const script = join(mkdtempSync(join(tmpdir(), "dm-child-")), "main.ts");
  writeFileSync(
    script,
    `import { runService } from ${JSON.stringify(RUN)};\nawait runService("test", async () => {${body}});`,
  );
  const env = { ...process.env, DRIFTMESH_CHILD: "replica/r1", DRIFTMESH_AGENT_SOCKET: socket };
  const running = spawn(process.execPath, [script], { env, stdio: ["ignore", "ignore", "pipe"] });
  children.push(running);
  let text = "";
  running.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
  return { exit: new Promise((resolve) => running.once("exit", resolve)), log: () => text };
}

const SERVICE = `setInterval(() => {}, 1000); let drained = false;
  return { address: "127.0.0.1:9", lastNumber: () => (drained ? 8 : 7), drain: async () => { drained = true; },
  async [Symbol.asyncDispose]() { console.error("disposed"); } };`;

test("a child reports itself, drains when its agent says so, and ends with 0 after disposing", async () => {
  const reports: Report[] = [];
  const order = Promise.withResolvers<void>();
  const { server, socket } = await agent(reports, order.promise);
  const { exit, log } = child(socket, SERVICE);
  await expect.poll(() => reports.at(-1)?.state, { timeout: 10_000 }).toBe("ready");
  expect(reports.at(-1)).toMatchObject({ child: "replica/r1", address: "127.0.0.1:9" });
  await expect.poll(() => reports.at(-1)?.lastNumber).toBe(7n);
  order.resolve();
  expect(await exit).toBe(0);
  expect(reports.at(-1)).toMatchObject({ state: "draining", lastNumber: 8n });
  expect(log()).toContain("disposed");
  await server[Symbol.asyncDispose]();
});

test("a child ends at SIGTERM, and holds on to an agent that was started again", async () => {
  const reports: Report[] = [];
  const first = await agent(reports, new Promise(() => undefined));
  const { exit } = child(first.socket, SERVICE);
  await expect.poll(() => reports.at(-1)?.state, { timeout: 10_000 }).toBe("ready");
  await first.server[Symbol.asyncDispose]();
  const again: Report[] = [];
  const second = await grpcServer({
    listen: `unix:${first.socket}`,
    log: silentLogger(),
    services: [
      grpcService(Agent, {
        async *hold(requests) {
          for await (const report of requests) again.push(report);
          yield { drain: false };
        },
      }),
    ],
  });
  await expect.poll(() => again.at(-1)?.state, { timeout: 10_000 }).toBe("ready");
  children.at(-1)?.kill("SIGTERM");
  expect(await exit).toBe(0);
  await second[Symbol.asyncDispose]();
});

test("a child that cannot start tells its agent why and ends with 1", async () => {
  const reports: Report[] = [];
  const { server, socket } = await agent(reports, new Promise(() => undefined));
  const { exit, log } = child(socket, `throw new Error("the port is taken");`);
  expect(await exit).toBe(1);
  expect(reports.at(-1)).toMatchObject({ state: "starting", reason: "the port is taken" });
  expect(log()).toContain("process.failed");
  await server[Symbol.asyncDispose]();
});
