// Stage: who answers for a model in a scope, and who is scored beside it.
// U1 A route moves to the champion when the champion has a Ready replica, and stays with what answers until then.
// U2 A track that no deployment follows has no arm: cached workloads and pinned deployments are never in a route.
// U3 The shadow is the other arm of a live rollout: the challenger, or the previous champion in probation.
import { type RouteState, KEYS } from "#kernel/domain/state.ts";
import type { Pass } from "../pass/door.ts";
import {
  alike,
  championOf,
  claims,
  deployments,
  descriptionOf,
  liveRollout,
  readyOf,
  scopeOf,
  workloadId,
} from "../world/door.ts";
import { followsChampion } from "./claims.ts";

/** How long weights hold without being renewed, and when they are. */
const VALID_MS = 60_000;
const RENEW_MS = 30_000;
const SHADOWED: ReadonlySet<string> = new Set(["Shadow", "Canary", "Probation", "Frozen"]);

export function routes(pass: Pass): void {
  const { draft, nowMs } = pass;
  const followed = new Set(
    deployments(draft)
      .filter((d) => claims(d) && followsChampion(d))
      .map(({ spec }) => KEYS.route(spec.model, scopeOf(spec))),
  );
  for (const { value: track } of draft.all("track")) {
    if (draft.full) return;
    const { model, scope, ordinal } = track;
    const key = KEYS.route(model, scope);
    const old = draft.get("route", key)?.value;
    const arms = followed.has(key) ? armsOf(pass, track, old) : [];
    if (old === undefined && arms.length === 0) continue;
    const shadow = shadowOf(pass, track, arms);
    const same = old !== undefined && alike(old.arms, arms) && alike(old.shadow, shadow);
    // One arm gets everything whether or not its weight is valid: only several need renewing.
    const due = arms.length > 1 && (old?.validUntilMs ?? 0) < nowMs + RENEW_MS;
    if (same && !due) continue;
    draft.put("route", key, { model, scope, ordinal, arms, shadow, validUntilMs: nowMs + VALID_MS });
  }
}

type Track = Pick<RouteState, "model" | "scope" | "ordinal">;

function armsOf({ draft }: Pass, { model, scope }: Track, old: RouteState | undefined): RouteState["arms"] {
  const champion = championOf(draft, model, scope);
  if (champion === 0) return [];
  const ready = (version: number): boolean => readyOf(draft, workloadId(model, version, scope)).length > 0;
  if (ready(champion)) return [{ version: champion, weight: 100 }];
  const still = old?.arms.find(({ version }) => ready(version));
  return [{ version: still?.version ?? champion, weight: 100 }];
}

function shadowOf({ draft }: Pass, { model, scope }: Track, arms: RouteState["arms"]): RouteState["shadow"] {
  const rollout = liveRollout(draft, model, scope)?.value;
  const serving = arms[0]?.version;
  if (rollout === undefined || serving === undefined || !SHADOWED.has(rollout.stage)) return null;
  const rate = descriptionOf(draft, model)?.policy.shadowRate ?? 0;
  const version =
    serving === rollout.champion ? rollout.challenger : serving === rollout.challenger ? rollout.champion : 0;
  return version === 0 || rate === 0 ? null : { version, rate, rollout: rollout.id };
}
