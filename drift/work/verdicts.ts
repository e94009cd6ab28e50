// Drives the fold of every track: MESH_PANE in stream order, from the cursor of the track's snapshot.
// E1 A profile is at hand before the fact that names it is applied; after PROFILE_MS without it the fact is skipped (and a replay skips it).
// E2 What was decided is saved with the snapshot that follows from it (one batch), after its events were published: both repeats give the
//    same bytes under the same ids, because the fold is deterministic. E3 Readers see what was saved, never more.
import { decisionId } from "#kernel/domain/ids.ts";
import { canonicalJson } from "#kernel/base/bytes.ts";
import type { Clock } from "#kernel/base/clock.ts";
import { SUBJECTS } from "#kernel/domain/state.ts";
import type { Logger } from "#kernel/process/log.ts";
import { startSpan } from "#kernel/process/trace.ts";
import type { EventLog, LogMessage } from "#kernel/store/ports.ts";
import type { Board } from "./board.ts";
import type { DriftCounters } from "./counters.ts";
import { anyOf, type Cursor, Feed, openFeed } from "./feed.ts";
import { Superseded } from "./joiner.ts";
import type { Profiles } from "./profiles.ts";
import {
  applyInput,
  decisionTexts,
  needed,
  openWork,
  readInput,
  skip,
  type Decision,
  type TrackInput,
  type TrackWork,
} from "./track-work.ts";
import type { Decided, LoadedVerdicts, VerdictStore } from "./verdict-store.ts";

const PROFILE_MS = 15_000;
const PROFILE_AGAIN_MS = 200;
const TURN_MESSAGES = 256;
/** Decisions are told after this, other progress is saved after that. */
const URGENT_MS = 100;
const CALM_MS = 2_000;
const PANES = "mesh.>";

export type VerdictDeps = {
  panes: EventLog;
  events: EventLog;
  store: VerdictStore;
  profiles: Profiles;
  board: Board;
  clock: Clock;
  log: Logger;
  counters: DriftCounters;
};

export class Verdicts {
  readonly #deps: VerdictDeps;
  readonly #signal: AbortSignal;
  readonly #feed: Feed;
  readonly #works = new Map<number, TrackWork>();
  /** Trace of the newest outcome pane of each track: it goes on with the track's episodes. */
  readonly #traces = new Map<number, string>();
  #createdMs: number;
  #changed = new Map<number, Decided[]>();
  #decided = false;
  #changedSinceMs = Number.POSITIVE_INFINITY;
  #savedMs = 0;
  #saveTookMs = 0;

  private constructor(deps: VerdictDeps, signal: AbortSignal, feed: Feed, createdMs: number) {
    this.#deps = deps;
    this.#signal = signal;
    this.#feed = feed;
    this.#createdMs = createdMs;
  }

  /** Loads what was saved, shows it to readers, and begins to read behind it. */
  static async open(deps: VerdictDeps, signal: AbortSignal): Promise<Verdicts> {
    const loaded = await deps.store.load();
    const rim = { clock: deps.clock, say: deps.log, signal };
    const { feed, createdMs, replaced } = await openFeed({ ...rim, log: deps.panes, filter: PANES }, loaded.cursor);
    const verdicts = new Verdicts(deps, signal, feed, createdMs);
    await verdicts.#begin(loaded, replaced);
    return verdicts;
  }

  async #begin({ works, verdicts, episodes }: LoadedVerdicts, replaced: boolean): Promise<void> {
    const { board, profiles } = this.#deps;
    for (const work of works) {
      if (replaced) work.cursor = 0;
      this.#works.set(work.track, work);
      await profiles.load(work.fold.fact?.profileSha256 ?? "", this.#signal);
      this.#show(work);
    }
    for (const verdict of verdicts) board.tell({ kind: "verdict", verdict });
    for (const episode of episodes) board.tell({ kind: "episode", episode });
    board.ready = true;
  }

  /** Until the signal aborts, or another worker took over. */
  async run(): Promise<"stopped" | "superseded"> {
    const { clock, log, board } = this.#deps;
    try {
      while (!this.#signal.aborted) {
        try {
          if (!(await this.turn())) await anyOf([this.#feed], clock, this.#waitMs(), this.#signal);
          if (this.#waitMs() === 0) await this.save();
        } catch (error) {
          if (error instanceof Superseded) return "superseded";
          if (this.#signal.aborted) break;
          log.warn("drift.verdicts-again", { error });
          await clock.sleep(1_000, this.#signal).catch(() => undefined);
        }
      }
      return "stopped";
    } finally {
      board.ready = false;
    }
  }

  /** Applies and saves everything that is in the log now. */
  async settle(): Promise<void> {
    const { lastSeq } = await this.#deps.panes.info(undefined, this.#signal);
    while (this.#feed.position < lastSeq && !this.#signal.aborted) {
      if (!(await this.turn())) await this.#feed.some(this.#signal);
    }
    if (this.#changed.size > 0) await this.save();
  }

  /** One bounded piece of work; false when nothing waited. */
  async turn(): Promise<boolean> {
    let taken = 0;
    for (let event = this.#feed.peek(); event !== undefined && taken < TURN_MESSAGES; event = this.#feed.peek()) {
      if (event.kind === "message") await this.#prepare(event.message);
      if (this.#signal.aborted) break;
      this.#feed.take();
      if (event.kind === "message") this.#apply(event.message);
      else this.#missed(event);
      taken += 1;
    }
    return taken > 0;
  }

  /** E1: waits for the profiles that the message needs. */
  async #prepare(message: LogMessage): Promise<void> {
    const read = readInput(message);
    if (read === undefined || message.seq <= (this.#works.get(read.track)?.cursor ?? 0)) return;
    const { profiles, clock } = this.#deps;
    for (const sha256 of this.#profilesFor(read.track, read.input)) {
      const untilMs = clock.monotonicMs() + PROFILE_MS;
      while ((await profiles.load(sha256, this.#signal)) === undefined && clock.monotonicMs() < untilMs) {
        await clock.sleep(PROFILE_AGAIN_MS, this.#signal);
      }
    }
  }

  #profilesFor(track: number, input: TrackInput): string[] {
    const current = this.#works.get(track)?.fold.fact?.profileSha256 ?? "";
    return current === "" ? needed(input) : [current, ...needed(input)];
  }

  #apply(message: LogMessage): void {
    const read = readInput(message);
    if (read === undefined) return this.#deps.counters.malformed("panes");
    const work = this.#works.get(read.track) ?? openWork(read.track);
    if (message.seq <= work.cursor) return;
    this.#works.set(read.track, work);
    const { traceparent } = message.headers;
    if (traceparent !== undefined) this.#traces.set(read.track, traceparent);
    const decisions = this.#foldOrSkip(work, read.input, message.seq);
    const decided = this.#changed.get(read.track) ?? [];
    this.#changed.set(read.track, decided);
    this.#changedSinceMs = Math.min(this.#changedSinceMs, this.#deps.clock.monotonicMs());
    if (decisions.length === 0) return;
    const trace = decisions.some(({ kind }) => kind === "episode") ? this.#traced(read.track) : undefined;
    const made = { seq: message.seq, decisions, texts: decisionTexts(decisions) };
    decided.push(trace === undefined ? made : { ...made, trace });
    this.#decided = true;
  }

  #traced(track: number): string | undefined {
    const traceparent = this.#traces.get(track);
    if (traceparent === undefined) return undefined;
    const span = startSpan("drift.episode", traceparent);
    span.end();
    return span.traceparent ?? traceparent;
  }

  #foldOrSkip(work: TrackWork, input: TrackInput, seq: number): Decision[] {
    const { profiles, log } = this.#deps;
    const missing = this.#profilesFor(work.track, input).find((sha256) => profiles.get(sha256) === undefined);
    if (missing !== undefined) {
      log.error("drift.profile-missing", { track: work.track, seq, profile: missing });
      skip(work, seq);
      return [];
    }
    try {
      return applyInput(work, input, seq, (sha256) => profiles.get(sha256));
    } catch (error) {
      // One track's broken promise must not stop the others; what the fold had changed stays, in a replay too.
      log.error("drift.fold-failed", { track: work.track, seq, error });
      return [];
    }
  }

  #missed(event: { kind: "gap"; wantedSeq: number; firstSeq: number } | { kind: "resync" }): void {
    this.#deps.log.warn("drift.messages-missed", { place: "panes", ...event });
    if (event.kind !== "resync") return;
    this.#createdMs = 0;
    for (const work of this.#works.values()) work.cursor = 0;
  }

  #waitMs(): number {
    if (this.#changedSinceMs === Number.POSITIVE_INFINITY) return CALM_MS;
    const afterMs = Math.max(this.#decided ? URGENT_MS : CALM_MS, 5 * this.#saveTookMs);
    return Math.max(0, Math.max(this.#savedMs, this.#changedSinceMs) + afterMs - this.#deps.clock.monotonicMs());
  }

  /** Publishes events, then saves snapshots with what was decided (E2), then shows it (E3). */
  async save(): Promise<void> {
    const { clock, store, board, counters } = this.#deps;
    const startMs = clock.monotonicMs();
    const changed = [...this.#changed].flatMap(([track, decided]) => {
      const work = this.#works.get(track);
      return work === undefined ? [] : [{ work, decided }];
    });
    for (const { work, decided } of changed) await this.#publishEvents(work, decided);
    const cursor: Cursor = { seq: this.#feed.position, createdMs: this.#createdMs };
    if ((await store.save(changed, cursor)) === "superseded") throw new Superseded("another worker judges");
    this.#changed = new Map();
    this.#decided = false;
    this.#changedSinceMs = Number.POSITIVE_INFINITY;
    this.#savedMs = clock.monotonicMs();
    this.#saveTookMs = this.#savedMs - startMs;
    counters.saved("verdicts", this.#saveTookMs);
    for (const { work, decided } of changed) {
      this.#show(work);
      for (const decision of decided.flatMap(({ decisions }) => decisions)) {
        counters.decision(decision.kind);
        if (decision.kind !== "evidence") board.tell(decision);
      }
    }
  }

  async #publishEvents({ track }: TrackWork, decided: readonly Decided[]): Promise<void> {
    for (const { seq, decisions } of decided) {
      const episodes = decisions.flatMap((decision) => (decision.kind === "episode" ? [decision.episode] : []));
      for (const episode of episodes) {
        const decision = decisionId("episode", track, seq);
        const content = canonicalJson({ actor: "drift", decision, episode });
        await this.#deps.events.publish({
          subject: SUBJECTS.event("episode", episode.model),
          id: `${decision}/${episode.number}`,
          payload: new TextEncoder().encode(content),
        });
      }
    }
  }

  #show({ track, fold, rollup }: TrackWork): void {
    if (fold.fact !== null)
      this.#deps.board.see(track, { fact: fold.fact, days: rollup.days.map((day) => ({ ...day })) });
  }
}
