// Stage: tracks come into being and keep their ordinals for ever.
// K1 A model has its open track from registration; a strict track begins with the first strict deployment on its node.
// K2 A strict track's champion begins at the open champion's version.
import type { Scope } from "#kernel/domain/model.ts";
import { KEYS } from "#kernel/domain/state.ts";
import { type Pass, shortened } from "../pass/door.ts";
import { championOf, claims, deployments, scopeOf, trackOf } from "../world/door.ts";

export function tracks(pass: Pass): void {
  const { draft } = pass;
  for (const { value } of draft.all("model")) {
    if (draft.full) return;
    begin(pass, value.description.name, "open");
  }
  for (const deployment of deployments(draft)) {
    if (draft.full) return;
    const { spec } = deployment;
    if (spec.mode !== "strict" || !claims(deployment)) continue;
    const scope = scopeOf(spec);
    begin(pass, spec.model, scope);
    const open = championOf(draft, spec.model, "open");
    if (open > 0 && championOf(draft, spec.model, scope) === 0)
      moveAlias(pass, {
        model: spec.model,
        scope,
        alias: "champion",
        version: open,
        reason: `begins at the open champion, version ${open}`,
      });
  }
}

function begin({ draft }: Pass, model: string, scope: Scope): void {
  if (trackOf(draft, model, scope) !== undefined) return;
  const ordinal = 1 + draft.all("track").reduce((most, { value }) => Math.max(most, value.ordinal), 0);
  draft.put("track", KEYS.track(model, scope), {
    model,
    scope,
    ordinal,
    frozen: false,
    cooldownUntilMs: 0,
    ordersMs: [],
  });
}

/** Moves an alias and tells it. */
export function moveAlias(
  { draft, nowMs }: Pick<Pass, "draft" | "nowMs">,
  move: { model: string; scope: Scope; alias: string; version: number; reason: string },
): void {
  const { model, scope, alias, version } = move;
  const key = KEYS.alias(model, scope, alias);
  const before = draft.get("alias", key)?.value.version ?? 0;
  const reason = shortened(move.reason);
  draft.put("alias", key, { version, previous: before, reason, changedMs: nowMs });
  draft.event({ kind: "alias", key, model, scope, from: String(before), to: String(version), reason });
}
