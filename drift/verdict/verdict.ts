// Owns how a track's level is told: its state in one word, its features, its numbers.
import type { Profile } from "#kernel/domain/profile.ts";
import type { TrackFact, VerdictState } from "#kernel/domain/state.ts";
import { warmingUp } from "./features.ts";
import { featureWatermark } from "./intake.ts";
import type { TrackFold } from "./state.ts";

/** The level of a track after the newest closed block. */
export function verdictOf(state: TrackFold, fact: TrackFact, profile: Profile): VerdictState {
  const { champion } = state;
  return {
    track: state.track,
    model: fact.model,
    scope: fact.scope,
    champion: fact.champion,
    blockMs: state.blockMs,
    watermarkMs: featureWatermark(state),
    state: stateOf(state, profile),
    blocks: champion.blocks,
    rows: state.rows,
    labelled: state.labelled,
    numbers: { ...champion.reading, lost: state.lost, faultyBlocks: state.faulty.length },
    features: champion.features.map(({ statistic, limit, drifting, fault, minimumEffect }, f) => ({
      name: profile.features[f]?.name ?? "",
      statistic,
      limit,
      drifting,
      fault,
      minimumEffect,
    })),
    seq: state.seq,
  };
}

function stateOf({ champion, episodes }: TrackFold, profile: Profile): VerdictState["state"] {
  if (episodes.quality !== null) return "data-fault";
  if (episodes.risk?.state === "Confirmed") return "drifting";
  if (episodes.risk !== null) return "suspect";
  return warmingUp(champion, profile) ? "warm-up" : "healthy";
}
