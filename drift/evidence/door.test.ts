import { seededRand } from "#kernel/base/rand.ts";
import type { PairCounts } from "#kernel/domain/pane.ts";
import type { TrackFact } from "#kernel/domain/state.ts";
import { expect, test } from "vitest";
import { evidenceState, followRollout, takeBlock, type EvidenceFold } from "./door.ts";

const POLICY: TrackFact["policy"] = {
  tolerance: 0.002,
  scale: 0.015,
  labelHorizonHours: 24,
  shadowDays: 14,
  probationDays: 3,
};
const SHADOW = { id: "rol_a", champion: 1, challenger: 2, stage: "Shadow" } as const;
const pair = (gain: number, n = 1000, version = 1, other = 2): PairCounts => ({
  version,
  other,
  n,
  differenceMicro: Math.round(gain * n * 1e6),
  squareMicro: 0,
});

function begun(stage: "Shadow" | "Probation" = "Shadow"): EvidenceFold {
  const evidence = followRollout(null, { ...SHADOW, stage });
  if (evidence === null) throw new Error("a rollout under way has evidence");
  return evidence;
}
const told = (evidence: EvidenceFold) => evidenceState(evidence, { track: 1, watermarkMs: 0, seq: 1 });

test("a challenger better by a unit a day is promoted after six days, one worse is rejected", () => {
  const [better, worse] = [begun(), begun()];
  for (let day = 0; day < 6; day++) {
    takeBlock(better, [pair(0.015)], false, POLICY);
    takeBlock(worse, [pair(-0.015)], false, POLICY);
  }
  expect(told(better)).toMatchObject({ decision: "promote", blocks: 6, pairs: 6000 });
  expect(told(worse)).toMatchObject({ decision: "reject-worse" });
});

test("ten times the rows are no more evidence than the day they came on", () => {
  const [few, many] = [begun(), begun()];
  for (let day = 0; day < 3; day++) {
    takeBlock(few, [pair(0.01, 100)], false, POLICY);
    takeBlock(many, [pair(0.01, 100_000)], false, POLICY);
  }
  expect(told(many).eBetter).toBe(told(few).eBetter);
});

test("equal versions under a common weather of days are promoted in at most one of twenty", () => {
  const rand = seededRand(11);
  let promoted = 0;
  for (let run = 0; run < 500; run++) {
    const evidence = begun();
    for (let day = 0; day < 14; day++) takeBlock(evidence, [pair(0.06 * (rand.next() - 0.5))], false, POLICY);
    if (evidence.decision === "promote") promoted++;
  }
  // 5 % of 500, and the 99.9 % binomial band.
  expect(promoted).toBeLessThanOrEqual(42);
});

test("a challenger that is no better ends with its budget", () => {
  const evidence = begun();
  for (let day = 0; day < 14; day++) takeBlock(evidence, [pair(day % 2 === 0 ? 0.002 : -0.002)], false, POLICY);
  expect(told(evidence)).toMatchObject({ decision: "reject-budget", blocks: 14 });
});

test("faulty days and days of few pairs are no evidence, and a shadow without pairs ends as well", () => {
  const evidence = begun();
  takeBlock(evidence, [pair(0.1)], true, POLICY);
  takeBlock(evidence, [pair(0.1, 20)], false, POLICY);
  expect(told(evidence)).toMatchObject({ blocks: 0, pairs: 0, decision: "wait" });
  for (let day = 0; day < 30; day++) takeBlock(evidence, [], false, POLICY);
  expect(told(evidence).decision).toBe("reject-budget");
});

test("in probation the pairs are turned: a new champion that is much worse is rolled back in three days, an equal one is kept", () => {
  const [harmful, equal] = [begun("Probation"), begun("Probation")];
  takeBlock(harmful, [pair(0.1, 1000, 1, 2)], false, POLICY);
  expect(told(harmful).probationBlocks).toBe(0);
  for (let day = 0; day < 3; day++) {
    takeBlock(harmful, [pair(0.06, 1000, 2, 1)], false, POLICY);
    takeBlock(equal, [pair(0, 1000, 2, 1)], false, POLICY);
  }
  expect(told(harmful).decision).toBe("roll-back");
  expect(told(equal).decision).toBe("keep");
});

test("evidence is kept through the stages of one rollout and begins anew with another", () => {
  const evidence = begun();
  for (let day = 0; day < 6; day++) takeBlock(evidence, [pair(0.015)], false, POLICY);
  const probation = followRollout(evidence, { ...SHADOW, stage: "Probation" });
  expect(probation).toMatchObject({ blocks: 6, decision: "wait", stage: "Probation" });
  expect(followRollout(probation, { ...SHADOW, id: "rol_b" })).toMatchObject({ blocks: 0, rollout: "rol_b" });
  expect(followRollout(probation, { ...SHADOW, stage: "Promoted" })).toBeNull();
  expect(followRollout(probation, null)).toBeNull();
});
