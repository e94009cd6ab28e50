// Drives the join of all tracks of one scope: records, labels and facts in, outcome panes and segments out.
// Q1 A label acknowledged before an inference was sent is applied before that inference's record: before records are applied, the last
//    sequence of the labels is read, and labels up to it (not stored later than the record by more than SKEW_MS) go first.
// Q2 What leaves was saved before: panes wait in the ledger's outbox until a save that has them succeeded, then are published in order under
//    ids made of track and hour. A crash anywhere repeats at most publishes of the same bytes.
// Q3 A saved ledger skips what its own cursors have passed; the common cursor only says where reading begins.
import type { Clock } from "#kernel/base/clock.ts";
import type { Fact } from "#kernel/domain/state.ts";
import { STREAMS, SUBJECTS } from "#kernel/domain/state.ts";
import type { Logger } from "#kernel/process/log.ts";
import { startSpan } from "#kernel/process/trace.ts";
import type { EventLog, LogMessage } from "#kernel/store/ports.ts";
import {
  advance,
  decodeJoin,
  decodeLabels,
  decodeRecords,
  dueDays,
  encodeJoin,
  endBoot,
  openJoin,
  takeFact,
  takeLabel,
  takeRecords,
  writeSegment,
  type JoinState,
} from "../join/door.ts";
import { decodeFact, encodeOutcome } from "../panes/door.ts";
import { anyOf, Feed, openFeed } from "./feed.ts";
import type { ChangedTrack, JoinCursors, JoinStore, NewSegment } from "./join-store.ts";
import type { DriftCounters } from "./counters.ts";
import type { Profiles } from "./profiles.ts";

const SKEW_MS = 2_000;
const TURN_MESSAGES = 256;
/** Segments of a track that one save writes at most. */
const SEGMENTS_MAX = 20;
/** A save follows what it waits for by this, and takes at most a fifth of the time. */
const URGENT_MS = 200;
const CALM_MS = 2_000;

export type JoinerDeps = {
  records: EventLog;
  feedback: EventLog;
  /** Facts come from here, outcome panes go here. */
  panes: EventLog;
  store: JoinStore;
  profiles: Profiles;
  /** True for tracks of a strict node. */
  strict: boolean;
  /** Whether facts of a scope concern this joiner. */
  mine: (scope: string) => boolean;
  clock: Clock;
  log: Logger;
  counters: DriftCounters;
};

type Track = { state: JoinState; cursors: { [K in keyof JoinCursors]: number }; changed: boolean };
type Place = keyof JoinCursors;

/** Another worker has taken over: nothing more may be saved or published. */
export class Superseded extends Error {}

export class Joiner {
  readonly #deps: JoinerDeps;
  readonly #signal: AbortSignal;
  readonly #feeds: Record<Place, Feed>;
  readonly #createdMs: Record<Place, number>;
  readonly #tracks: Map<number, Track>;
  /** Trace of the newest labels of each track: it goes on with the track's next outcome pane. */
  readonly #traces = new Map<number, string>();
  #changedSinceMs = Number.POSITIVE_INFINITY;
  #savedMs = 0;
  #fetchAtMs = 0;
  #saveTookMs = 0;

  private constructor(deps: JoinerDeps, signal: AbortSignal, opened: Opened) {
    this.#deps = deps;
    this.#signal = signal;
    this.#feeds = opened.feeds;
    this.#createdMs = opened.createdMs;
    this.#tracks = opened.tracks;
  }

  /** Loads what was saved and begins to read behind it. */
  static async open(deps: JoinerDeps, signal: AbortSignal): Promise<Joiner> {
    const joiner = new Joiner(deps, signal, await load(deps, signal));
    await joiner.#fetchProfiles();
    await joiner.publish();
    return joiner;
  }

  /** Until the signal aborts (what was not saved is read again), or another worker took over. */
  async run(): Promise<"stopped" | "superseded"> {
    const { clock, log } = this.#deps;
    while (!this.#signal.aborted) {
      try {
        if (!(await this.turn())) await anyOf(Object.values(this.#feeds), clock, this.#waitMs(), this.#signal);
        await this.#saveIfDue();
        await this.#fetchProfiles();
      } catch (error) {
        if (error instanceof Superseded) return "superseded";
        if (this.#signal.aborted) break;
        log.warn("drift.join-again", { error });
        await clock.sleep(1_000, this.#signal).catch(() => undefined);
      }
    }
    return "stopped";
  }

  /** Applies, saves and publishes everything that is in the logs now. */
  async settle(): Promise<void> {
    const last = await Promise.all([
      this.#feeds.facts.log.info(FACTS, this.#signal),
      this.#feeds.records.log.info(undefined, this.#signal),
      this.#feeds.feedback.log.info(undefined, this.#signal),
    ]);
    const places = ["facts", "records", "feedback"] as const;
    const behind = (): boolean => places.some((p, i) => this.#feeds[p].position < (last[i]?.lastSeq ?? 0));
    while (behind() && !this.#signal.aborted) {
      if (!(await this.turn())) await anyOf(Object.values(this.#feeds), this.#deps.clock, CALM_MS, this.#signal);
    }
    while ([...this.#tracks.values()].some(({ changed }) => changed)) await this.save();
  }

  /** One bounded piece of work; false when nothing waited. */
  async turn(): Promise<boolean> {
    const facts = await this.#takeFacts();
    const records = await this.#takeRecords();
    return records || this.#takeLabels() || facts;
  }

  async #takeFacts(): Promise<boolean> {
    const { facts } = this.#feeds;
    let worked = false;
    for (let event = facts.peek(); event !== undefined; event = facts.peek()) {
      const message = event.kind === "message" ? event.message : undefined;
      const fact = message === undefined ? undefined : decodeFact(message.payload);
      if (fact?.kind === "track" && this.#deps.mine(fact.scope)) await this.#deps.profiles.load(fact.profileSha256);
      facts.take();
      if (event.kind === "resync") this.#forget("facts");
      if (message !== undefined && fact !== undefined) this.#applyFact(fact, message.seq);
      worked = true;
    }
    return worked;
  }

  #applyFact(fact: Fact, seq: number): void {
    if (fact.kind === "track" ? !this.#deps.mine(fact.scope) : !this.#tracks.has(fact.track)) return;
    const track = this.#trackOf(fact.track);
    if (seq <= track.cursors.facts) return;
    if (fact.kind === "track") takeFact(track.state, fact);
    else endBoot(track.state, fact.boot);
    this.#touch(track);
    this.#advance(track);
  }

  async #takeRecords(): Promise<boolean> {
    const { records, feedback } = this.#feeds;
    if (records.peek() === undefined) return false;
    const until = records.newest();
    const { lastSeq } = await feedback.log.info(undefined, this.#signal);
    for (let taken = 0; taken < TURN_MESSAGES; taken++) {
      const event = records.peek();
      if (event === undefined || (event.kind === "message" && event.message.seq > until)) break;
      if (event.kind === "message") await this.#labelsBefore(lastSeq, event.message.timeMs);
      if (this.#signal.aborted) break;
      records.take();
      if (event.kind === "message") this.#applyRecords(event.message);
      else this.#missed("records", event);
    }
    return true;
  }

  /** Q1. */
  async #labelsBefore(lastSeq: number, timeMs: number): Promise<void> {
    const { feedback } = this.#feeds;
    while (feedback.position < lastSeq && !this.#signal.aborted) {
      const event = feedback.peek();
      if (event === undefined) {
        await feedback.some(this.#signal);
        continue;
      }
      if (event.kind === "message" && (event.message.seq > lastSeq || event.message.timeMs > timeMs + SKEW_MS)) return;
      this.#takeLabel();
    }
  }

  #applyRecords(message: LogMessage): void {
    const records = decodeRecords(message.payload);
    if (records === undefined) return this.#deps.counters.malformed("records");
    const track = this.#trackOf(records.track);
    if (message.seq <= track.cursors.records) return;
    takeRecords(track.state, records, message.timeMs);
    this.#deps.counters.rows(records.rows.length);
    this.#touch(track);
    this.#advance(track);
  }

  /** Labels that wait while no record does. */
  #takeLabels(): boolean {
    let taken = 0;
    while (taken < TURN_MESSAGES && this.#takeLabel()) taken += 1;
    return taken > 0;
  }

  #takeLabel(): boolean {
    const event = this.#feeds.feedback.take();
    if (event === undefined) return false;
    if (event.kind !== "message") {
      this.#missed("feedback", event);
      return true;
    }
    const batch = decodeLabels(event.message.payload);
    if (batch === undefined) {
      this.#deps.counters.malformed("feedback");
      return true;
    }
    const track = this.#trackOf(batch.track);
    if (event.message.seq <= track.cursors.feedback) return true;
    for (const label of batch.labels) this.#deps.counters.label(takeLabel(track.state, label, event.message.timeMs));
    this.#trace(batch.track, batch.labels.length, event.message.headers["traceparent"]);
    this.#touch(track);
    return true;
  }

  #trace(track: number, labels: number, traceparent: string | undefined): void {
    if (traceparent === undefined) return;
    const span = startSpan("drift.join", traceparent);
    span.set("labels", labels);
    span.end();
    this.#traces.set(track, span.traceparent ?? traceparent);
  }

  #missed(place: Place, event: { kind: "gap"; wantedSeq: number; firstSeq: number } | { kind: "resync" }): void {
    this.#deps.log.warn("drift.messages-missed", { place, ...event });
    if (event.kind === "resync") this.#forget(place);
  }

  /** The log is another one: its sequences begin again, and what is known is recognised by row and revision. */
  #forget(place: Place): void {
    for (const track of this.#tracks.values()) track.cursors[place] = 0;
    this.#createdMs[place] = 0;
  }

  #advance({ state }: Track): void {
    const profile = this.#deps.profiles.get(state.fact?.profileSha256 ?? "");
    if (profile === undefined) return;
    const waiting = state.early.size;
    advance(state, profile);
    // What advancing gives up is a label whose row never came in its time.
    for (let given = waiting - state.early.size; given > 0; given--) this.#deps.counters.label("unmatched");
  }

  /** A profile that was not there when its fact came is looked for again: until then no hour of its track closes. */
  async #fetchProfiles(): Promise<void> {
    const nowMs = this.#deps.clock.monotonicMs();
    if (nowMs < this.#fetchAtMs) return;
    this.#fetchAtMs = nowMs + CALM_MS;
    const { profiles } = this.#deps;
    for (const track of this.#tracks.values()) {
      const sha256 = track.state.fact?.profileSha256 ?? "";
      if (sha256 === "" || profiles.get(sha256) !== undefined) continue;
      if ((await profiles.load(sha256, this.#signal)) === undefined) continue;
      this.#touch(track);
      this.#advance(track);
    }
  }

  #trackOf(ordinal: number): Track {
    const known = this.#tracks.get(ordinal);
    if (known !== undefined) return known;
    const fresh = {
      state: openJoin(ordinal, this.#deps.strict),
      cursors: { records: 0, feedback: 0, facts: 0 },
      changed: false,
    };
    this.#tracks.set(ordinal, fresh);
    return fresh;
  }

  #touch(track: Track): void {
    track.changed = true;
    this.#changedSinceMs = Math.min(this.#changedSinceMs, this.#deps.clock.monotonicMs());
  }

  /** Milliseconds until a save is due; none is while nothing changed. */
  #waitMs(): number {
    if (this.#changedSinceMs === Number.POSITIVE_INFINITY) return CALM_MS;
    const urgent = [...this.#tracks.values()].some(({ state }) => state.outbox.length > 0 || dueDays(state).length > 0);
    const afterMs = Math.max(urgent ? URGENT_MS : CALM_MS, 5 * this.#saveTookMs);
    const fromMs = Math.max(this.#savedMs, urgent ? 0 : this.#changedSinceMs);
    return Math.max(0, fromMs + afterMs - this.#deps.clock.monotonicMs());
  }

  async #saveIfDue(): Promise<void> {
    if (this.#changedSinceMs !== Number.POSITIVE_INFINITY && this.#waitMs() === 0) await this.save();
  }

  /** Saves what changed, then publishes what was saved (Q2). */
  async save(): Promise<void> {
    const { clock, store, counters } = this.#deps;
    const startMs = clock.monotonicMs();
    const changed = [...this.#tracks.values()].filter((track) => track.changed);
    const written = changed.map((track) => ({ track, days: this.#writable(track.state) }));
    const at = (place: Place) => ({ seq: this.#feeds[place].position, createdMs: this.#createdMs[place] });
    const cursors = { records: at("records"), feedback: at("feedback"), facts: at("facts") };
    const ended = await store.save(
      written.map(({ track, days }) => this.#encoded(track.state, days)),
      cursors,
    );
    if (ended === "superseded") throw new Superseded("another worker joins");
    this.#changedSinceMs = Number.POSITIVE_INFINITY;
    for (const { track, days } of written) {
      track.changed = false;
      track.cursors = { records: cursors.records.seq, feedback: cursors.feedback.seq, facts: cursors.facts.seq };
      for (const dayMs of days) track.state.days.delete(dayMs);
      if (this.#writable(track.state).length > 0) this.#touch(track);
    }
    this.#savedMs = clock.monotonicMs();
    this.#saveTookMs = this.#savedMs - startMs;
    counters.saved("join", this.#saveTookMs);
    await this.publish();
  }

  /** Days whose segment can be written: the features are known. */
  #writable(state: JoinState): number[] {
    return this.#deps.profiles.get(state.fact?.profileSha256 ?? "") === undefined
      ? []
      : dueDays(state).slice(0, SEGMENTS_MAX);
  }

  #encoded(state: JoinState, days: readonly number[]): ChangedTrack {
    const features = this.#deps.profiles.get(state.fact?.profileSha256 ?? "")?.features ?? [];
    const segments = days.flatMap((dayMs): NewSegment[] => {
      const { content, rows, unfit } = writeSegment(state.days.get(dayMs) ?? [], features);
      if (unfit > 0) this.#deps.log.warn("drift.rows-do-not-fit", { track: state.track, dayMs, unfit });
      return rows === 0 ? [] : [{ dayMs, rows, content }];
    });
    return { track: state.track, bytes: encodeJoin(state, new Set(days)), segments };
  }

  /** Publishes every outbox in order; what fails stays and is published again. */
  async publish(): Promise<void> {
    for (const track of this.#tracks.values()) {
      if (track.changed) continue;
      const { state } = track;
      for (let pane = state.outbox[0]; pane !== undefined; pane = state.outbox[0]) {
        const id = `opane/${pane.track}/${pane.startMs}`;
        const traceparent = this.#traces.get(pane.track);
        const headers = traceparent === undefined ? {} : { traceparent };
        const subject = SUBJECTS.outcomePane(pane.track);
        await this.#deps.panes.publish({ subject, id, payload: encodeOutcome(pane), headers });
        state.outbox.shift();
        this.#touch(track);
      }
    }
  }
}

type Opened = { feeds: Record<Place, Feed>; createdMs: Record<Place, number>; tracks: Map<number, Track> };
const FACTS = "mesh.fact.>";

async function load(deps: JoinerDeps, signal: AbortSignal): Promise<Opened> {
  const saved = await deps.store.load();
  const rim = { clock: deps.clock, say: deps.log, signal };
  const from = { records: STREAMS.records.subjects[0], feedback: STREAMS.feedback.subjects[0] };
  const records = await openFeed({ ...rim, log: deps.records, filter: from.records }, saved.cursors.records);
  const feedback = await openFeed({ ...rim, log: deps.feedback, filter: from.feedback }, saved.cursors.feedback);
  const facts = await openFeed({ ...rim, log: deps.panes, filter: FACTS }, saved.cursors.facts);
  const seqOf = (place: { replaced: boolean }, seq: number): number => (place.replaced ? 0 : seq);
  const tracks = new Map<number, Track>();
  for (const { track, bytes, cursors } of saved.tracks) {
    const at = {
      records: seqOf(records, cursors.records.seq),
      feedback: seqOf(feedback, cursors.feedback.seq),
      facts: seqOf(facts, cursors.facts.seq),
    };
    tracks.set(track, { state: decodeJoin(bytes), cursors: at, changed: false });
  }
  return {
    feeds: { records: records.feed, feedback: feedback.feed, facts: facts.feed },
    createdMs: { records: records.createdMs, feedback: feedback.createdMs, facts: facts.createdMs },
    tracks,
  };
}
