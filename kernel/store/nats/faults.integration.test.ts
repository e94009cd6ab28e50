// The faults of the research page, with a real nats-server: each test is one row of its failure matrix.
import { type ChildProcess, spawn } from "node:child_process";
import { cp, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { clock, rand, testServer, type TestServer } from "../testing/nats-fixture.ts";
import { FaultyProxy } from "../testing/proxy.ts";
import { bytes, Reader, textOf, until } from "../testing/wait.ts";
import { sumCodec } from "../testing/worker-child.ts";
import { campaign } from "../lease.ts";
import type { EventLog, LogEvent, Publication, StateStore, WatchEvent } from "../ports.ts";
import type { NatsStores } from "./door.ts";

/** How long the server stands still: 20 s in the long run, as the order asks. */
const FROZEN_MS = 20_000;

let server: TestServer;
let proxy: FaultyProxy;
/** Through the proxy, and straight. */
let far: NatsStores;
let near: NatsStores;

beforeEach(async () => {
  server = await testServer();
  proxy = await FaultyProxy.open(server.server().port);
  near = await server.open();
  far = await server.open(proxy.url);
});
afterEach(async () => {
  await far[Symbol.asyncDispose]();
  await near[Symbol.asyncDispose]();
  await proxy[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const put = (store: StateStore, key: string, value: string): ReturnType<StateStore["write"]> =>
  store.write({ kind: "put", key, value: bytes(value) });
const event = (i: number): Publication => ({ subject: "mesh.event.k.m", payload: bytes(String(i)), id: `n${i}` });
const watch = (store: StateStore): Reader<WatchEvent> => new Reader((signal) => store.watch("", signal));
const read = (log: EventLog, fromSeq = 1): Reader<LogEvent> =>
  new Reader((signal) => log.read({ filter: "mesh.event.>", fromSeq }, signal));
const isValue = (value: string) => (item: WatchEvent) => item.kind === "put" && textOf(item.entry.value) === value;

/** Payloads of the whole log, as numbers. */
async function stored(log: EventLog): Promise<number[]> {
  const { lastSeq } = await log.info();
  const reader = read(log);
  const events =
    lastSeq === 0 ? [] : await reader.until((item) => item.kind === "message" && item.message.seq === lastSeq);
  await reader.stop();
  return events.flatMap((item) => (item.kind === "message" ? [Number(textOf(item.message.payload))] : []));
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);
const sorted = (numbers: number[]): number[] => numbers.toSorted((a, b) => a - b);

describe("a link that swallows, then is cut", () => {
  it("does not hide the update that was in flight from a watcher", async () => {
    const reader = watch(far.state("mesh_state"));
    expect(await reader.next()).toEqual({ kind: "synced" });
    proxy.swallow("to-client");
    await put(near.state("mesh_state"), "k", "in flight");
    proxy.cut();
    expect(await reader.next()).toMatchObject({ kind: "put", entry: { key: "k" } });
    await put(near.state("mesh_state"), "k", "after");
    await reader.until(isValue("after"));
    await reader.stop();
  });

  it("does not hide an update even when it is never cut", async () => {
    const reader = watch(far.state("mesh_state"));
    expect(await reader.next()).toEqual({ kind: "synced" });
    proxy.swallow("to-client");
    await put(near.state("mesh_state"), "k", "in flight");
    // Nothing ends this connection but the client's own unanswered pings.
    await until("the client gives the connection up", () => !far.status.get().value.up);
    proxy.heal();
    await reader.until(isValue("in flight"));
    await reader.stop();
  });

  it("does not hide messages in flight from a reader of a log, nor repeat any", async () => {
    const reader = read(far.log("MESH_EVENT"));
    const log = near.log("MESH_EVENT");
    for (const i of [0, 1]) await log.publish(event(i));
    await reader.take(2);
    proxy.swallow("to-client");
    for (const i of [2, 3]) await log.publish(event(i));
    proxy.cut();
    await log.publish(event(4));
    const events = await reader.take(3);
    expect(events.map((item) => (item.kind === "message" ? item.message.seq : item.kind))).toEqual([3, 4, 5]);
    await reader.stop();
  });

  it.each([["to-server"], ["to-client"]] as const)(
    "loses and doubles no publish when bytes vanish %s",
    async (direction) => {
      const log = far.log("MESH_EVENT");
      for (const i of upTo(50)) await log.publish(event(i));
      proxy.swallow(direction);
      const accepted = upTo(300)
        .slice(50)
        .map((i) => log.publish(event(i)));
      proxy.cut(true);
      await until("the client knows", () => !far.status.get().value.up);
      accepted.push(...[300, 301].map((i) => log.publish(event(i))));
      proxy.heal();
      await Promise.all(accepted);
      expect(sorted(await stored(near.log("MESH_EVENT")))).toEqual(upTo(302));
    },
  );

  it("finds out that a write whose answer vanished was carried out, with its revision", async () => {
    const store = far.state("mesh_state");
    const observer = near.state("mesh_state");
    const created = await store.write({ kind: "create", key: "k", value: bytes("0") });
    if (created.kind !== "written") throw new Error(created.kind);
    const writes = [
      () => store.write({ kind: "update", key: "k", value: bytes("1"), revision: created.revision }),
      () => store.write({ kind: "create", key: "fresh", value: bytes("1") }),
      () => put(store, "plain", "1"),
      () =>
        store.batch([
          { kind: "create", key: "a", value: bytes("1") },
          { kind: "create", key: "b", value: bytes("1") },
        ]),
    ];
    for (const [i, key] of ["k", "fresh", "plain", "b"].entries()) {
      proxy.swallow("to-client");
      const result = writes[i]?.();
      await until(`${key} is there`, async () => textOf((await observer.get(key))?.value) === "1");
      const revision = (await observer.get(key))?.revision;
      if (i === 0) await put(observer, key, "overwritten by another");
      proxy.cut();
      expect(await result).toEqual({ kind: "written", revision });
    }
  });

  it("finds out that a write which vanished was not carried out, and does it once", async () => {
    const store = far.state("mesh_state");
    proxy.swallow("to-server");
    const result = store.write({ kind: "create", key: "k", value: bytes("1") });
    proxy.cut();
    expect((await result).kind).toBe("written");
    proxy.swallow("to-server");
    const beaten = store.write({ kind: "create", key: "k2", value: bytes("late") });
    await put(near.state("mesh_state"), "k2", "another was first");
    proxy.cut();
    expect(await beaten).toEqual({ kind: "stale", key: "k2" });
  });
});

describe("a server that stands still", () => {
  it(`loses nothing, doubles nothing and goes on after ${FROZEN_MS / 1000} s`, async () => {
    const log = near.log("MESH_EVENT");
    const store = near.state("mesh_state");
    const reader = watch(store);
    expect(await reader.next()).toEqual({ kind: "synced" });
    const { pid } = server.server();
    const before = upTo(100).map((i) => log.publish(event(i)));
    process.kill(pid, "SIGSTOP");
    try {
      const during = upTo(300)
        .slice(100)
        .map((i) => log.publish(event(i)));
      const write = store.write({ kind: "create", key: "k", value: bytes("frozen") });
      // The fault itself has a length; nothing is waited for here.
      await clock.sleep(FROZEN_MS);
      process.kill(pid, "SIGCONT");
      await Promise.all([...before, ...during]);
      expect((await write).kind).toBe("written");
    } finally {
      process.kill(pid, "SIGCONT");
    }
    expect(sorted(await stored(log))).toEqual(upTo(300));
    await reader.until(isValue("frozen"));
    await reader.stop();
  });

  it("costs a leader its lease before anybody else can have it", async () => {
    const stop = new AbortController();
    const lead = (holder: string): ReturnType<typeof campaign> =>
      campaign({ store: near.state("mesh_state"), clock, rand, holder, ttlMs: 2_000 }, "leader", stop.signal);
    const first = await lead("a");
    const second = lead("b");
    process.kill(server.server().pid, "SIGSTOP");
    try {
      await until("the leader knows that it lost", () => first.lost.aborted && !first.valid());
    } finally {
      process.kill(server.server().pid, "SIGCONT");
    }
    const next = await second;
    expect(next.term).toBe(2);
    const late = await near.state("mesh_state").write({ kind: "put", key: "x", value: bytes("zombie") }, first.guard);
    expect(late).toEqual({ kind: "fenced" });
    await next.release();
    await first.release();
  });
});

describe("a server that is killed and started again", () => {
  it("has everything it acknowledged, once, and watchers and readers go on", async () => {
    const log = near.log("MESH_EVENT");
    const store = near.state("mesh_state");
    const reader = read(near.log("MESH_EVENT"));
    const watcher = watch(store);
    expect(await watcher.next()).toEqual({ kind: "synced" });
    const accepted = upTo(400).map((i) => log.publish(event(i)));
    await Promise.race(accepted);
    const write = put(store, "k", "during");
    await server.killAndRestart();
    accepted.push(...[400, 401].map((i) => log.publish(event(i))));
    await Promise.all(accepted);
    expect((await write).kind).toBe("written");
    expect(sorted(await stored(log))).toEqual(upTo(402));
    const seen = await reader.take(402);
    expect(seen.map((item) => (item.kind === "message" ? item.message.seq : item.kind))).toEqual(
      upTo(402).map((i) => i + 1),
    );
    await watcher.until(isValue("during"));
    await Promise.all([reader.stop(), watcher.stop()]);
  });

  it("tells watchers and readers to resync when its store was rolled back", async () => {
    const log = near.log("MESH_EVENT");
    const store = near.state("mesh_state");
    await put(store, "kept", "1");
    await log.publish(event(0));
    const dir = join(server.dir, "store");
    const copy = join(server.dir, "copy");
    await server.server().stop();
    await cp(dir, copy, { recursive: true });
    await server.start();
    const watcher = watch(store);
    const reader = read(log);
    await watcher.until((item) => item.kind === "synced");
    await reader.next();
    for (const i of [1, 2, 3]) {
      await put(store, `lost${i}`, "1");
      await log.publish(event(i));
    }
    await watcher.take(3);
    await reader.take(3);
    await server.server().stop();
    await rm(dir, { recursive: true });
    await cp(copy, dir, { recursive: true });
    await server.start();
    const events = await watcher.until((item) => item.kind === "synced");
    expect(events.map((item) => (item.kind === "put" ? item.entry.key : item.kind))).toEqual([
      "resync",
      "kept",
      "synced",
    ]);
    expect((await reader.take(2)).map((item) => (item.kind === "message" ? item.message.seq : item.kind))).toEqual([
      "resync",
      1,
    ]);
    await Promise.all([watcher.stop(), reader.stop()]);
  });
});

describe("a worker that is killed", () => {
  const CHILD = fileURLToPath(new URL("../testing/worker-child.ts", import.meta.url));
  const MESSAGES = 3_000;

  function worker(): ChildProcess {
    const { url, credentials } = server.server();
    if (!("user" in credentials)) throw new Error("a user is expected");
    const args = [CHILD, url, credentials.user, credentials.password, "100"];
    return spawn(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"] });
  }

  it("counts every message once over five kills", async () => {
    const log = near.log("MESH_PANE");
    const publish = (i: number): Promise<unknown> =>
      log.publish({ subject: `mesh.pane.1.1.${i % 3}`, payload: bytes(String(i)), id: `p${i}` });
    const snapshot = async (): ReturnType<typeof load> => load();
    const load = async (): Promise<{ cursor: number; count: number; total: number }> => {
      const entry = await near.state("mesh_drift").get("snap.1");
      if (entry === undefined) return { cursor: 0, count: 0, total: 0 };
      const { cursor, state } = sumCodec.decode(entry.value);
      return { cursor, ...state };
    };
    let published = 0;
    for (let kill = 0; kill < 5; kill += 1) {
      const child = worker();
      const until_ = published + MESSAGES / 6;
      const before = (await snapshot()).cursor;
      await Promise.all(upTo(until_).slice(published).map(publish));
      published = until_;
      await until("the worker has saved", async () => (await snapshot()).cursor > before);
      child.kill("SIGKILL");
      await until("the worker is gone", () => child.signalCode !== null);
    }
    const last = worker();
    await Promise.all(upTo(MESSAGES).slice(published).map(publish));
    await until("the worker has read everything", async () => (await snapshot()).cursor === MESSAGES);
    last.kill("SIGKILL");
    expect(await snapshot()).toEqual({ cursor: MESSAGES, count: MESSAGES, total: (MESSAGES * (MESSAGES - 1)) / 2 });
  });
});
