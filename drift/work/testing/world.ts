// A track's life on any stores: profile, fact, then days of records, labels and panes as sidecar and gateway would publish them.
import { canonicalJson } from "#kernel/base/bytes.ts";
import { VirtualClock, type Clock } from "#kernel/base/clock.ts";
import { seededRand, type Rand } from "#kernel/base/rand.ts";
import { DAY_MS, HOUR_MS, type Profile } from "#kernel/domain/profile.ts";
import { profileFrom } from "#kernel/domain/profile-build.ts";
import { SUBJECTS, type Fact, type TrackFact } from "#kernel/domain/state.ts";
import { silentLogger } from "#kernel/process/log.ts";
import { MemoryBlobs } from "#kernel/store/memory/blobs.ts";
import { MemoryEventLog } from "#kernel/store/memory/event-log.ts";
import { MemoryStateStore } from "#kernel/store/memory/state-store.ts";
import type { Blobs, EventLog, Publication, StateStore, Write } from "#kernel/store/ports.ts";
import type { JoinRow } from "../../join/door.ts";
import { labelBytes, recordBytes } from "../../join/testing/rows.ts";
import { encodeFact, encodePane } from "../../panes/door.ts";
import { DAY0, dayRows, factOf, panesOf, TRACK, type Row, type Twist } from "../../verdict/testing/synthetic.ts";
import { noCounters } from "../counters.ts";
import type { DriftDeps } from "../drift.ts";

export { TRACK } from "../../verdict/testing/synthetic.ts";
export type Stores = Pick<DriftDeps, "state" | "records" | "feedback" | "panes" | "events" | "blobs">;

/** Stores in memory; records and labels are stored a millisecond apart. */
export function memoryStores(): Stores {
  const still = new VirtualClock();
  let ms = still.wallMs();
  const ticking: Clock = {
    wallMs: () => ++ms,
    monotonicMs: () => ms,
    sleep: (wait, signal) => still.sleep(wait, signal),
    deadline: (wait) => still.deadline(wait),
  };
  const traffic = { records: new MemoryEventLog(ticking), feedback: new MemoryEventLog(ticking) };
  const logs = { ...traffic, panes: new MemoryEventLog(still), events: new MemoryEventLog(still) };
  return { state: new MemoryStateStore(), blobs: new MemoryBlobs(), ...logs };
}

export const depsOn = (stores: Stores, clock: Clock = new VirtualClock()): DriftDeps => ({
  ...stores,
  clock,
  rand: seededRand(1),
  log: silentLogger(),
  counters: noCounters,
});

const LABEL_LAG_MS = 2 * HOUR_MS;
const CHUNK = 50;

export class World {
  readonly profile: Profile;
  readonly #stores: Stores;
  readonly #rand: Rand;
  readonly #track: number;
  readonly #boot: number;
  #revision = 0;
  #number = 0;
  #batch = 0;
  #pane = 0;
  #day = 28;
  #untold: { row: Row; number: number }[] = [];

  constructor(stores: Stores, options: { seed?: number; track?: number; boot?: number } = {}) {
    this.#stores = stores;
    this.#rand = seededRand(options.seed ?? 7);
    this.#track = options.track ?? TRACK;
    this.#boot = options.boot ?? 11;
    const rows = Array.from({ length: 28 }, (_, day) => dayRows(this.#rand, day)).flat();
    this.profile = profileFrom({
      columns: [
        { name: "size", kind: "number", values: rows.map(({ size }) => size) },
        { name: "kind", kind: "category", values: rows.map(({ kind }) => kind) },
      ],
      labels: rows.map(({ label }) => label),
      scores: rows.map(({ score }) => score),
      eventMs: rows.map(({ eventMs }) => eventMs),
      scoreKind: "probability",
    });
  }

  get boot(): number {
    return this.#boot;
  }

  async begin(more: Partial<TrackFact> = {}): Promise<void> {
    const profileSha256 = await this.#stores.blobs.put(new TextEncoder().encode(canonicalJson(this.profile)));
    await this.fact({ ...factOf({ profileSha256, ...more }), track: this.#track, revision: ++this.#revision });
  }

  async fact(fact: Fact): Promise<void> {
    const id = fact.kind === "track" ? `fact/${fact.track}/${fact.revision}` : `ended/${fact.track}/${fact.boot}`;
    await this.#stores.panes.publish({ subject: SUBJECTS.fact(fact.track), id, payload: encodeFact(fact) });
  }

  /** A day of rows in order of time, each chunk after the labels that are known by then. */
  async day(twist: Twist = {}): Promise<void> {
    const rows = dayRows(this.#rand, this.#day, twist);
    const untilMs = DAY0 + (this.#day + 1) * DAY_MS;
    for (let from = 0; from < rows.length; from += CHUNK) {
      const part = rows.slice(from, from + CHUNK);
      await this.#labelsKnownAt(part[0]?.eventMs ?? 0);
      await this.#records(part, rows[from + CHUNK]?.eventMs ?? untilMs);
    }
    const at = { boot: this.#boot, version: 1, size: 150, untilMs, number: this.#pane + 1 };
    for (const pane of panesOf(this.profile, rows, at)) {
      this.#pane = pane.number;
      const payload = encodePane({ ...pane, track: this.#track });
      const id = `pane/${this.#track}/${this.#boot}/${pane.number}`;
      await this.#stores.panes.publish({ subject: SUBJECTS.pane(this.#track, this.#boot), id, payload });
    }
    this.#day += 1;
  }

  async #records(part: readonly Row[], watermarkMs: number): Promise<void> {
    const rows = part.map((row): JoinRow => {
      const number = ++this.#number;
      this.#untold.push({ row, number });
      const plain = { boot: this.#boot, number, eventMs: row.eventMs, version: 1, other: 0, corrected: 0 };
      return { ...plain, score: row.score, otherScore: Number.NaN, label: Number.NaN, values: [row.size, row.kind] };
    });
    const batch = ++this.#batch;
    const payload = recordBytes({ track: this.#track, boot: this.#boot, batch, version: 1, watermarkMs, rows });
    const id = `rec/${this.#track}/${this.#boot}/${batch}`;
    await this.#stores.records.publish({ subject: SUBJECTS.records(this.#track, this.#boot), id, payload });
  }

  async #labelsKnownAt(ms: number): Promise<void> {
    const known = this.#untold.filter(({ row }) => row.eventMs + LABEL_LAG_MS <= ms);
    this.#untold = this.#untold.filter(({ row }) => row.eventMs + LABEL_LAG_MS > ms);
    if (known.length === 0) return;
    await this.label(known.map(({ row, number }) => ({ number, value: row.label })));
  }

  async label(labels: { number: number; value: number }[]): Promise<void> {
    const payload = labelBytes(
      this.#track,
      labels.map((label) => ({ ...label, boot: this.#boot })),
    );
    const id = `fb/${this.#track}/${this.#boot}/${labels[0]?.number}/${labels.length}`;
    await this.#stores.feedback.publish({ subject: SUBJECTS.feedback(this.#track), id, payload });
  }
}

class Crash extends Error {}

/** Stores on which the n-th effect of the process fails: with odd n after it was carried out, with even n before. */
export function crashing(stores: Stores, nth: number): { stores: Stores; crashed: () => boolean } {
  let effects = 0;
  let crashed = false;
  async function effect<T>(act: () => Promise<T>): Promise<T> {
    if (crashed) throw new Crash();
    effects += 1;
    if (effects < nth) return await act();
    crashed = true;
    if (nth % 2 === 1) await act();
    throw new Crash();
  }
  const log = (inner: EventLog): EventLog => ({
    publish: (publication: Publication) => effect(() => inner.publish(publication)),
    read: (options, signal) => inner.read(options, signal),
    info: (filter) => inner.info(filter),
    close: () => inner.close(),
  });
  const state: StateStore = {
    get: (key) => stores.state.get(key),
    list: (prefix) => stores.state.list(prefix),
    write: (write: Write, guard) => effect(() => stores.state.write(write, guard)),
    batch: (writes, guard) => effect(() => stores.state.batch(writes, guard)),
    watch: (prefix, signal) => stores.state.watch(prefix, signal),
    close: () => stores.state.close(),
  };
  const blobs: Blobs = {
    put: (content) => effect(() => stores.blobs.put(content)),
    get: (sha256) => stores.blobs.get(sha256),
    has: (sha256) => stores.blobs.has(sha256),
    remove: (sha256) => effect(() => stores.blobs.remove(sha256)),
    close: () => stores.blobs.close(),
  };
  const { records, feedback, panes, events } = stores;
  const logs = { records, feedback, panes: log(panes), events: log(events) };
  return { stores: { state, blobs, ...logs }, crashed: () => crashed };
}
