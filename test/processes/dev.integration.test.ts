import { Command } from "commander";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { processBegan } from "#kernel/store/lock.ts";
import * as dev from "../../cli/commands/dev.ts";
import { livingHost, readHost, stopMesh } from "../../cli/local/door.ts";
import { testContext, type TestContext } from "./context.ts";
import { REPOSITORY, standIn, type StandIn } from "./stand-in.ts";

let place: StandIn;
let context: TestContext;
beforeEach(async () => {
  place = await standIn();
  context = testContext({ ...place, format: "json" });
});
afterEach(async () => {
  await stopMesh(context);
  await place[Symbol.asyncDispose]();
});

async function run(...args: readonly string[]): Promise<number> {
  const command = new Command("dev").exitOverride();
  dev.describe(command);
  command.parse([...args], { from: "user" });
  return await dev.run(context, command);
}

type Facts = { server: string; agentPid: number; services: { name: string; pid: number }[] };
const facts = (): Facts => JSON.parse(context.out[0] ?? "{}") as Facts;

test("dev --detach prints one machine-readable line when every part is ready", async () => {
  expect(await run("--port", "0", "--detach")).toBe(0);
  expect(context.out).toHaveLength(1);
  expect(facts().services.map(({ name }) => name)).toEqual(["nats-server", "control-plane", "drift", "gateway"]);
  expect(facts().server).toMatch(/^127\.0\.0\.1:\d+$/);
});

test("Ctrl-C ends agent and children, none is left", async () => {
  const running = run("--port", "0");
  await expect.poll(() => context.out.length, { timeout: 30_000 }).toBe(1);
  const { agentPid, services } = facts();
  context.interrupt();
  expect(await running).toBe(0);
  for (const pid of [agentPid, ...services.map((service) => service.pid)])
    expect(await processBegan(pid)).toBeUndefined();
  expect((await readHost(place.data))?.children).toEqual([]);
});

test("stop ends a detached mesh, and says so when nothing runs", async () => {
  await run("--port", "0", "--detach");
  expect(await stopMesh(context)).toBe(true);
  for (const { pid } of facts().services) expect(await processBegan(pid)).toBeUndefined();
  expect(await stopMesh(context)).toBe(false);
});

test("a second dev on the same data folder is refused with the pid of the first", async () => {
  await run("--port", "0", "--detach");
  await expect(run("--port", "0", "--detach")).rejects.toMatchObject({
    fault: "DM-6005",
    message: expect.stringContaining(`pid ${facts().agentPid}`),
  });
  expect(await livingHost(place.data)).toBeDefined();
});

test("a port that is taken is named, and nothing is started", async () => {
  const other = createServer();
  await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
  const bound = other.address();
  const port = typeof bound === "object" && bound !== null ? bound.port : 0;
  await expect(run("--port", String(port), "--detach")).rejects.toMatchObject({
    fault: "DM-6004",
    message: `port ${port} on 127.0.0.1 is taken by another program`,
  });
  expect(await readHost(place.data)).toBeUndefined();
  await new Promise((resolve) => other.close(resolve));
});

test("an address beyond loopback is refused with a sentence", async () => {
  await expect(run("--host", "0.0.0.0")).rejects.toMatchObject({ fault: "DM-6006", message: /only loopback/ });
});

test("a node that makes no sense is refused before anything is started", async () => {
  await expect(run("--node", "clinic:cpu=many")).rejects.toThrow(/cpu=many/);
  await expect(run("--node", "a", "--node", "a")).rejects.toThrow(/named twice/);
});

test("a nats-server that is missing is named with what to install", async () => {
  context = { ...context, env: { ...context.env, DRIFTMESH_NATS_SERVER: "/no/such/nats-server" } };
  await expect(run("--port", "0", "--detach")).rejects.toMatchObject({ fault: "DM-6003" });
});

test("a service that cannot stay up is named with what it said last, and nothing is left", async () => {
  const broken = `import { runService } from "${REPOSITORY}/kernel/process/run.ts";
await runService("drift", () => Promise.reject(new Error("the moon is missing")));`;
  await writeFile(join(place.root, "drift/main.ts"), broken);
  await expect(run("--port", "0", "--detach")).rejects.toThrow(
    /drift does not stay up: the moon is missing; its log is/,
  );
  expect(await livingHost(place.data)).toBeUndefined();
  expect((await readHost(place.data))?.children).toEqual([]);
});

test("a data folder with a long path gets a socket elsewhere", async () => {
  const data = join(place.data, "x".repeat(120));
  await mkdir(data, { recursive: true });
  context = testContext({ root: place.root, data, format: "json" });
  expect(await run("--port", "0", "--detach")).toBe(0);
  expect(Buffer.byteLength((await readHost(data))?.socket ?? "")).toBeLessThanOrEqual(100);
});

test("after the agent was killed, dev on the same port takes over from what still serves there", async () => {
  await run("--port", "0", "--detach");
  const { server, agentPid, services } = facts();
  process.kill(agentPid, "SIGKILL");
  await expect.poll(() => processBegan(agentPid)).toBeUndefined();
  expect(await run("--port", server.split(":")[1] ?? "", "--detach")).toBe(0);
  const gateway = services.find(({ name }) => name === "gateway");
  expect(await processBegan(gateway?.pid ?? 0)).toBeUndefined();
});
