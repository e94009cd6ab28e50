// Owns the evidence on a rollout: whether the challenger is better, block by block.
// V1 The unit is a day's mean paired loss difference, never a row: rows of a day share its weather.
// V2 Blocks of a data fault, and blocks with too few pairs, are not evidence. V3 One may look after every block (Ville).
//    A stage without pairs ends too: after twice its days.
// V4 A decision stands until the rollout's stage changes. V5 In Probation the pairs are (new champion, old).
// Not here: unlabelled shares by disagreement (pair counts do not carry them), hence no decision "freeze".
import type { PairCounts } from "#kernel/domain/pane.ts";
import type { EvidenceState, RolloutStage, TrackFact } from "#kernel/domain/state.ts";
import { bet, clipGain, freshProcess, level } from "../stats/door.ts";

type Rollout = NonNullable<TrackFact["rollout"]>;
type Policy = TrackFact["policy"];

/** An e-value of 20 against "not better" is evidence at level 1 in 20, at any moment of looking. */
const EVIDENCE = 20;
/** Fewer pairs than this do not make a block. */
const PAIRS_MIN = 50;
/** Harm may count up to four units a block: a new champion that is much worse goes within the days of a probation. */
const ROLLBACK_CEILING = 4;
const MICRO = 1_000_000;

export type EvidenceFold = {
  rollout: string;
  stage: RolloutStage;
  champion: number;
  challenger: number;
  blocks: number;
  /** Blocks since the first with pairs. */
  elapsed: number;
  /** Blocks without enough pairs since the stage began. */
  waited: number;
  probationBlocks: number;
  pairs: number;
  differenceMicro: number;
  better: number[];
  worse: number[];
  rollback: number[];
  decision: EvidenceState["decision"];
};

/** The evidence after the leader's word on the rollout: kept, begun anew, or none. */
export function followRollout(evidence: EvidenceFold | null, rollout: Rollout | null): EvidenceFold | null {
  if (rollout === null || !LIVE.has(rollout.stage)) return null;
  if (evidence === null || evidence.rollout !== rollout.id) return begun(rollout);
  if (evidence.stage === rollout.stage) return evidence;
  return { ...evidence, stage: rollout.stage, waited: 0, decision: "wait" };
}

const LIVE: ReadonlySet<RolloutStage> = new Set<RolloutStage>(["Preparing", "Shadow", "Canary", "Probation", "Frozen"]);

function begun({ id, stage, champion, challenger }: Rollout): EvidenceFold {
  return {
    rollout: id,
    stage,
    champion,
    challenger,
    blocks: 0,
    elapsed: 0,
    waited: 0,
    probationBlocks: 0,
    pairs: 0,
    differenceMicro: 0,
    better: freshProcess(),
    worse: freshProcess(),
    rollback: freshProcess(),
    decision: "wait",
  };
}

/** Takes in a closed block (V1-V3); `faulty` blocks only let time pass. */
export function takeBlock(evidence: EvidenceFold, pairs: readonly PairCounts[], faulty: boolean, policy: Policy): void {
  const { champion, challenger } = evidence;
  const forward = pairs.find((p) => p.version === champion && p.other === challenger);
  const backward = pairs.find((p) => p.version === challenger && p.other === champion);
  if (evidence.stage === "Probation") probation(evidence, backward, faulty, policy);
  else if (evidence.stage === "Shadow" || evidence.stage === "Canary") trial(evidence, forward, faulty, policy);
}

function trial(evidence: EvidenceFold, pair: PairCounts | undefined, faulty: boolean, policy: Policy): void {
  if (faulty) return;
  if (pair !== undefined && pair.n >= PAIRS_MIN) {
    const gain = clipGain(pair.differenceMicro / MICRO / pair.n / policy.scale);
    evidence.blocks++;
    evidence.pairs += pair.n;
    evidence.differenceMicro += pair.differenceMicro;
    evidence.better = bet(evidence.better, gain);
    evidence.worse = bet(evidence.worse, -gain);
  }
  if (evidence.blocks > 0) evidence.elapsed++;
  else evidence.waited++;
  if (evidence.decision !== "wait") return;
  if (level(evidence.better) >= EVIDENCE) evidence.decision = "promote";
  else if (level(evidence.worse) >= EVIDENCE) evidence.decision = "reject-worse";
  else if (evidence.elapsed >= policy.shadowDays || evidence.waited >= 2 * policy.shadowDays)
    evidence.decision = "reject-budget";
}

function probation(evidence: EvidenceFold, pair: PairCounts | undefined, faulty: boolean, policy: Policy): void {
  if (faulty) return;
  if (pair !== undefined && pair.n >= PAIRS_MIN) {
    evidence.probationBlocks++;
    const harm = clipGain(pair.differenceMicro / MICRO / pair.n / policy.scale, ROLLBACK_CEILING);
    evidence.rollback = bet(evidence.rollback, harm);
  } else evidence.waited++;
  if (evidence.decision !== "wait") return;
  const days = policy.probationDays;
  if (level(evidence.rollback) >= EVIDENCE) evidence.decision = "roll-back";
  else if (evidence.probationBlocks >= days || evidence.waited >= 2 * days) evidence.decision = "keep";
}

/** What is told of the evidence. */
export function evidenceState(
  evidence: EvidenceFold,
  at: { track: number; watermarkMs: number; seq: number },
): EvidenceState {
  const { rollout, stage, blocks, probationBlocks, pairs, differenceMicro, decision } = evidence;
  return {
    rollout,
    track: at.track,
    stage,
    blocks,
    probationBlocks,
    pairs,
    meanGain: pairs === 0 ? 0 : differenceMicro / MICRO / pairs,
    eBetter: level(evidence.better),
    eWorse: level(evidence.worse),
    eRollback: level(evidence.rollback),
    unlabelledDisagree: 0,
    unlabelledAgree: 0,
    watermarkMs: at.watermarkMs,
    decision,
    seq: at.seq,
  };
}
