import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "#kernel/base/clock.ts";
import { systemRand } from "#kernel/base/rand.ts";
import { closeConnections, connectClient, type Client } from "#kernel/rpc/connect.ts";
import { grpcServer, grpcService } from "#kernel/rpc/grpcjs.ts";
import { silentLogger } from "#kernel/process/log.ts";
import { FileBlobs } from "#kernel/store/file/blobs.ts";
import { MemoryEventLog } from "#kernel/store/memory/event-log.ts";
import type { NatsStores } from "#kernel/store/nats/door.ts";
import { testServer, type TestServer } from "#kernel/store/testing/nats-fixture.ts";
import { Reader, until } from "#kernel/store/testing/wait.ts";
import { NodeLog } from "#proto/driftmesh/internal/v1/agent_pb.ts";
import { Drift, type DriftEvent } from "#proto/driftmesh/v1/drift_pb.ts";
import type { Stores } from "./work/testing/world.ts";
import { World } from "./work/testing/world.ts";

const MAIN = fileURLToPath(new URL("main.ts", import.meta.url));
let dir: string;
let nats: TestServer;
let open: NatsStores;
let stores: Stores;
const children: ChildProcess[] = [];

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "driftmesh-drift-"));
  nats = await testServer();
  open = await nats.open();
  stores = {
    state: open.state("mesh_drift"),
    records: open.log("MESH_REC"),
    feedback: open.log("MESH_FB"),
    panes: open.log("MESH_PANE"),
    events: open.log("MESH_EVENT"),
    blobs: new FileBlobs({ dir: join(dir, "blobs"), rand: systemRand }),
  };
}, 60_000);

afterAll(async () => {
  closeConnections();
  for (const child of children) child.kill("SIGKILL");
  await open[Symbol.asyncDispose]();
  await nats[Symbol.asyncDispose]();
  await rm(dir, { recursive: true, force: true });
});

/** Starts drift/main.ts as the agent does and waits for its address. */
async function start(env: Record<string, string>): Promise<{ child: ChildProcess; address: string }> {
  const { url, credentials } = nats.server();
  const child = spawn(process.execPath, [MAIN], {
    stdio: ["ignore", "ignore", "pipe"],
    env: {
      PATH: process.env["PATH"] ?? "",
      DRIFTMESH_NATS_URL: url,
      DRIFTMESH_NATS_CREDENTIALS: JSON.stringify(credentials),
      DRIFTMESH_BLOBS: join(dir, "blobs"),
      DRIFTMESH_LISTEN: "127.0.0.1:0",
      ...env,
    },
  });
  children.push(child);
  let said = "";
  let address = "";
  child.stderr?.on("data", (part: Buffer) => {
    said += part.toString();
    address ||= /"address":"([^"]+)"/.exec(said)?.[1] ?? "";
  });
  await until(`drift is ready; it said ${said}`, () => address !== "" || child.exitCode !== null);
  if (address === "") throw new Error(`drift ended: ${said}`);
  return { child, address };
}

async function kill(child: ChildProcess): Promise<void> {
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}

const labelledOf = async (client: Client<typeof Drift>, model: string, scope = ""): Promise<number> => {
  const { panes } = await client.listPanes({ model, scope, pageSize: 1000 }).catch(() => ({ panes: [] }));
  return panes.reduce((sum, pane) => sum + Number(pane.labelled), 0);
};

describe("the drift service on a real nats-server", () => {
  test("judges, answers, watches, replays, and goes on where it was killed", async () => {
    const world = new World(stores, { track: 5 });
    await world.begin();
    for (let day = 0; day < 3; day++) await world.day();
    const first = await start({ DRIFTMESH_ROLE: "mesh" });
    const before = connectClient(Drift, first.address);
    await until("two days are labelled", async () => (await labelledOf(before, "sizes")) === 800);
    await kill(first.child);

    for (const twist of [{ sizeTimes: 100 }, { sizeTimes: 100 }, {}]) await world.day(twist);
    const second = await start({});
    const drift = connectClient(Drift, second.address);
    await until("five days are labelled, each row once", async () => (await labelledOf(drift, "sizes")) === 2000);
    const verdict = await drift.getVerdict({ model: "sizes" });
    expect(verdict).toMatchObject({ model: "sizes", scope: "open", track: 5, champion: 1 });
    const { episodes } = await drift.listEpisodes({ model: "sizes" });
    expect(episodes.map((episode) => episode.class)).toContain("quality");
    for (const decision of [verdict.decision, ...episodes.map((episode) => episode.decision)]) {
      expect(await drift.replay({ decision })).toMatchObject({ identical: true });
    }
    const reader = new Reader<DriftEvent>((signal) => drift.watchDrift({ model: "sizes" }, { signal }));
    const told = await reader.until(({ event }) => event.case === "episode");
    expect(told.at(-1)?.event.value).toMatchObject({ model: "sizes" });
    await reader.stop().catch(() => undefined);

    await expect(drift.getVerdict({ model: "size" })).rejects.toThrow(
      'drift knows no model "size"; did you mean sizes?',
    );
    await expect(drift.getVerdict({ model: "sizes", scope: "node/x" })).rejects.toThrow("it has open");
    await expect(drift.listPanes({ model: "sizes", pageToken: "zzz" })).rejects.toThrow("page token");
    await expect(drift.replay({ decision: "episode-5-1" })).rejects.toThrow("no decision episode-5-1 is kept");
    const { panes, nextPageToken } = await drift.listPanes({ model: "sizes", pageSize: 4 });
    const rest = await drift.listPanes({ model: "sizes", pageSize: 4, pageToken: nextPageToken });
    expect([panes.length, rest.panes.length, rest.nextPageToken]).toEqual([4, 2, ""]);
    await kill(second.child);
  }, 90_000);

  test("joins a strict node from its own streams: rows stay in its folder, panes and names of segments leave", async () => {
    const logs = new Map(["MESH_REC", "MESH_FB"].map((name) => [name, new MemoryEventLog(systemClock)]));
    const logOf = (stream: string): MemoryEventLog => logs.get(stream) ?? new MemoryEventLog(systemClock);
    const socket = join(dir, "agent.sock");
    await using agent = await grpcServer({
      listen: `unix:${socket}`,
      log: silentLogger(),
      services: [
        grpcService(NodeLog, {
          async *read({ stream, filter, fromSeq }, call) {
            for await (const event of logOf(stream).read({ filter, fromSeq: Number(fromSeq) }, call.signal)) {
              if (event.kind !== "message") continue;
              const { seq, subject, payload, timeMs } = event.message;
              yield { seq: BigInt(seq), subject, payload, timeMs: BigInt(timeMs), gapFirstSeq: 0n };
            }
          },
          async info({ stream }) {
            const { firstSeq, lastSeq, createdMs } = await logOf(stream).info();
            return { firstSeq: BigInt(firstSeq), lastSeq: BigInt(lastSeq), createdMs: BigInt(createdMs) };
          },
        }),
      ],
    });
    const data = join(dir, "clinic");
    const world = new World(
      { ...stores, records: logOf("MESH_REC"), feedback: logOf("MESH_FB") },
      { track: 6, boot: 60 },
    );
    await world.begin({ model: "secret", scope: "node/clinic" });
    for (let day = 0; day < 4; day++) await world.day({ kind: "MARKER-4711" });
    const mesh = await start({});
    const node = { DRIFTMESH_ROLE: "node", DRIFTMESH_NODE: "clinic", DRIFTMESH_NODE_DATA: data };
    const joiner = await start({ ...node, DRIFTMESH_AGENT_SOCKET: agent.address.replace("unix:", "") });
    const drift = connectClient(Drift, mesh.address);
    await until("three days are labelled", async () => (await labelledOf(drift, "secret", "node/clinic")) === 1200);
    await until("three segments are named", async () => (await stores.state.list("segment.6.")).length === 3);
    const inside = await allText(data);
    expect(inside.includes("MARKER-4711")).toBe(true);
    const outside = (await allText(join(dir, "blobs"))) + (await streamText());
    expect(outside.includes("MARKER-4711")).toBe(false);
    await kill(joiner.child);
    await kill(mesh.child);
  }, 90_000);
});

async function allText(folder: string): Promise<string> {
  const files = (await readdir(folder, { recursive: true, withFileTypes: true })).filter((file) => file.isFile());
  const texts = await Promise.all(files.map(({ parentPath, name }) => readFile(join(parentPath, name), "latin1")));
  return texts.join("\n");
}

async function streamText(): Promise<string> {
  const entries = await stores.state.list("");
  let text = entries.map(({ value }) => Buffer.from(value).toString("latin1")).join("\n");
  for (const log of [stores.records, stores.feedback, stores.panes, stores.events]) {
    const { lastSeq } = await log.info();
    if (lastSeq === 0) continue;
    for await (const event of log.read({ filter: "mesh.>", fromSeq: 1 }, new AbortController().signal)) {
      if (event.kind !== "message") continue;
      text += Buffer.from(event.message.payload).toString("latin1");
      if (event.message.seq >= lastSeq) break;
    }
  }
  return text;
}
