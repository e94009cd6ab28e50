import { describe, expect, it } from "vitest";
import { VirtualClock } from "../base/clock.ts";
import { seededRand } from "../base/rand.ts";
import { advance, bytes } from "./testing/wait.ts";
import { campaign, type LeaseDeps } from "./lease.ts";
import { MemoryStateStore } from "./memory/state-store.ts";
import type { Guard, Leadership, StateStore, Write, WriteResult } from "./ports.ts";

const TTL_MS = 15_000;

type Candidate = { won: Leadership[]; stop: AbortController };

function house(): {
  clock: VirtualClock;
  store: MemoryStateStore;
  candidate: (name: string, store?: StateStore) => Candidate;
} {
  const clock = new VirtualClock();
  const store = new MemoryStateStore();
  let seed = 0;
  const candidate = (name: string, through: StateStore = store): Candidate => {
    const made: Candidate = { won: [], stop: new AbortController() };
    const deps: LeaseDeps = { store: through, clock, rand: seededRand(++seed), holder: name, ttlMs: TTL_MS };
    campaign(deps, "leader", made.stop.signal).then(
      (leadership) => made.won.push(leadership),
      () => undefined,
    );
    return made;
  };
  return { clock, store, candidate };
}

/** A store that can be cut off: writes and reads hang up with an error, or are carried out and the answer is lost. */
class Wire implements StateStore {
  mode: "open" | "cut" | "answers-lost" = "open";
  readonly #store: StateStore;
  constructor(store: StateStore) {
    this.#store = store;
  }
  get: StateStore["get"] = async (key) => this.#over(() => this.#store.get(key));
  list: StateStore["list"] = async (prefix) => this.#over(() => this.#store.list(prefix));
  write = async (write: Write, guard?: Guard): Promise<WriteResult> =>
    this.#over(() => this.#store.write(write, guard));
  batch: StateStore["batch"] = async (writes, guard) => this.#over(() => this.#store.batch(writes, guard));
  watch: StateStore["watch"] = (prefix, signal) => this.#store.watch(prefix, signal);
  close: StateStore["close"] = () => this.#store.close();
  async #over<T>(call: () => Promise<T>): Promise<T> {
    if (this.mode === "cut") throw new Error("cut");
    const answer = await call();
    if (this.mode === "answers-lost") {
      this.mode = "open";
      throw new Error("answer lost");
    }
    return answer;
  }
}

describe("campaign", () => {
  it("gives the first candidate term 1 and a guard that lets it write", async () => {
    const { clock, store, candidate } = house();
    const a = candidate("a");
    await advance(clock, "a leads", () => a.won.length === 1);
    const leader = a.won[0];
    expect(leader?.term).toBe(1);
    expect(leader?.valid()).toBe(true);
    expect((await store.write({ kind: "put", key: "x", value: bytes("1") }, leader?.guard)).kind).toBe("written");
    await leader?.release();
  });

  it("keeps a living leader through many lease times, with the same guard", async () => {
    const { clock, candidate } = house();
    const a = candidate("a");
    await advance(clock, "a leads", () => a.won.length === 1);
    const b = candidate("b");
    const untilMs = clock.monotonicMs() + 10 * TTL_MS;
    await advance(clock, "ten lease times have passed", () => clock.monotonicMs() >= untilMs);
    expect(b.won).toHaveLength(0);
    expect(a.won[0]?.valid()).toBe(true);
    b.stop.abort();
    await a.won[0]?.release();
  });

  it("hands over at once when the leader releases, under the next term", async () => {
    const { clock, candidate } = house();
    const a = candidate("a");
    await advance(clock, "a leads", () => a.won.length === 1);
    const b = candidate("b");
    await a.won[0]?.release();
    const atMs = clock.monotonicMs();
    await advance(clock, "b leads", () => b.won.length === 1);
    expect(b.won[0]?.term).toBe(2);
    expect(clock.monotonicMs() - atMs).toBeLessThan(TTL_MS / 5);
    expect(a.won[0]?.lost.aborted).toBe(true);
    await b.won[0]?.release();
  });

  it("lets a cut-off leader know that it lost before anybody else can lead, and fences its late writes", async () => {
    const { clock, store, candidate } = house();
    const wire = new Wire(store);
    const a = candidate("a", wire);
    await advance(clock, "a leads", () => a.won.length === 1);
    const b = candidate("b");
    wire.mode = "cut";
    let lostBeforeTakeover = false;
    await advance(clock, "b leads", () => {
      if (b.won.length === 0) lostBeforeTakeover ||= a.won[0]?.lost.aborted === true;
      return b.won.length === 1;
    });
    expect(lostBeforeTakeover).toBe(true);
    expect(a.won[0]?.valid()).toBe(false);
    expect(b.won[0]?.term).toBe(2);
    const late = await store.write({ kind: "put", key: "x", value: bytes("zombie") }, a.won[0]?.guard);
    expect(late).toEqual({ kind: "fenced" });
    await b.won[0]?.release();
  });

  it("goes on leading when the answer to a renewal is lost", async () => {
    const { clock, store, candidate } = house();
    const wire = new Wire(store);
    const a = candidate("a", wire);
    await advance(clock, "a leads", () => a.won.length === 1);
    wire.mode = "answers-lost";
    const untilMs = clock.monotonicMs() + 4 * TTL_MS;
    await advance(clock, "four lease times have passed", () => clock.monotonicMs() >= untilMs);
    expect(wire.mode).toBe("open");
    expect(a.won[0]?.valid()).toBe(true);
    await a.won[0]?.release();
  });

  it("recognises a takeover of its own whose answer was lost", async () => {
    const { clock, store, candidate } = house();
    let calls = 0;
    const wire = new Wire(store);
    const batch = wire.batch;
    wire.batch = async (writes, guard) => {
      if (calls++ === 0) wire.mode = "answers-lost";
      return batch(writes, guard);
    };
    const a = candidate("a", wire);
    await advance(clock, "a leads", () => a.won.length === 1);
    expect(calls).toBe(1);
    expect(a.won[0]?.term).toBe(1);
    await a.won[0]?.release();
  });

  it("lets one of many candidates lead at any time, with terms that only grow", async () => {
    const { clock, candidate } = house();
    const candidates = ["a", "b", "c", "d"].map((name) => candidate(name));
    const terms: number[] = [];
    for (let turn = 0; turn < 4; turn += 1) {
      const leading = (): Leadership[] => candidates.flatMap((c) => c.won).filter((leader) => leader.valid());
      await advance(clock, "somebody leads", () => leading().length > 0);
      expect(leading()).toHaveLength(1);
      terms.push(leading()[0]?.term ?? 0);
      await leading()[0]?.release();
    }
    expect(terms).toEqual([1, 2, 3, 4]);
  });

  it("ends when its signal aborts", async () => {
    const { clock, store, candidate } = house();
    const a = candidate("a");
    await advance(clock, "a leads", () => a.won.length === 1);
    const stop = new AbortController();
    const waiting = campaign({ store, clock, rand: seededRand(9), holder: "b", ttlMs: TTL_MS }, "leader", stop.signal);
    stop.abort(new Error("enough"));
    await expect(waiting).rejects.toThrow();
    await a.won[0]?.release();
  });
});
