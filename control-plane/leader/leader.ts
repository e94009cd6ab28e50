// The shell around `decide`: campaigns, watches the machines, commits what was decided, publishes facts and events, tells the backend what is wanted.
// L1 Nothing is written without a valid lease, and every write carries the term's guard.
// L2 A batch that failed for whatever reason is not repeated: the world is brought up to date and decided anew.
//    It decides only on a world that has seen everything that it and its predecessors wrote: what is missing there is not (D4).
// L3 Facts go out after their intent is stored, events after what they tell of.
import { sha256Hex } from "#kernel/base/bytes.ts";
import type { Clock } from "#kernel/base/clock.ts";
import type { Rand } from "#kernel/base/rand.ts";
import { BoundedQueue, Cell } from "#kernel/base/queue.ts";
import { DAY_MS, type Profile } from "#kernel/domain/profile.ts";
import { type EpochState, SUBJECTS } from "#kernel/domain/state.ts";
import { messageOf } from "#kernel/fault/error.ts";
import type { Logger } from "#kernel/process/log.ts";
import { campaign } from "#kernel/store/lease.ts";
import type { Blobs, EventLog, Leadership, StateStore, Write } from "#kernel/store/ports.ts";
import type { Backend, Observed, WantedSet } from "../backend/door.ts";
import { encode, type TrainingRange, type Transition, type Wanted } from "../pass/door.ts";
import type { World } from "../world/door.ts";
import { decide } from "./decide.ts";
import { ensureEpoch } from "./epoch.ts";
import { factJobs } from "./facts.ts";
import { digestOf, wantedOf } from "./wanted.ts";

export type LeaderDeps = {
  world: World;
  state: StateStore;
  drift: StateStore;
  panes: EventLog;
  events: EventLog;
  blobs: Blobs;
  backend: Backend;
  clock: Clock;
  rand: Rand;
  log: Logger;
  holder: string;
  endpoint: string;
  leaseTtlMs?: number;
};

/** Time moves things without any change: offers, graces, back-off. */
const TICK_MS = 1_000;
/** Passes in one go; more than this means that two stages disagree, and the tick goes on. */
const PASSES_MAX = 50;
const EVENTS_MAX = 10_000;
const RETRY_MS = 500;

type Office = { leadership: Leadership; epoch: EpochState; end: AbortSignal };

export class Leader {
  readonly #deps: LeaderDeps;
  readonly #observed = new Cell<Observed | undefined>(undefined);
  readonly #wanted = new Cell<{ set: WantedSet; digest: string } | undefined>(undefined);
  readonly #ranges = new Map<string, TrainingRange>();
  readonly #segmentsRead = new Set<string>();
  #events = new BoundedQueue<Transition>(EVENTS_MAX);
  #office: Office | undefined;
  /** Revision of mesh_state that must have been seen before the next decision (L2). */
  #mustSee = 0;
  #busy: Promise<unknown> = Promise.resolve();

  constructor(deps: LeaderDeps) {
    this.#deps = deps;
  }

  /** The term of this instance's leadership, or undefined. */
  get term(): number | undefined {
    return this.#office?.leadership.valid() === true ? this.#office.leadership.term : undefined;
  }

  /** Campaigns and leads, again and again, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { state, clock, rand, log, holder, leaseTtlMs } = this.#deps;
    const lease = { store: state, clock, rand, holder, ...(leaseTtlMs === undefined ? {} : { ttlMs: leaseTtlMs }) };
    while (!signal.aborted) {
      try {
        const leadership = await campaign(lease, "leader", signal);
        log.info("leader.began", { term: leadership.term });
        await this.#lead(leadership, signal);
        log.info("leader.ended", { term: leadership.term, reason: messageOf(leadership.lost.reason) });
      } catch (error) {
        if (signal.aborted) return;
        log.error("leader.failed", { error });
        await clock.sleep(RETRY_MS, signal).catch(() => undefined);
      }
    }
  }

  async #lead(leadership: Leadership, signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const end = AbortSignal.any([signal, leadership.lost, stop.signal]);
    const tasks: Promise<void>[] = [];
    try {
      while (!this.#deps.world.synced && !end.aborted) await this.#stirred(end);
      if (end.aborted) return;
      this.#mustSee = leadership.guard.revision;
      const epoch = await ensureEpoch(this.#deps, leadership.guard);
      this.#observed.set(undefined);
      this.#wanted.set(undefined);
      this.#events = new BoundedQueue<Transition>(EVENTS_MAX);
      this.#office = { leadership, epoch, end };
      tasks.push(this.#observe(end), this.#tellBackend(end), this.#publishFacts(end), this.#publishEvents(end));
      while (!end.aborted) {
        const seen = this.#deps.world.changes.get().version;
        await this.reconcile().catch((error: unknown) => this.#deps.log.error("leader.pass-failed", { error }));
        await this.#stirred(end, seen);
      }
    } finally {
      this.#office = undefined;
      stop.abort();
      this.#events.close();
      await Promise.all(tasks);
      await leadership.release();
    }
  }

  /** Passes until nothing is left to decide; the number of batches written. Does nothing where this instance does not lead. */
  reconcile(): Promise<number> {
    const next = this.#busy.then(() => this.#reconcile());
    this.#busy = next.catch(() => undefined);
    return next;
  }

  async #reconcile(): Promise<number> {
    const { world, clock, endpoint, backend } = this.#deps;
    let batches = 0;
    for (let pass = 0; pass < PASSES_MAX; pass += 1) {
      const office = this.#office;
      if (office === undefined || !(await this.#caughtUp(office.end)) || !office.leadership.valid()) return batches;
      this.#noteWanted();
      const decision = decide({
        world,
        observed: this.#observed.get().value,
        nowMs: clock.wallMs(),
        epoch: office.epoch,
        endpoint,
        lookup: {
          trainingRange: (sha256) => this.#ranges.get(sha256),
          segmentsRead: (run) => this.#segmentsRead.has(run),
        },
        refuses: (inference) => backend.refuses(inference),
      });
      const lookedUp = await this.#lookUp(decision.wanted);
      if (decision.writes.length === 0) {
        if (!lookedUp) return batches;
        continue;
      }
      for (const blob of decision.blobs) await this.#deps.blobs.put(blob);
      if ((await this.#commit(decision.writes, office)) !== "written") continue;
      batches += 1;
      for (const event of decision.events)
        if (this.#events.offer(event) === "full") this.#deps.log.warn("leader.event-dropped", { key: event.key });
    }
    return batches;
  }

  async #commit(writes: readonly Write[], { leadership }: Office): Promise<"written" | "other"> {
    const { state, world, log } = this.#deps;
    if (!leadership.valid()) return "other";
    const result = await state.batch(writes, leadership.guard);
    if (result.kind === "written") {
      world.applyWritten(writes, result.revision);
      this.#mustSee = Math.max(this.#mustSee, result.revision);
      return "written";
    }
    if (result.kind === "stale") this.#mustSee = Math.max(this.#mustSee, (await state.get(result.key))?.revision ?? 0);
    else log.warn("leader.fenced", { term: leadership.term });
    return "other";
  }

  /** Waits until the world has seen all that it must (L2); false when the office ends first. */
  async #caughtUp(end: AbortSignal): Promise<boolean> {
    const { world } = this.#deps;
    while (!end.aborted) {
      const { version } = world.changes.get();
      if (world.synced && world.seen >= this.#mustSee) return true;
      await world.changes.changed(version, end);
    }
    return false;
  }

  /** Only beside what the machines say now: what of an older epoch still lives depends on it. */
  #noteWanted(): void {
    const observed = this.#observed.get().value;
    if (observed?.connected !== true) return;
    const set = wantedOf(this.#deps.world, observed);
    const digest = digestOf(set, observed);
    if (this.#wanted.get().value?.digest !== digest) this.#wanted.set({ set, digest });
  }

  /** Waits until the world or the machines change, or time has passed. */
  async #stirred(end: AbortSignal, seen = this.#deps.world.changes.get().version): Promise<void> {
    const waiting = new AbortController();
    const any = AbortSignal.any([end, waiting.signal]);
    const machines = this.#observed.get().version;
    await Promise.race([
      this.#deps.world.changes.changed(seen, any),
      this.#observed.changed(machines, any),
      this.#deps.clock.sleep(TICK_MS, any).catch(() => undefined),
    ]);
    waiting.abort();
  }

  async #observe(end: AbortSignal): Promise<void> {
    const { backend, clock, log } = this.#deps;
    while (!end.aborted) {
      try {
        for await (const observed of backend.observe(end)) this.#observed.set(observed);
      } catch (error) {
        if (!end.aborted) log.warn("leader.observe-failed", { error });
      }
      await clock.sleep(RETRY_MS, end).catch(() => undefined);
    }
  }

  async #tellBackend(end: AbortSignal): Promise<void> {
    const { backend, clock, log } = this.#deps;
    while (!end.aborted) {
      const { value, version } = this.#wanted.get();
      const office = this.#office;
      if (value !== undefined && office !== undefined && this.#observed.get().value?.connected === true) {
        try {
          if (!office.leadership.valid()) return;
          await backend.apply(value.set, { epoch: office.epoch.epoch, term: office.leadership.term });
        } catch (error) {
          log.warn("leader.apply-failed", { error });
          await clock.sleep(RETRY_MS, end).catch(() => undefined);
          continue;
        }
      }
      await this.#wanted.changed(version, end);
    }
  }

  async #publishFacts(end: AbortSignal): Promise<void> {
    const { world, panes, clock, log } = this.#deps;
    while (!end.aborted) {
      const seen = world.changes.get().version;
      try {
        for (const { publication, acked } of factJobs(world)) {
          if (end.aborted || this.#office === undefined) return;
          await panes.publish(publication, end);
          await this.#commit([acked], this.#office);
        }
      } catch (error) {
        if (end.aborted) return;
        log.warn("leader.fact-not-published", { error });
        await clock.sleep(RETRY_MS, end).catch(() => undefined);
        continue;
      }
      await world.changes.changed(seen, end);
    }
  }

  async #publishEvents(end: AbortSignal): Promise<void> {
    const { events, log } = this.#deps;
    const queue = this.#events;
    for (let event = await queue.take(end); event !== undefined; event = await queue.take(end)) {
      const payload = encode(event);
      const id = `event/${event.key}/${event.to}/${event.atMs}/${sha256Hex(payload).slice(0, 12)}`;
      const subject = SUBJECTS.event(event.kind, event.model === "" ? "mesh" : event.model);
      await events.publish({ subject, id, payload }, end).catch((error: unknown) => {
        if (!end.aborted) log.warn("leader.event-not-published", { key: event.key, error });
      });
    }
  }

  /** True when something was looked up: then the pass is worth repeating. */
  async #lookUp({ profiles, segments }: Wanted): Promise<boolean> {
    const { drift, world } = this.#deps;
    for (const sha256 of profiles) await this.#readRange(sha256);
    for (const { run, ordinal } of segments) {
      const found = await Promise.all([drift.list(`segment.${ordinal}.`), drift.list(`episode.${ordinal}.`)]);
      for (const entry of found.flat()) world.put(entry);
      this.#segmentsRead.add(run);
    }
    return profiles.size + segments.length > 0;
  }

  /** Event time of a version's training data: the blocks of its profile. */
  async #readRange(sha256: string): Promise<void> {
    const { blobs, log } = this.#deps;
    const content = await blobs.get(sha256);
    let range: TrainingRange = { fromMs: 0, toMs: 0 };
    if (content === undefined) log.warn("leader.profile-missing", { sha256 });
    else {
      const { blocks } = JSON.parse(new TextDecoder().decode(content)) as Profile;
      const starts = blocks.map(({ startMs }) => startMs);
      if (starts.length > 0) range = { fromMs: Math.min(...starts), toMs: Math.max(...starts) + DAY_MS };
    }
    this.#ranges.set(sha256, range);
  }
}
