// Stage: what the agents say of replicas becomes their phase.
// P1 A replica ends once: a boot is never used again. P2 A silent agent's replicas are lost after LOST_MS, not before.
// P3 A replica of an older epoch is kept where an agent still has it; where none has, it is lost, and another start takes its place.
import { KEYS, type ReplicaPhase, type ReplicaState } from "#kernel/domain/state.ts";
import type { ReplicaReport } from "../backend/door.ts";
import type { Pass } from "../pass/door.ts";
import { bootFloor, type Held, REPLICA_ENDED, workloadOf } from "../world/door.ts";

/** Children drain 60 s after their agent's death. */
const LOST_MS = 60_000;

export function reports(pass: Pass): void {
  const { draft, observed } = pass;
  if (observed === undefined) return;
  const said = new Map(observed.replicas.map((report) => [`${report.id}.${report.boot}`, report]));
  for (const held of draft.all("replica")) {
    if (draft.full) return;
    const replica = held.value;
    if (REPLICA_ENDED.has(replica.phase)) continue;
    const report = observed.connected ? said.get(`${replica.id}.${replica.boot}`) : undefined;
    if (report !== undefined) follow(pass, held, report);
    else {
      const reason = silence(pass, replica);
      if (reason !== undefined) step(pass, held, "Lost", { reason });
    }
  }
}

function silence({ draft, observed, epoch, nowMs }: Pass, replica: ReplicaState): string | undefined {
  if (observed === undefined) return undefined;
  if (!observed.connected)
    return nowMs - observed.sinceMs > LOST_MS ? `the agent of node ${replica.node} does not answer` : undefined;
  if (!observed.nodes.some(({ name }) => name === replica.node)) return `node ${replica.node} is no longer there`;
  return replica.boot < bootFloor(draft) ? `it ran before epoch ${epoch.epoch} of the store began` : undefined;
}

function follow(pass: Pass, held: Held<ReplicaState>, report: ReplicaReport): void {
  const to = nextPhase(held.value.phase, report.phase);
  const { address, reason, lastNumber } = report;
  const ended = REPLICA_ENDED.has(to) ? { lastNumber } : {};
  step(pass, held, to, { ...(address === "" ? {} : { address }), reason, ...ended });
}

/** One arrow towards what is reported. */
function nextPhase(phase: ReplicaPhase, reported: ReplicaReport["phase"]): ReplicaPhase {
  if (reported === "lost") return "Lost";
  if (phase === "Wanted") return reported === "gone" ? "Lost" : "Starting";
  if (reported === "ready") return phase === "Starting" || phase === "Probing" ? "Ready" : phase;
  if (reported === "draining") return "Draining";
  if (reported === "gone") return phase === "Draining" ? "Gone" : "Draining";
  return phase;
}

/** Takes the arrow, or writes nothing where the phase stays. */
function step(pass: Pass, { key, value }: Held<ReplicaState>, to: ReplicaPhase, patch: Partial<ReplicaState>): void {
  if (to === value.phase) return;
  const { draft, nowMs } = pass;
  const workload = workloadOf(draft, value.workload)?.value;
  const told = { model: workload?.model ?? "", scope: workload?.scope ?? "", reason: patch.reason ?? "" };
  if (!draft.arrow("replica", key, { ...told, from: value.phase, to })) return;
  draft.put("replica", key, { ...value, ...patch, phase: to, changedMs: nowMs });
}

/** Asks a replica to leave: it is drained, or waits to be seen first. */
export function drain(pass: Pass, replica: ReplicaState, reason: string): void {
  const key = KEYS.replica(replica.id);
  const held = pass.draft.get("replica", key);
  if (held === undefined || held.value.phase === "Wanted" || held.value.phase === "Draining") return;
  step(pass, held, "Draining", { reason });
}
