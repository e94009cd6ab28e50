// Owns the fold of a track: panes, outcome panes and facts in stream order become verdicts, episodes and evidence.
// Z1 Pure: no clock, no chance, no I/O. The same inputs give the same bytes, from the start or from any snapshot.
// Z2 A block is one UTC day of event time. Its features close when the champion's boots have passed its end; its outcome closes
//    when outcome panes have passed its end too and its features are closed. Nothing is judged before the first TrackFact.
// Z3 Blocks with a data fault are not used for recalibration, realised risk or evidence.
// Z4 Detectors restart with each champion and each profile, and after an episode was ended.
import { present } from "#kernel/base/assert.ts";
import type { OutcomePane, Pane } from "#kernel/domain/pane.ts";
import { DAY_MS, type Profile } from "#kernel/domain/profile.ts";
import type { EpisodeState, EvidenceState, Fact, TrackFact, VerdictState } from "#kernel/domain/state.ts";
import {
  championChanged,
  endEpisode,
  episodeState,
  featureBlock,
  qualityBlock,
  riskBlock,
  type Told,
} from "../episodes/door.ts";
import { evidenceState, followRollout, takeBlock } from "../evidence/door.ts";
import { freshDetector } from "../stats/door.ts";
import { faultsOf, judgeFeatures, shiftsOf } from "./features.ts";
import { endBoot, featureWatermark, takeOutcome, takePane } from "./intake.ts";
import { judgeRisk } from "./risk.ts";
import { emptyFold, freshChampion, OPEN_DAYS_MAX, type OutcomeDayFold, type TrackFold } from "./state.ts";
import { verdictOf } from "./verdict.ts";

export type { TrackFold } from "./state.ts";

export type TrackInput =
  | { kind: "pane"; pane: Pane }
  | { kind: "outcome"; outcome: OutcomePane }
  | { kind: "fact"; fact: Fact };

export type Decision =
  | { kind: "verdict"; verdict: VerdictState }
  | { kind: "episode"; episode: EpisodeState }
  | { kind: "evidence"; evidence: EvidenceState };

export type ProfileOf = (sha256: string) => Profile | undefined;

/** The fold of a track of which nothing was seen. */
export function openFold(track: number): TrackFold {
  return emptyFold(track);
}

/** sha256 of the profiles that must be at hand before this fact, and whatever follows it, is folded. */
export function profilesNeeded(fact: Fact): string[] {
  return fact.kind === "track" && fact.profileSha256 !== "" ? [fact.profileSha256] : [];
}

/** Folds one input with its stream sequence into `state` (in place) and says what was decided by it, in order. */
export function fold(state: TrackFold, input: TrackInput, seq: number, profileOf: ProfileOf): Decision[] {
  const decisions: Decision[] = [];
  state.seq = seq;
  switch (input.kind) {
    case "pane":
      takePane(state, input.pane);
      break;
    case "outcome":
      takeOutcome(state, input.outcome);
      break;
    case "fact":
      takeFact(state, input.fact, decisions);
      break;
  }
  const { fact } = state;
  if (fact === null || fact.champion === 0 || fact.profileSha256 === "") return decisions;
  closeBlocks({
    state,
    fact,
    profile: present(profileOf(fact.profileSha256), `profile ${fact.profileSha256}`),
    decisions,
  });
  return decisions;
}

function takeFact(state: TrackFold, fact: Fact, decisions: Decision[]): void {
  if (fact.kind === "boot-ended") {
    endBoot(state, fact.boot);
    return;
  }
  if (state.fact !== null && fact.revision <= state.fact.revision) return;
  state.fact = fact;
  if (fact.ended !== null) {
    const told = endEpisode(state.episodes, state.track, fact.ended, state.outcomesUntilMs);
    if (told.length > 0) state.champion.risk = freshDetector();
    tell(state, fact, told, decisions);
  }
  const { version, profileSha256 } = state.champion;
  if (fact.champion !== version || fact.profileSha256 !== profileSha256) {
    state.champion = freshChampion(fact.champion, fact.profileSha256);
    if (version !== 0) tell(state, fact, championChanged(state.episodes, state.outcomesUntilMs), decisions);
  }
  state.evidence = followRollout(state.evidence, fact.rollout);
}

type Closing = { state: TrackFold; fact: TrackFact; profile: Profile; decisions: Decision[] };

/** Closes what the watermarks have passed: feature blocks first, both in order of days (Z2). */
function closeBlocks(closing: Closing): void {
  const { state } = closing;
  const features = Math.floor(featureWatermark(state) / DAY_MS) * DAY_MS;
  for (let day = state.days[0]; day !== undefined && day.dayMs + DAY_MS <= features; day = state.days[0]) {
    closeFeatureDay(closing, day.dayMs);
  }
  state.featuresUntilMs = Math.max(state.featuresUntilMs, features);
  const outcomes = Math.min(state.featuresUntilMs, Math.floor(state.outcomeWatermarkMs / DAY_MS) * DAY_MS);
  for (let day = state.outcomes[0]; day !== undefined && day.dayMs + DAY_MS <= outcomes; day = state.outcomes[0]) {
    state.outcomes.shift();
    state.outcomesUntilMs = day.dayMs + DAY_MS;
    closeOutcomeDay(closing, day);
  }
  state.outcomesUntilMs = Math.max(state.outcomesUntilMs, outcomes);
}

function closeFeatureDay({ state, fact, profile, decisions }: Closing, dayMs: number): void {
  const mine = state.days.find((day) => day.dayMs === dayMs && day.version === fact.champion);
  state.days = state.days.filter((day) => day.dayMs > dayMs);
  state.featuresUntilMs = dayMs + DAY_MS;
  if (mine === undefined || !judgeFeatures(state.champion, profile, mine)) return;
  state.blockMs = dayMs;
  state.rows += mine.rows;
  const faults = faultsOf(state.champion.features, profile.features);
  if (faults.length > 0) {
    state.faulty.push(dayMs);
    if (state.faulty.length > OPEN_DAYS_MAX) state.faulty.shift();
  }
  const numbers = { rows: mine.rows, features: faults.length };
  tell(state, fact, qualityBlock(state.episodes, { dayMs, faults, numbers }), decisions);
  const drifting = shiftsOf(state.champion.features, profile.features, "drifting");
  tell(
    state,
    fact,
    featureBlock(state.episodes, { dayMs, drifting, numbers: { rows: mine.rows, features: drifting.length } }),
    decisions,
  );
  decisions.push({ kind: "verdict", verdict: verdictOf(state, fact, profile) });
}

function closeOutcomeDay({ state, fact, profile, decisions }: Closing, day: OutcomeDayFold): void {
  const { dayMs } = day;
  const faulty = state.faulty.includes(dayMs);
  const mine = day.versions.find(({ version }) => version === fact.champion);
  if (mine !== undefined)
    judgeOutcome(
      { state, fact, profile, decisions },
      { dayMs, table: mine.table, unlabelled: mine.unlabelled, faulty },
    );
  if (state.evidence !== null) {
    takeBlock(state.evidence, day.pairs, faulty, fact.policy);
    const at = { track: state.track, watermarkMs: state.outcomesUntilMs, seq: state.seq };
    decisions.push({ kind: "evidence", evidence: evidenceState(state.evidence, at) });
  }
}

type Outcome = {
  dayMs: number;
  table: OutcomeDayFold["versions"][number]["table"];
  unlabelled: number;
  faulty: boolean;
};

function judgeOutcome(
  { state, fact, profile, decisions }: Closing,
  { dayMs, table, unlabelled, faulty }: Outcome,
): void {
  const { champion, episodes } = state;
  const labelled = table.n.reduce((total, n) => total + n, 0);
  state.labelled += labelled;
  champion.reading = { ...champion.reading, outcomeBlockMs: dayMs, unlabelled };
  const reading = faulty ? undefined : judgeRisk(champion, profile, { dayMs, table }, fact.policy);
  if (reading !== undefined) {
    champion.reading = { ...reading.numbers, outcomeBlockMs: dayMs, unlabelled };
    const drifting = shiftsOf(champion.features, profile.features, "drifting");
    const causes = [...reading.causes, ...shiftsOf(champion.features, profile.features, "beyond")];
    const sighting = {
      ...reading,
      causes,
      unusual: reading.unusual || drifting.length > 0,
      dayMs,
      held: state.evidence !== null,
    };
    const before = episodes.risk;
    tell(state, fact, riskBlock(episodes, sighting), decisions);
    if (before?.state === "Confirmed" && episodes.risk === null) champion.risk = freshDetector();
  }
  decisions.push({ kind: "verdict", verdict: verdictOf(state, fact, profile) });
}

function tell(state: TrackFold, fact: TrackFact, told: readonly Told[], decisions: Decision[]): void {
  const of = { track: state.track, model: fact.model, scope: fact.scope, seq: state.seq };
  for (const t of told) decisions.push({ kind: "episode", episode: episodeState(t, of) });
}
