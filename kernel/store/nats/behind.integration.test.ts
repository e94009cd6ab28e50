// Readers that are more than 64 MB behind, where nats-server disconnects a client (`max_pending`).
// A reader that does not pull is held back by flow control: the server stops at 32 MB per consumer and disconnects nobody. Several readers on one
// connection whose link stalls pass 64 MB together: the server cuts them, and each goes on from its last message.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { clock, rand, testServer, type TestServer } from "../testing/nats-fixture.ts";
import { FaultyProxy } from "../testing/proxy.ts";
import { bytes, Reader, until } from "../testing/wait.ts";
import type { EventLog, LogEvent, WatchEvent } from "../ports.ts";
import { type NatsStores, openNats } from "./door.ts";

const MESSAGE_BYTES = 500_000;
const READERS = 4;

let server: TestServer;
let proxy: FaultyProxy;
let near: NatsStores;
let far: NatsStores;
let published = 0;

const open = (url: string): Promise<NatsStores> =>
  openNats({ url, credentials: server.server().credentials, name: "test", clock, rand, storageGib: 4 });

beforeEach(async () => {
  published = 0;
  server = await testServer();
  proxy = await FaultyProxy.open(server.server().port);
  near = await open(server.server().url);
  far = await open(proxy.url);
});
afterEach(async () => {
  await far[Symbol.asyncDispose]();
  await near[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

/** Adds so many megabytes to the log of records. */
async function add(log: EventLog, megabytes: number): Promise<void> {
  const until_ = published + (megabytes * 1e6) / MESSAGE_BYTES;
  const payload = new Uint8Array(MESSAGE_BYTES);
  const lane = async (): Promise<void> => {
    while (published < until_) {
      published += 1;
      await log.publish({ subject: "mesh.rec.t.m", payload, id: `r${published}` });
    }
  };
  await Promise.all(Array.from({ length: 8 }, lane));
}

/** Sequences from `from` to the newest, each exactly once, in order; nothing but messages. */
async function takeAll(reader: Reader<LogEvent>, from: number): Promise<void> {
  const expected = Array.from({ length: published - from + 1 }, (_, i) => from + i);
  const seen: unknown[] = [];
  while (seen.length < expected.length) {
    const item = await reader.next();
    seen.push(item.kind === "message" ? item.message.seq : item.kind);
  }
  expect(seen).toEqual(expected);
}

const slowConsumers = async (): Promise<string[]> =>
  (await readFile(join(server.dir, "nats-server.log"), "utf8"))
    .split("\n")
    .filter((line) => line.includes("Slow Consumer"));

const reader = (): Reader<LogEvent> =>
  new Reader((signal) => far.log("MESH_REC").read({ filter: "mesh.rec.>", fromSeq: 1 }, signal));

describe("a reader that is over 64 MB behind", () => {
  it("is held back and not disconnected while it does not pull, and then gets everything once", async () => {
    const log = near.log("MESH_REC");
    await add(log, 1);
    const idle = reader();
    await idle.take(2);
    await add(log, 100);
    await takeAll(idle, 3);
    expect(await slowConsumers()).toEqual([]);
    expect(far.status.get().value.generation).toBe(1);
    await idle.stop();
  });

  it("is not disconnected while it catches up with others on one connection", async () => {
    await add(near.log("MESH_REC"), 100);
    const readers = Array.from({ length: READERS }, reader);
    await Promise.all(readers.map((each) => takeAll(each, 1)));
    expect(await slowConsumers()).toEqual([]);
    expect(far.status.get().value.generation).toBe(1);
    await Promise.all(readers.map((each) => each.stop()));
  });

  it("is disconnected with the others of a stalled link, and each gets everything once, after few connections", async () => {
    const log = near.log("MESH_REC");
    const readers = Array.from({ length: READERS }, reader);
    const watcher = new Reader<WatchEvent>((signal) => far.state("mesh_state").watch("", signal));
    await watcher.until((item) => item.kind === "synced");
    // What flows well widens the window of each consumer, up to 32 MB.
    for (let step = 0; step < 20; step += 1) {
      const first = published + 1;
      await add(log, 4);
      await Promise.all(readers.map((each) => takeAll(each, first)));
    }
    const from = published + 1;
    expect(far.status.get().value.generation).toBe(1);
    const lost = (): boolean => !far.status.get().value.up || far.status.get().value.generation > 1;
    proxy.stall();
    await add(log, 100);
    // On a machine that publishes slowly the client's own pings are first, and find the link dead.
    await until("the connection is cut", async () => (await slowConsumers()).length > 0 || lost());
    const by = (await slowConsumers()).length > 0 ? "server" : "client";
    await near.state("mesh_state").write({ kind: "put", key: "k", value: bytes("while stalled") });
    const healedMs = clock.monotonicMs();
    proxy.heal();
    await Promise.all(readers.map((each) => takeAll(each, from)));
    expect(await watcher.next()).toMatchObject({ kind: "put", entry: { key: "k" } });
    const { generation } = far.status.get().value;
    const took = Math.round(clock.monotonicMs() - healedMs);
    process.stdout.write(
      `over 64 MB behind: ${READERS} readers of 100 MB done ${took} ms after the stall, cut by the ${by}, connection ${generation}\n`,
    );
    expect(generation).toBeGreaterThan(1);
    expect(generation).toBeLessThan(4);
    await Promise.all([...readers, watcher].map((each) => each.stop()));
  });
});
