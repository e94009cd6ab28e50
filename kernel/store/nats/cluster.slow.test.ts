// A cluster of three under load: leader killed, watcher's node killed, one node away, all killed at once.
// In each: what was acknowledged is there, every effect counts once, and the time until the store works again is printed.
// DRIFTMESH_TEST_ALL keeps the node away for 2 min, otherwise 15 s.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cluster, Operator } from "../testing/cluster.ts";
import { clock } from "../testing/nats-fixture.ts";
import { bytes, Reader, textOf, until } from "../testing/wait.ts";
import type { EventLog, LogEvent, StateStore, WatchEvent } from "../ports.ts";
import type { NatsStores } from "./door.ts";

const AWAY_MS = process.env["DRIFTMESH_TEST_ALL"] === undefined ? 15_000 : 120_000;
const MS = 120_000;

let cluster: Cluster;
let operator: Operator;
let nats: NatsStores;

beforeAll(async () => {
  cluster = await Cluster.start();
  nats = await cluster.open();
  operator = await Operator.of(cluster);
}, MS);
afterAll(async () => {
  await operator[Symbol.asyncDispose]();
  await nats[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

/** Writers that never pause: a log of numbered messages, and a counter raised by compare-and-set. */
class Load {
  readonly #log: EventLog;
  readonly #store: StateStore;
  readonly #key: string;
  readonly #stop = new AbortController();
  readonly #work: Promise<unknown>;
  /** Numbers whose publish was acknowledged, and raises that were. */
  readonly acked: number[] = [];
  raised = 0;
  /** When the log and the store last answered, and the longest either was silent. */
  #answered = { log: clock.monotonicMs(), state: clock.monotonicMs() };
  readonly longestMs = { log: 0, state: 0 };
  #next = 0;

  constructor(stores: NatsStores, key: string) {
    this.#log = stores.log("MESH_EVENT");
    this.#store = stores.state("mesh_state");
    this.#key = key;
    const lanes = Array.from({ length: 16 }, () => this.#publish());
    this.#work = Promise.all([...lanes, this.#raise()]);
  }

  get subject(): string {
    return `mesh.event.load.${this.#key}`;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#work;
  }

  /** Waits until both have answered `count` times more. */
  async more(count: number): Promise<void> {
    const [acked, raised] = [this.acked.length + count, this.raised + count];
    await until("log and store answer", () => this.acked.length >= acked && this.raised >= raised, MS);
  }

  /** Every message once, and the counter where the answers say. */
  async verify(): Promise<void> {
    const { lastSeq } = await this.#log.info(this.subject);
    const reader = new Reader<LogEvent>((signal) => this.#log.read({ filter: this.subject, fromSeq: 1 }, signal));
    const events = await reader.until((item) => item.kind === "message" && item.message.seq >= lastSeq, MS);
    await reader.stop();
    const stored = events.flatMap((item) => (item.kind === "message" ? [Number(textOf(item.message.payload))] : []));
    expect(stored.toSorted((a, b) => a - b)).toEqual(this.acked.toSorted((a, b) => a - b));
    expect(textOf((await this.#store.get(this.#key))?.value)).toBe(String(this.raised));
  }

  async #publish(): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const n = this.#next++;
      // A publish without an answer is repeated under its id, as every caller of the port does.
      while (!(await this.#published(n)));
      this.acked.push(n);
      this.#heard("log");
    }
  }

  #published(n: number): Promise<boolean> {
    const publication = { subject: this.subject, payload: bytes(String(n)), id: `${this.#key}/${n}` };
    return this.#log.publish(publication).then(
      () => true,
      () => false,
    );
  }

  async #raise(): Promise<void> {
    const created = await this.#store.write({ kind: "create", key: this.#key, value: bytes("0") });
    if (created.kind !== "written") throw new Error(created.kind);
    let { revision } = created;
    while (!this.#stop.signal.aborted) {
      const value = bytes(String(this.raised + 1));
      const result = await this.#store.write({ kind: "update", key: this.#key, value, revision });
      if (result.kind !== "written") throw new Error(`the only writer was answered ${result.kind}`);
      revision = result.revision;
      this.raised += 1;
      this.#heard("state");
    }
  }

  #heard(which: "log" | "state"): void {
    const nowMs = clock.monotonicMs();
    this.longestMs[which] = Math.max(this.longestMs[which], nowMs - this.#answered[which]);
    this.#answered[which] = nowMs;
  }
}

function report(what: string, figures: Readonly<Record<string, number>>): void {
  const words = Object.entries(figures).map(([name, ms]) => `${name} ${(ms / 1000).toFixed(1)} s`);
  process.stdout.write(`cluster: ${what}: ${words.join(", ")}\n`);
}

/** A reader that has seen nothing but messages, in order. */
function inOrder(events: readonly LogEvent[]): void {
  const kinds = new Set(events.map((item) => item.kind));
  expect([...kinds]).toEqual(["message"]);
  const seqs = events.flatMap((item) => (item.kind === "message" ? [item.message.seq] : []));
  expect(seqs).toEqual([...new Set(seqs)].toSorted((a, b) => a - b));
}

describe("a cluster of three", () => {
  it(
    "loses and doubles nothing when the leader of the log and that of the state are killed",
    async () => {
      for (const stream of ["MESH_EVENT", "KV_mesh_state"]) {
        await operator.allCurrent();
        const load = new Load(nats, `leader-${stream}`);
        const reader = new Reader<LogEvent>((signal) =>
          nats.log("MESH_EVENT").read({ filter: load.subject, fromSeq: 1 }, signal),
        );
        await load.more(20);
        const leader = await operator.leader(stream);
        const node = cluster.node(leader);
        await node.end("SIGKILL");
        await load.more(20);
        await load.stop();
        report(`leader of ${stream} killed`, load.longestMs);
        await load.verify();
        inOrder(await reader.take(load.acked.length));
        await reader.stop();
        await node.start();
      }
    },
    MS * 2,
  );

  it(
    "shows a watcher the updates that were made while the node that pushed to it was killed",
    async () => {
      await operator.allCurrent();
      const store = nats.state("mesh_state");
      const watcher = new Reader<WatchEvent>((signal) => nats.state("mesh_state").watch("watched.", signal));
      await watcher.until((item) => item.kind === "synced");
      const node = cluster.node(await operator.consumerNode("KV_mesh_state"));
      await node.end("SIGKILL");
      const killedMs = clock.monotonicMs();
      expect((await store.write({ kind: "put", key: "watched.a", value: bytes("1") })).kind).toBe("written");
      const writtenMs = clock.monotonicMs();
      expect(await watcher.next(MS)).toMatchObject({ kind: "put", entry: { key: "watched.a" } });
      const seenMs = clock.monotonicMs();
      report("node of a watcher killed", { write: writtenMs - killedMs, seen: seenMs - killedMs });
      await watcher.stop();
      await node.start();
    },
    MS * 2,
  );

  it(
    `takes a node back that was away for ${AWAY_MS / 1000} s, and then does without another`,
    async () => {
      await operator.allCurrent();
      const load = new Load(nats, "away");
      const leader = await operator.leader("MESH_EVENT");
      const [away, other] = [cluster.node((leader + 1) % 3), cluster.node(leader)];
      await load.more(20);
      await away.end("SIGKILL");
      // The fault itself has a length; nothing is waited for here.
      await clock.sleep(AWAY_MS);
      await load.more(20);
      const silentMs = { ...load.longestMs };
      const backMs = clock.monotonicMs();
      await away.start();
      await operator.allCurrent();
      const currentMs = clock.monotonicMs();
      // Now the quorum needs the one that was away.
      await other.end("SIGKILL");
      await load.more(20);
      await load.stop();
      report("one node away, silence", silentMs);
      report("one node away, then the leader killed", { current: currentMs - backMs, ...load.longestMs });
      await load.verify();
      await other.start();
    },
    MS * 3 + AWAY_MS,
  );

  it(
    "has everything when all three were killed at once and started again",
    async () => {
      await operator.allCurrent();
      const load = new Load(nats, "all");
      const watcher = new Reader<WatchEvent>((signal) => nats.state("mesh_state").watch("later.", signal));
      await watcher.until((item) => item.kind === "synced");
      await load.more(20);
      await Promise.all(cluster.nodes.map((node) => node.end("SIGKILL")));
      await Promise.all(cluster.nodes.map((node) => node.start()));
      const startedMs = clock.monotonicMs();
      await load.more(1);
      const worksMs = clock.monotonicMs();
      await nats.state("mesh_state").write({ kind: "put", key: "later.a", value: bytes("1") });
      expect(await watcher.next(MS)).toMatchObject({ kind: "put", entry: { key: "later.a" } });
      await load.stop();
      report("all killed and started again", { works: worksMs - startedMs, ...load.longestMs });
      await load.verify();
      await watcher.stop();
    },
    MS * 2,
  );
});
