// Puts the two loops together: of the mesh (join of open tracks, verdicts of all) and of a strict node (join only).
// M1 One worker at a time: it leads role `drift`, and its saves are fenced by the term. M2 A worker that was superseded, or whose
//    leadership is lost, forgets what it has in memory and begins again from what was saved.
import { canonicalJson } from "#kernel/base/bytes.ts";
import type { Clock } from "#kernel/base/clock.ts";
import type { Rand } from "#kernel/base/rand.ts";
import { DRIFT_KEYS } from "#kernel/domain/state.ts";
import type { Logger } from "#kernel/process/log.ts";
import { campaign } from "#kernel/store/lease.ts";
import type { Blobs, EventLog, Guard, StateStore } from "#kernel/store/ports.ts";
import { STRICT_ROWS } from "../join/door.ts";
import { Board } from "./board.ts";
import type { DriftCounters } from "./counters.ts";
import { Joiner } from "./joiner.ts";
import { FileJoinStore, KvJoinStore } from "./join-store.ts";
import { Profiles } from "./profiles.ts";
import { replay, type Replayed } from "./replay.ts";
import { VerdictStore } from "./verdict-store.ts";
import { Verdicts } from "./verdicts.ts";

/** Everything the drift service of the mesh touches. */
export type DriftDeps = {
  /** KV mesh_drift. */
  state: StateStore;
  records: EventLog;
  feedback: EventLog;
  panes: EventLog;
  events: EventLog;
  blobs: Blobs;
  clock: Clock;
  rand: Rand;
  log: Logger;
  counters: DriftCounters;
  /** How long a dead worker's lease keeps others waiting (8 s by default). */
  leaseTtlMs?: number;
};

export type Drift = {
  readonly board: Board;
  /** Leads when it can, works while it leads, until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
  /** Begins without a lease, for simulations and tests: the steps are the caller's to take. */
  begin(signal: AbortSignal, guard?: Guard): Promise<DriftSteps>;
  /** Folds the stream again up to a decision; DM-2005 when it is not kept. */
  replay(decision: string, signal: AbortSignal): Promise<Replayed>;
};

export type DriftSteps = {
  joiner: Joiner;
  verdicts: Verdicts;
  /** Joins, then judges, everything that is in the logs now; saved and published when it resolves. */
  settle(): Promise<void>;
};

const LEASE_MS = 8_000;
const PAUSE_MS = 1_000;

export function createDrift(deps: DriftDeps): Drift {
  const { clock, log } = deps;
  const board = new Board();
  const profiles = new Profiles(deps.blobs);

  async function begin(signal: AbortSignal, guard?: Guard): Promise<DriftSteps> {
    const fence = guard === undefined ? {} : { guard };
    const rim = { clock, log, counters: deps.counters, profiles, panes: deps.panes };
    const joinStore = new KvJoinStore({ state: deps.state, blobs: deps.blobs, ...fence });
    const verdictStore = new VerdictStore({ state: deps.state, blobs: deps.blobs, ...fence });
    const mine = (scope: string): boolean => scope === "open";
    const { records, feedback, events } = deps;
    const [joiner, verdicts] = await Promise.all([
      Joiner.open({ ...rim, records, feedback, store: joinStore, strict: false, mine }, signal),
      Verdicts.open({ ...rim, events, store: verdictStore, board }, signal),
    ]);
    const settle = async (): Promise<void> => {
      await joiner.settle();
      await verdicts.settle();
    };
    return { joiner, verdicts, settle };
  }

  async function lead(signal: AbortSignal): Promise<void> {
    const ttlMs = deps.leaseTtlMs ?? LEASE_MS;
    const holder = { store: deps.state, clock, rand: deps.rand, holder: "drift", ttlMs };
    const leadership = await campaign(holder, "drift", signal);
    const over = new AbortController();
    const end = AbortSignal.any([signal, leadership.lost, over.signal]);
    log.info("drift.leading", { term: leadership.term });
    try {
      const { joiner, verdicts } = await begin(end, leadership.guard);
      const loops = [joiner.run(), verdicts.run()].map((loop) => loop.finally(() => over.abort()));
      const ends = await Promise.all(loops);
      log.info("drift.stopped", { ends });
    } finally {
      board.ready = false;
      over.abort();
      await leadership.release();
    }
  }

  return {
    board,
    begin,
    async run(signal) {
      while (!signal.aborted) {
        try {
          await lead(signal);
        } catch (error) {
          if (signal.aborted) return;
          log.warn("drift.begin-again", { error });
        }
        await clock.sleep(PAUSE_MS, signal).catch(() => undefined);
      }
    },
    replay(decision, signal) {
      const store = new VerdictStore({ state: deps.state, blobs: deps.blobs });
      const skipped = async (track: number) => (await store.work(track))?.skipped ?? [];
      return replay({ panes: deps.panes, profiles, made: (id) => store.decision(id), skipped }, decision, signal);
    },
  };
}

/** What the joiner of a strict node touches. */
export type NodeJoinDeps = {
  node: string;
  /** The folder of the node in which ledger and segments lie. */
  dir: string;
  /** Blobs in that folder, and the mesh's for profiles. */
  own: Blobs;
  shared: Blobs;
  /** Streams of the node. */
  records: EventLog;
  feedback: EventLog;
  panes: EventLog;
  /** KV mesh_drift: day, hash and number of rows of a segment are told there, never a row. */
  state: StateStore;
  clock: Clock;
  log: Logger;
  counters: DriftCounters;
};

/** Joins the strict tracks of one node. `begin` is for simulations and tests. */
export function createNodeJoin(deps: NodeJoinDeps): {
  run(signal: AbortSignal): Promise<void>;
  begin(signal: AbortSignal): Promise<Joiner>;
} {
  const { clock, log } = deps;
  const profiles = new Profiles(deps.own, deps.shared);
  const begin = (signal: AbortSignal): Promise<Joiner> => {
    const store = new FileJoinStore({
      dir: deps.dir,
      blobs: deps.own,
      async announce(segment) {
        if (segment.rows < STRICT_ROWS) return;
        const value = new TextEncoder().encode(canonicalJson(segment));
        await deps.state.write({ kind: "put", key: DRIFT_KEYS.segment(segment.track, segment.day), value });
      },
    });
    const mine = (scope: string): boolean => scope === `node/${deps.node}`;
    const { records, feedback, panes, counters } = deps;
    const rim = { clock, log, counters, profiles };
    return Joiner.open({ ...rim, records, feedback, panes, store, strict: true, mine }, signal);
  };
  return {
    begin,
    async run(signal) {
      while (!signal.aborted) {
        const over = new AbortController();
        try {
          const joiner = await begin(AbortSignal.any([signal, over.signal]));
          await joiner.run();
        } catch (error) {
          if (!signal.aborted) log.warn("drift.begin-again", { error });
        } finally {
          over.abort();
        }
        await clock.sleep(PAUSE_MS, signal).catch(() => undefined);
      }
    },
  };
}
