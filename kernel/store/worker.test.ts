import { describe, expect, it } from "vitest";
import { VirtualClock } from "../base/clock.ts";
import { seededRand } from "../base/rand.ts";
import { advance, bytes, textOf } from "./testing/wait.ts";
import { MemoryEventLog } from "./memory/event-log.ts";
import { MemoryStateStore } from "./memory/state-store.ts";
import { type Progress, runWorker, snapshotKey, type SnapshotCodec, type WorkerEnd } from "./worker.ts";

type Sum = { count: number; total: number; gaps: number };

const codec: SnapshotCodec<Sum> = {
  empty: () => ({ count: 0, total: 0, gaps: 0 }),
  encode: (progress) => bytes(JSON.stringify(progress)),
  decode: (value) => {
    const progress: Progress<Sum> = JSON.parse(textOf(value) ?? "");
    return progress;
  },
};

function house(): {
  clock: VirtualClock;
  log: MemoryEventLog;
  store: MemoryStateStore;
  publish: (from: number, to: number) => Promise<void>;
  worker: (limits?: { everyMessages?: number; everyMs?: number }) => {
    ends: WorkerEnd[];
    stop: () => void;
    done: Promise<void>;
  };
  saved: () => Promise<Progress<Sum> | undefined>;
} {
  const clock = new VirtualClock();
  const log = new MemoryEventLog(clock);
  const store = new MemoryStateStore();
  return {
    clock,
    log,
    store,
    publish: async (from, to) => {
      for (let i = from; i <= to; i += 1)
        await log.publish({ subject: "mesh.pane.0.1", payload: bytes(String(i)), id: `n${i}` });
    },
    worker: (limits = {}) => {
      const ends: WorkerEnd[] = [];
      const stop = new AbortController();
      const done = runWorker({
        log,
        filter: "mesh.pane.0.>",
        clock,
        ...snapshotKey(store, "snap.1", codec),
        apply: (sum, message) => {
          sum.count += 1;
          sum.total += Number(textOf(message.payload));
        },
        gap: (sum) => {
          sum.gaps += 1;
        },
        ...limits,
        signal: stop.signal,
      }).then((end) => void ends.push(end));
      return { ends, stop: () => stop.abort(), done };
    },
    saved: async () => {
      const entry = await store.get("snap.1");
      return entry === undefined ? undefined : codec.decode(entry.value);
    },
  };
}

describe("runWorker", () => {
  it("saves after so many messages, with the cursor of the last one", async () => {
    const { clock, store, publish, worker, saved } = house();
    await publish(1, 10);
    const run = worker({ everyMessages: 5 });
    let revision = 0;
    await advance(clock, "two saves", () => {
      void store.get("snap.1").then((entry) => (revision = entry?.revision ?? 0));
      return revision === 2;
    });
    expect(await saved()).toMatchObject({ cursor: 10, state: { count: 10, total: 55 } });
    run.stop();
    await run.done;
    expect(run.ends).toEqual(["stopped"]);
  });

  it("saves some time after the first unsaved message, however few there are", async () => {
    const { clock, publish, worker, saved } = house();
    await publish(1, 1);
    const run = worker({ everyMs: 5_000 });
    const startMs = clock.monotonicMs();
    await advance(clock, "five seconds have passed", () => clock.monotonicMs() >= startMs + 5_000);
    await advance(clock, "a save", () => true);
    expect(await saved()).toMatchObject({ cursor: 1, state: { count: 1 } });
    run.stop();
    await run.done;
  });

  it("counts every message once over any sequence of stops", async () => {
    const { publish, worker, saved, clock } = house();
    const rand = seededRand(7);
    let published = 0;
    for (let turn = 0; turn < 10; turn += 1) {
      const more = rand.below(20);
      await publish(published + 1, published + more);
      published += more;
      const run = worker({ everyMessages: 1 + rand.below(7) });
      await advance(clock, "some progress", () => true);
      run.stop();
      await run.done;
    }
    const run = worker();
    await advance(clock, "the rest", () => true);
    run.stop();
    await run.done;
    expect((await saved())?.state).toEqual({ count: published, total: (published * (published + 1)) / 2, gaps: 0 });
  });

  it("stops as superseded when another worker has saved, and changes nothing", async () => {
    const { clock, publish, worker, saved } = house();
    await publish(1, 3);
    const first = worker({ everyMessages: 1_000, everyMs: 60_000 });
    await advance(clock, "the first has applied", () => true);
    const second = worker({ everyMessages: 1 });
    await advance(clock, "both have ended or saved", () => true);
    await publish(4, 4);
    await advance(clock, "the first gives up", () => first.ends.length === 1);
    expect(first.ends).toEqual(["superseded"]);
    second.stop();
    await second.done;
    expect(await saved()).toMatchObject({ cursor: 4, state: { count: 4, total: 10 } });
  });

  it("reports what expired unread", async () => {
    const { clock, log, publish, worker, saved } = house();
    await publish(1, 5);
    log.expireBefore(4);
    const run = worker({ everyMessages: 1 });
    await advance(clock, "it has read", () => true);
    run.stop();
    await run.done;
    expect(await saved()).toMatchObject({ cursor: 5, state: { count: 2, total: 9, gaps: 1 } });
  });

  it("refuses a state that belongs to another log", async () => {
    const { store, worker } = house();
    const foreign = { state: codec.empty(), cursor: 7, logCreatedMs: 12345 };
    await store.write({ kind: "create", key: "snap.1", value: codec.encode(foreign) });
    const run = worker();
    await run.done;
    expect(run.ends).toEqual(["replaced"]);
  });
});
