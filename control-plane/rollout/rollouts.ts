// Stage: rollouts walk from Preparing to their end, on the drift service's evidence or a person's word.
// G1 Evidence counts only for the stage it was gathered in. G2 The champion alias moves on entering Probation, and back on RolledBack.
// G3 A person's word is acted on once: in the stage that allows it.
import {
  KEYS,
  type EvidenceState,
  type OrderState,
  type RolloutStage,
  type RolloutState,
} from "#kernel/domain/state.ts";
import { type Pass, shortened } from "../pass/door.ts";
import { moveAlias } from "../registry/door.ts";
import { coolDown } from "../retrain/door.ts";
import { eventClock, readyOf, ROLLOUT_ENDED, trackOf, workloadId } from "../world/door.ts";

export function rollouts(pass: Pass): void {
  for (const { value: rollout } of pass.draft.all("rollout")) {
    if (pass.draft.full) return;
    if (ROLLOUT_ENDED.has(rollout.stage)) continue;
    const step = byHand(pass, rollout) ?? byEvidence(pass, rollout);
    if (step !== undefined) take(pass, rollout, step);
  }
}

type Move = { to: RolloutStage; reason: string; actor?: string };

/** The oldest order by hand that this stage allows. */
function byHand({ draft }: Pass, rollout: RolloutState): Move | undefined {
  const orders = draft
    .of("order", rollout.id)
    .flatMap(({ value }) => (value.by === "hand" ? [value] : []))
    .sort((a, b) => a.createdMs - b.createdMs || (a.id < b.id ? -1 : 1));
  for (const order of orders) {
    const to = handStage(order, rollout.stage);
    if (to !== undefined)
      return { to, reason: `by hand${order.reason === "" ? "" : `: ${order.reason}`}`, actor: "hand" };
  }
  return undefined;
}

function handStage({ kind }: Pick<OrderState, "kind">, stage: RolloutStage): RolloutStage | undefined {
  if (kind === "promote") return stage === "Shadow" ? "Probation" : undefined;
  if (kind !== "reject") return undefined;
  return stage === "Probation" ? "RolledBack" : "Rejected";
}

function byEvidence(pass: Pass, rollout: RolloutState): Move | undefined {
  if (rollout.stage === "Preparing") return prepared(pass, rollout);
  if (rollout.stage === "Frozen") return undefined;
  const evidence = pass.draft.get("evidence", `evidence.${rollout.id}`)?.value;
  if (evidence === undefined || evidence.stage !== rollout.stage) return undefined;
  const says = sentence(evidence);
  switch (evidence.decision) {
    case "wait":
      return undefined;
    case "promote":
      return rollout.stage === "Shadow" || rollout.stage === "Canary"
        ? { to: "Probation", reason: `better: ${says}` }
        : undefined;
    case "reject-worse":
      return rollout.stage === "Probation" ? undefined : { to: "Rejected", reason: `worse: ${says}` };
    case "reject-budget":
      return rollout.stage === "Probation"
        ? undefined
        : { to: "Rejected", reason: `budget-exhausted: not better within ${rollout.shadowDays} days: ${says}` };
    case "keep":
      return rollout.stage === "Probation" ? { to: "Promoted", reason: `kept after probation: ${says}` } : undefined;
    case "roll-back":
      return rollout.stage === "Probation"
        ? { to: "RolledBack", reason: `worse than its predecessor: ${says}` }
        : undefined;
    case "freeze":
      return {
        to: "Frozen",
        reason: `a person must look: rows on which the two disagree stay unlabelled more often than others; ${says}`,
      };
  }
}

/** Shadow begins when the challenger has shown that it runs. */
function prepared({ draft }: Pass, { model, challenger, scope }: RolloutState): Move | undefined {
  const ready = readyOf(draft, workloadId(model, challenger, scope)).length > 0;
  return ready ? { to: "Shadow", reason: `version ${challenger} is scored on the champion's rows` } : undefined;
}

function sentence({
  blocks,
  pairs,
  meanGain,
  eBetter,
  eWorse,
  eRollback,
  stage,
  probationBlocks,
}: EvidenceState): string {
  const evidence =
    stage === "Probation"
      ? `evidence against it ${figure(eRollback)} of 20, ${probationBlocks} days of probation`
      : `evidence for it ${figure(eBetter)}, against it ${figure(eWorse)}, of 20`;
  return `mean gain ${figure(meanGain)} over ${blocks} days and ${pairs} pairs, ${evidence}`;
}
const figure = (value: number): string => String(Number(value.toPrecision(3)));

/** Evidence as the numbers of a rollout. */
export function numbersOf(evidence: EvidenceState | undefined): Record<string, number> {
  if (evidence === undefined) return {};
  return {
    blocks: evidence.blocks,
    pairs: evidence.pairs,
    mean_gain: evidence.meanGain,
    e_better: evidence.eBetter,
    e_worse: evidence.eWorse,
    e_rollback: evidence.eRollback,
    probation_blocks: evidence.probationBlocks,
    unlabelled_disagree: evidence.unlabelledDisagree,
    unlabelled_agree: evidence.unlabelledAgree,
    seq: evidence.seq,
  };
}

function take(pass: Pass, rollout: RolloutState, { to, reason, actor }: Move): void {
  const { draft, nowMs } = pass;
  const { id, model, scope, champion, challenger } = rollout;
  const key = KEYS.rollout(id);
  const numbers = { ...rollout.numbers, ...numbersOf(draft.get("evidence", `evidence.${id}`)?.value) };
  if (
    !draft.arrow("rollout", key, { model, scope, from: rollout.stage, to, reason, numbers, actor: actor ?? "leader" })
  )
    return;
  const ordinal = trackOf(draft, model, scope)?.value.ordinal ?? 0;
  const episode = to === "Probation" ? (rollout.episode ?? openEpisode(pass, ordinal)) : rollout.episode;
  draft.put("rollout", key, {
    ...rollout,
    ...(episode === undefined ? {} : { episode }),
    stage: to,
    frozenFrom: to === "Frozen" ? rollout.stage : "",
    reason: shortened(reason),
    stageEventMs: eventClock(draft, ordinal),
    numbers,
    changedMs: nowMs,
  });
  if (to === "Probation")
    moveAlias(pass, { model, scope, alias: "champion", version: challenger, reason: `rollout ${id}: ${reason}` });
  if (to === "RolledBack")
    moveAlias(pass, {
      model,
      scope,
      alias: "champion",
      version: champion,
      reason: `rollout ${id} rolled back: ${reason}`,
    });
  if (ROLLOUT_ENDED.has(to)) coolDown(pass, rollout);
}

/** The episode that a promotion by hand ends. */
function openEpisode({ draft }: Pass, ordinal: number): string | undefined {
  return draft
    .of("episode", String(ordinal))
    .find(({ value }) => value.class !== "quality" && value.state === "Confirmed")?.value.id;
}
