// Facts: what a verdict depends on, told to the drift service on the stream of panes.
// F1 The intent is written first (revision + 1), then published with an id of (track, revision), again and again until it is acknowledged.
// F2 A fact is the newest truth of its track: intermediate ones may be skipped, the highest revision holds.
import { create, toBinary } from "@bufbuild/protobuf";
import { canonicalJson } from "#kernel/base/bytes.ts";
import type { Scope } from "#kernel/domain/model.ts";
import { type BootEndedFact, type Fact, type RolloutState, SUBJECTS, type TrackFact } from "#kernel/domain/state.ts";
import type { Publication, Write } from "#kernel/store/ports.ts";
import { FactEnvelopeSchema } from "#proto/driftmesh/internal/v1/telemetry_pb.ts";
import { encode, type Pass } from "../pass/door.ts";
import {
  alike,
  championOf,
  descriptionOf,
  liveRollout,
  OWN_KEYS,
  REPLICA_ENDED,
  trackOf,
  versionOf,
  type View,
  workloadOf,
} from "../world/door.ts";

/** Stage: the intents (F1). */
export function trackFacts({ draft }: Pass): void {
  for (const { value: track } of draft.all("track")) {
    if (draft.full) return;
    const key = OWN_KEYS.fact(track.ordinal);
    const stored = draft.get("fact", key)?.value;
    const next = factOf(draft, track);
    if (next === undefined) continue;
    const revision = stored?.fact.revision ?? 0;
    if (stored !== undefined && alike(stored.fact, { ...next, revision })) continue;
    draft.put("fact", key, { fact: { ...next, revision: revision + 1 }, acked: stored?.acked ?? 0 });
  }
}

function factOf(
  view: View,
  { model, scope, ordinal }: { model: string; scope: Scope; ordinal: number },
): TrackFact | undefined {
  const champion = versionOf(view, model, championOf(view, model, scope));
  const policy = descriptionOf(view, model)?.policy;
  if (champion === undefined || policy === undefined) return undefined;
  const rollout = liveRollout(view, model, scope)?.value;
  const { tolerance, scale, labelHorizonHours, probationDays } = policy;
  return {
    kind: "track",
    track: ordinal,
    revision: 0,
    model,
    scope,
    champion: champion.version,
    profileSha256: champion.profileSha256,
    policy: {
      tolerance,
      scale,
      labelHorizonHours,
      shadowDays: rollout?.shadowDays ?? policy.shadowDays,
      probationDays,
    },
    rollout:
      rollout === undefined
        ? null
        : { id: rollout.id, champion: rollout.champion, challenger: rollout.challenger, stage: rollout.stage },
    ended: endedOf(view, model, scope),
  };
}

/** The newest episode that a rollout of the track has ended. */
function endedOf(view: View, model: string, scope: Scope): TrackFact["ended"] {
  let newest: { rollout: RolloutState; episode: string; as: "retrained" | "rejected" } | undefined;
  for (const { value: rollout } of view.of("rollout", model)) {
    const as = endOf(rollout);
    if (rollout.scope !== scope || as === undefined || rollout.episode === undefined) continue;
    const later =
      newest === undefined ||
      rollout.createdMs > newest.rollout.createdMs ||
      (rollout.createdMs === newest.rollout.createdMs && rollout.id > newest.rollout.id);
    if (later) newest = { rollout, episode: rollout.episode, as };
  }
  return newest === undefined ? null : { episode: newest.episode, as: newest.as };
}

function endOf({ stage, frozenFrom }: RolloutState): "retrained" | "rejected" | undefined {
  if (stage === "Rejected") return "rejected";
  const moved =
    stage === "Probation" ||
    stage === "Promoted" ||
    stage === "RolledBack" ||
    (stage === "Frozen" && frozenFrom === "Probation");
  return moved ? "retrained" : undefined;
}

/** A publication and the write that notes its acknowledgement. */
export type FactJob = { publication: Publication; acked: Write };

/** Everything that the stream may not have yet. */
export function factJobs(view: View): FactJob[] {
  const jobs: FactJob[] = [];
  for (const { key, value, revision } of view.all("fact")) {
    if (value.acked >= value.fact.revision) continue;
    const { track } = value.fact;
    jobs.push({
      publication: publicationOf(`fact/${track}/${value.fact.revision}`, value.fact),
      acked: { kind: "update", key, revision, value: encode({ ...value, acked: value.fact.revision }) },
    });
  }
  for (const { key, value, revision } of view.all("replica")) {
    if (!REPLICA_ENDED.has(value.phase) || value.told === true) continue;
    const workload = workloadOf(view, value.workload)?.value;
    const track = workload === undefined ? undefined : trackOf(view, workload.model, workload.scope)?.value.ordinal;
    if (track === undefined) continue;
    const fact: BootEndedFact = { kind: "boot-ended", track, boot: value.boot, lastNumber: value.lastNumber ?? 0 };
    jobs.push({
      publication: publicationOf(`ended/${track}/${value.boot}`, fact),
      acked: { kind: "update", key, revision, value: encode({ ...value, told: true }) },
    });
  }
  return jobs;
}

function publicationOf(id: string, fact: Fact): Publication {
  const payload = toBinary(FactEnvelopeSchema, create(FactEnvelopeSchema, { json: canonicalJson(fact) }));
  return { subject: SUBJECTS.fact(fact.track), id, payload };
}
