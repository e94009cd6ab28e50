// Domain states as messages of driftmesh.v1.Drift. A time of 0 is absent.
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { decisionId } from "#kernel/domain/ids.ts";
import type { EpisodeState, TrackFact, VerdictState } from "#kernel/domain/state.ts";
import type { DriftEventSchema, EpisodeSchema, PaneRowSchema, VerdictSchema } from "#proto/driftmesh/v1/drift_pb.ts";
import type { PaneDay } from "../panes/door.ts";
import type { Told } from "../work/door.ts";

const MICRO = 1_000_000;

export function verdictMessage(v: VerdictState): MessageInitShape<typeof VerdictSchema> {
  return {
    model: v.model,
    scope: v.scope,
    track: v.track,
    champion: v.champion,
    state: v.state,
    ...time("blockTime", v.blockMs),
    ...time("watermark", v.watermarkMs),
    blocks: v.blocks,
    rows: BigInt(v.rows),
    labelled: BigInt(v.labelled),
    numbers: { ...v.numbers },
    features: v.features.map((feature) => ({ ...feature })),
    decision: decisionId("verdict", v.track, v.seq),
  };
}

/** What is said of a track on which nothing was decided yet. */
export function undecided(track: number, fact: TrackFact): MessageInitShape<typeof VerdictSchema> {
  const { model, scope, champion } = fact;
  return { model, scope, track, champion, state: "warm-up" };
}

export function episodeMessage(e: EpisodeState): MessageInitShape<typeof EpisodeSchema> {
  return {
    id: e.id,
    model: e.model,
    scope: e.scope,
    state: e.state,
    closedAs: e.closedAs,
    class: e.class,
    ...time("fromTime", e.fromMs),
    ...time("confirmTime", e.confirmedMs),
    ...time("toTime", e.toMs),
    causes: e.causes.map((cause) => ({ ...cause })),
    retrain: e.retrain,
    withheld: e.withheld,
    numbers: { ...e.numbers },
    decision: decisionId("episode", e.track, e.seq),
  };
}

export function eventMessage(told: Told): MessageInitShape<typeof DriftEventSchema> {
  return told.kind === "verdict"
    ? { event: { case: "verdict", value: verdictMessage(told.verdict) } }
    : { event: { case: "episode", value: episodeMessage(told.episode) } };
}

export function paneMessage(day: PaneDay): MessageInitShape<typeof PaneRowSchema> {
  return {
    startTime: timestampFromMs(day.dayMs),
    version: day.version,
    rows: BigInt(day.rows),
    labelled: BigInt(day.labelled),
    unlabelled: BigInt(day.unlabelled),
    meanLoss: day.labelled === 0 ? 0 : day.lossMicro / MICRO / day.labelled,
    suppressed: BigInt(day.suppressed),
    dropped: BigInt(day.dropped),
  };
}

function time<K extends string>(name: K, ms: number): { [P in K]?: ReturnType<typeof timestampFromMs> } {
  return (ms === 0 ? {} : { [name]: timestampFromMs(ms) }) as { [P in K]?: ReturnType<typeof timestampFromMs> };
}
