// A track has one champion, and its route says so at every instant.
// K1 The champion moves only when registered first, and with its rollout: into Probation, or back when rolled back or rejected.
// K2 At most one rollout of a track is under way. K3 Weights of a route sum to 100, and its arms are the champion (the former one until
// the new one answers) and that rollout's challenger.
import { KEYS } from "#kernel/domain/state.ts";
import type { AliasState, RolloutState, RouteState } from "#kernel/domain/state.ts";
import { type Checker, type KeyChange, onWrites } from "./checker.ts";

const ENDED = ["Promoted", "Rejected", "RolledBack"];

export const champions: Checker = {
  name: "champions",
  promises: "one champion per track, moved only by its rollout",
  begin: () => {
    const rollouts = new Map<string, RolloutState>();
    return onWrites((changes) => {
      const before = new Map(rollouts);
      for (const { key, after } of changes) {
        if (!key.startsWith("rollout.")) continue;
        if (after === undefined) rollouts.delete(key);
        else rollouts.set(key, after as RolloutState);
      }
      return changes.flatMap((change) => [...champion(change, changes, before), ...oneRollout(change, rollouts)]);
    });
  },
};

function champion(change: KeyChange, batch: readonly KeyChange[], before: ReadonlyMap<string, RolloutState>): string[] {
  const { key, by } = change;
  if (!/^alias\..*\.champion$/.test(key)) return [];
  const was = (change.before as AliasState | undefined)?.version;
  const is = (change.after as AliasState | undefined)?.version;
  if (was === undefined || was === is) return [];
  if (is === undefined) return [`${by} took away ${key}`];
  const moves = batch.some(({ key: other, after }) => {
    if (!other.startsWith("rollout.") || after === undefined) return false;
    const rollout = after as RolloutState;
    if (KEYS.alias(rollout.model, rollout.scope, "champion") !== key) return false;
    const from = before.get(other)?.stage;
    if (rollout.stage === "Probation") return from !== "Probation" && rollout.challenger === is;
    return ENDED.includes(rollout.stage) && rollout.champion === is;
  });
  return moves ? [] : [`${by} moved ${key} from ${was} to ${is} without its rollout`];
}

function oneRollout({ key, before, after, by }: KeyChange, rollouts: ReadonlyMap<string, RolloutState>): string[] {
  if (!key.startsWith("rollout.") || before !== undefined || after === undefined) return [];
  const { model, scope } = after as RolloutState;
  const others = [...rollouts].filter(
    ([other, value]) => other !== key && value.model === model && value.scope === scope && !ENDED.includes(value.stage),
  );
  return others.map(([other]) => `${by} began ${key} while ${other} of the same track is under way`);
}

export const routes: Checker = {
  name: "routes",
  promises: "route weights sum to 100 and name only the champion and its challenger",
  begin: () => {
    const state = new Map<string, unknown>();
    return onWrites((changes) => {
      for (const { key, after } of changes) state.set(key, after);
      return changes.flatMap(({ key, after, by }) => {
        if (!key.startsWith("route.") || after === undefined) return [];
        return wrongRoute(after as RouteState, state).map((says) => `${by} wrote ${key}: ${says}`);
      });
    });
  },
};

function wrongRoute({ model, scope, arms, shadow }: RouteState, state: ReadonlyMap<string, unknown>): string[] {
  const total = arms.reduce((sum, { weight }) => sum + weight, 0);
  const problems = arms.length > 0 && total !== 100 ? [`weights sum to ${total}`] : [];
  if (arms.some(({ weight }) => weight < 0)) problems.push("a weight is negative");
  const alias = state.get(KEYS.alias(model, scope, "champion")) as AliasState | undefined;
  const rollouts = [...state].flatMap(([key, value]) =>
    key.startsWith("rollout.") && value !== undefined ? [value as RolloutState] : [],
  );
  const mine = rollouts.filter((r) => r.model === model && r.scope === scope && !ENDED.includes(r.stage));
  const allowed = new Set([alias?.version, alias?.previous, ...mine.flatMap((r) => [r.champion, r.challenger])]);
  for (const { version, weight } of arms)
    if (weight > 0 && !allowed.has(version)) problems.push(`version ${version} is neither champion nor challenger`);
  if (shadow !== null && !mine.some(({ id }) => id === shadow.rollout))
    problems.push(`the shadow is of ${shadow.rollout}, which is not under way`);
  return problems;
}
