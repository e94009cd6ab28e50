// Owns what the verdict loop knows of a track: the fold, the roll-up and what was skipped. Live and in a replay this same code runs.
// T1 Pure: the same messages with the same profiles give the same decisions. T2 A pane or outcome pane that was applied before is dropped
//    here, so that one stored twice changes nothing. T3 A fact whose profile could not be had, and an input that broke a promise of the
//    fold, are skipped by their sequence, which a replay skips too.
import { canonicalJson } from "#kernel/base/bytes.ts";
import type { DecisionKind } from "#kernel/domain/ids.ts";
import type { Profile } from "#kernel/domain/profile.ts";
import type { LogMessage } from "#kernel/store/ports.ts";
import {
  decodeFact,
  decodeOutcome,
  decodePane,
  openRollup,
  takeOutcome,
  takePane,
  type Rollup,
} from "../panes/door.ts";
import { fold, openFold, profilesNeeded, type Decision, type TrackFold, type TrackInput } from "../verdict/door.ts";

export type { Decision, TrackInput } from "../verdict/door.ts";

/** Plain JSON: the snapshot of a track. */
export type TrackWork = {
  format: 1;
  track: number;
  /** The last sequence of MESH_PANE applied. */
  cursor: number;
  fold: TrackFold;
  rollup: Rollup;
  skipped: number[];
  /** Sequences of the verdicts whose decision is kept, oldest first. */
  verdicts: number[];
};

const SKIPPED_MAX = 1_000;

export function openWork(track: number): TrackWork {
  return { format: 1, track, cursor: 0, fold: openFold(track), rollup: openRollup(), skipped: [], verdicts: [] };
}

/** What a message of MESH_PANE says and of which track; undefined when it cannot be read. */
export function readInput({ subject, payload }: LogMessage): { track: number; input: TrackInput } | undefined {
  const [, kind, , ordinal] = subject.split(".");
  const input = readAs(kind ?? "", payload);
  if (input === undefined) return undefined;
  const track = trackOf(input);
  return String(track) === ordinal ? { track, input } : undefined;
}

function readAs(kind: string, payload: Uint8Array): TrackInput | undefined {
  if (kind === "pane") {
    const pane = decodePane(payload);
    return pane === undefined ? undefined : { kind, pane };
  }
  if (kind === "opane") {
    const outcome = decodeOutcome(payload);
    return outcome === undefined ? undefined : { kind: "outcome", outcome };
  }
  const fact = kind === "fact" ? decodeFact(payload) : undefined;
  return fact === undefined ? undefined : { kind: "fact", fact };
}

function trackOf(input: TrackInput): number {
  switch (input.kind) {
    case "pane":
      return input.pane.track;
    case "outcome":
      return input.outcome.track;
    case "fact":
      return input.fact.track;
  }
}

/** The profiles an input needs before it is applied. */
export const needed = (input: TrackInput): string[] => (input.kind === "fact" ? profilesNeeded(input.fact) : []);

/** Applies an input once (T2) and says what was decided. */
export function applyInput(
  work: TrackWork,
  input: TrackInput,
  seq: number,
  profileOf: (sha256: string) => Profile | undefined,
): Decision[] {
  work.cursor = seq;
  if (input.kind === "pane" && !takePane(work.rollup, input.pane)) return [];
  if (input.kind === "outcome" && !takeOutcome(work.rollup, input.outcome)) return [];
  return fold(work.fold, input, seq, profileOf);
}

export function skip(work: TrackWork, seq: number): void {
  work.cursor = seq;
  work.skipped.push(seq);
  if (work.skipped.length > SKIPPED_MAX) work.skipped.shift();
}

/** Decisions of one message by kind, as text: canonical JSON, a line each. */
export function decisionTexts(decisions: readonly Decision[]): Map<DecisionKind, string> {
  const texts = new Map<DecisionKind, string>();
  for (const decision of decisions) {
    const line = canonicalJson(contentOf(decision));
    const before = texts.get(decision.kind);
    texts.set(decision.kind, before === undefined ? line : `${before}\n${line}`);
  }
  return texts;
}

function contentOf(decision: Decision): unknown {
  switch (decision.kind) {
    case "verdict":
      return decision.verdict;
    case "episode":
      return decision.episode;
    case "evidence":
      return decision.evidence;
  }
}
