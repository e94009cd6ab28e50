// The one reconcile function: what is known in, one atomic batch of writes out. Pure; this is what simulations drive.
// C1 Level-triggered: the same world and the same time give the same decision, and a world that is as it should be gives none.
import type { EpochState } from "#kernel/domain/state.ts";
import type { Observed } from "../backend/door.ts";
import { offers, reports, routes, status, workloads } from "../deployments/door.ts";
import { type Decision, Draft, freeShares, type Lookup, nodes, type Pass, Room, type Wanted } from "../pass/door.ts";
import { tracks } from "../registry/door.ts";
import { policy, runs } from "../retrain/door.ts";
import { rollouts } from "../rollout/door.ts";
import { REPLICA_ENDED, type View } from "../world/door.ts";
import { trackFacts } from "./facts.ts";

export type DecideInput = {
  world: View;
  observed: Observed | undefined;
  nowMs: number;
  epoch: EpochState;
  /** host:port that open deployments are told. */
  endpoint: string;
  lookup: Lookup;
  refuses: (inference: { runtime: string; image?: string }) => string | undefined;
};

export function decide(input: DecideInput): Decision & { wanted: Wanted } {
  const { world, observed, nowMs, epoch, endpoint, lookup, refuses } = input;
  const draft = new Draft(world, nowMs);
  const wanted: Wanted = { profiles: new Set(), segments: [] };
  const early = { draft, observed, nowMs, lookup, refuses, epoch, wanted };
  const before: Pass = { ...early, room: new Room(draft, observed) };
  nodes(before);
  reports(before);
  const pass: Pass = { ...early, room: new Room(draft, observed) };
  offers(pass);
  tracks(pass);
  // Deployments before runs: serving has the first claim on room.
  const missing = workloads(pass);
  runs(pass);
  rollouts(pass);
  policy(pass);
  routes(pass);
  status(pass, missing, endpoint);
  trackFacts(pass);
  forget(pass);
  freeShares(pass);
  return { ...draft.decision(), wanted };
}

/** Ended replicas are kept for people to look at, then their keys go: their boots never come back. */
const FORGET_MS = 3_600_000;

function forget({ draft, nowMs }: Pass): void {
  for (const { key, value } of draft.all("replica")) {
    if (draft.full) return;
    if (REPLICA_ENDED.has(value.phase) && value.told === true && value.changedMs < nowMs - FORGET_MS)
      draft.delete("replica", key);
  }
}
