// Chapter 8: what it was worth, from answers and truths alone; then each decision once more, to the same bytes.
import { comparePolicies, COST } from "../../policies.ts";
import { historyTable } from "../../history.ts";
import { settingsFrom } from "../../train.ts";
import { dayOf } from "../watch.ts";
import type { Payoff } from "../../policies.ts";
import { MODEL, type World } from "../world.ts";

export async function payoff({ print, mesh, recorder, flights, options, seen }: World): Promise<void> {
  print.chapter("The pay-off, computed by the client from answers and truths");
  const recorded = recorder.recorded();
  const runs = [...seen.runs.values()].filter((r) => r.trigger === "drift").length;
  const alarms = [...seen.episodes.values()].filter((e) => e.confirmTime !== undefined && e.class !== "quality").length;
  const { description } = await mesh.registry.getModel({ name: MODEL });
  const hyperparameters = Object.entries(description?.hyperparameters ?? {}).map(([name, value]) => [
    name,
    value.kind.value,
  ]);
  const result = comparePolicies(recorded, {
    history: historyTable(flights, options),
    settings: settingsFrom(Object.fromEntries(hyperparameters)),
    mesh: { runs, alarms },
    faultDay: options.faultDay,
  });
  const table = (title: string, rows: readonly Payoff[]): void => {
    print.line(
      `${title}, ${rows[0]?.rows ?? 0} labelled rows; cost counts ${COST.missed} for a missed late flight, ${COST.falseAlarm} for a warning in vain`,
    );
    print.table(
      ["policy", "Brier", "cost per 1,000", "runs", "alarms"],
      rows.map((p) => [
        NAMES[p.policy],
        p.brier.toFixed(5),
        p.costPer1000.toFixed(1),
        String(p.runs),
        String(p.alarms),
      ]),
    );
  };
  table("all days", result.policies);
  table("days of the broken feed left out", result.outsideFault);
  print.line(`weeks in which the mesh lost to pinned version 1: ${losses(result.weeks)}`);
  print.line(`over all days the mesh lost to: ${lostTo(result.policies)}`);
  const of = (policy: Payoff["policy"]): Payoff | undefined => result.policies.find((p) => p.policy === policy);
  const gain = (of("pinned")?.brier ?? 0) - (of("mesh")?.brier ?? 0);
  print.holds(gain > 0, `the mesh gains ${gain.toFixed(5)} Brier over pinned version 1 on all rows`);
}

const NAMES = {
  pinned: "pinned version 1",
  mesh: "the mesh",
  weekly: "retrained every week",
  psi: "retrained when PSI > .1",
} as const;

/** Policies with a lower Brier loss than the mesh, and the runs they took. */
function lostTo(policies: readonly Payoff[]): string {
  const mesh = policies.find((p) => p.policy === "mesh");
  const better = policies.filter((p) => mesh !== undefined && p.brier < mesh.brier);
  return (
    better
      .map((p) => `${NAMES[p.policy]} (by ${((mesh?.brier ?? 0) - p.brier).toFixed(5)}, with ${p.runs} runs)`)
      .join(", ") || "none"
  );
}

function losses(weeks: readonly { fromDay: number; brier: { mesh: number; pinned: number } }[]): string {
  const lost = weeks.filter(({ brier }) => brier.mesh > brier.pinned + 1e-9);
  if (lost.length === 0) return "none";
  return lost
    .map(({ fromDay, brier }) => `from day ${fromDay} (by ${(brier.mesh - brier.pinned).toFixed(5)})`)
    .join(", ");
}

export async function replays({ print, mesh, seen }: World): Promise<void> {
  print.chapter("Every decision again: the stream folded anew gives the same bytes");
  const decisions = [
    ...[...seen.episodes.values()].map((e) => ({
      of: `episode ${e.class} of day ${dayOf(e.fromTime)}`,
      decision: e.decision,
    })),
    ...[...seen.rollouts.values()].map((r) => ({ of: `rollout of version ${r.challenger}`, decision: r.decision })),
  ].filter(({ decision }) => decision !== "");
  let identical = 0;
  for (const { of, decision } of decisions) {
    const replay = await mesh.drift.replay({ decision }, { timeoutMs: 120_000 });
    if (replay.identical) identical++;
    print.line(
      `driftmesh drift replay ${decision}   (${of}: ${replay.identical ? "the same" : "OTHER"} ${replay.made.length} bytes from ${replay.messages} messages)`,
    );
  }
  print.holds(
    decisions.length > 0 && identical === decisions.length,
    `${identical} of ${decisions.length} replays gave the same bytes`,
  );
}
