// Stage: workloads are started, kept at their size, cached and destroyed, by their claims.
// L1 Destroying never turns back: a claim that comes then waits for Destroyed and starts generation + 1.
// L2 Cached keeps one Ready replica out of every route; it goes first when memory is short.
// L3 A replica is one start with one boot; boots come from one counter and are never used again.
import { KEYS, type ReplicaState, type WorkloadPhase, type WorkloadState } from "#kernel/domain/state.ts";
import { type Pass, runResources } from "../pass/door.ts";
import { refusalText } from "../scheduler/door.ts";
import {
  bootFloor,
  descriptionOf,
  type Held,
  OWN_KEYS,
  REPLICA_ACTIVE,
  REPLICA_ENDED,
  replicasOf,
  workloadOf,
} from "../world/door.ts";
import { type Claim, claimsOf } from "./claims.ts";
import { drain } from "./reports.ts";

/** Restarts of a replica that keeps getting lost wait 1, 2, 4 ... 60 s; the first is at once. */
const BACKOFF_MAX_MS = 60_000;
const LOSSES_COUNT_MS = 300_000;

/** What keeps each claimed workload from being placed, by its id. */
export type Missing = Map<string, string>;

export function workloads(pass: Pass): Missing {
  const missing: Missing = new Map();
  const claimed = new Set<string>();
  const all = claimsOf(pass.draft);
  for (const claim of all) claimed.add(claim.workload);
  // What runs is repaired before anything new begins.
  const begun = all.filter(({ workload }) => isLive(workloadOf(pass.draft, workload)?.value));
  const fresh = all.filter((claim) => !begun.includes(claim));
  for (const claim of begun) if (!pass.draft.full) keep(pass, claim, missing);
  for (const claim of fresh) if (!pass.draft.full) begin(pass, claim, missing);
  for (const held of pass.draft.all("workload"))
    if (!pass.draft.full && (held.value.phase === "Destroying" || !claimed.has(held.value.id))) release(pass, held);
  return missing;
}

const isLive = (workload: WorkloadState | undefined): boolean =>
  workload !== undefined && workload.phase !== "Destroyed" && workload.phase !== "Destroying";

function begin(pass: Pass, claim: Claim, missing: Missing): void {
  const { draft, nowMs } = pass;
  const { model, version, scope } = claim;
  const key = KEYS.workload(claim.workload);
  const old = draft.get("workload", key)?.value;
  if (old?.phase === "Destroying")
    return void missing.set(claim.workload, "its workload is being destroyed, and starts again then");
  const generation = (old?.generation ?? 0) + 1;
  const next: WorkloadState = {
    id: claim.workload,
    model,
    version,
    scope,
    replicas: claim.replicas,
    phase: "Starting",
    cachedUntilMs: 0,
    generation,
    reason: "",
    changedMs: nowMs,
  };
  if (old !== undefined && draft.hasMoved(key)) return;
  if (!grow(pass, next, missing)) return;
  const step = { model, scope, to: "Starting", reason: "claimed" };
  if (old === undefined) draft.begin("workload", key, step);
  else draft.arrow("workload", key, { ...step, from: old.phase });
  draft.put("workload", key, next);
}

function keep(pass: Pass, claim: Claim, missing: Missing): void {
  const { draft } = pass;
  const held = draft.get("workload", KEYS.workload(claim.workload));
  if (held === undefined) return;
  if (held.value.replicas !== claim.replicas)
    draft.put("workload", held.key, { ...held.value, replicas: claim.replicas });
  const now = draft.get("workload", held.key)?.value ?? held.value;
  grow(pass, now, missing);
  shrink(pass, now, claim.replicas);
  const ready = replicasOf(draft, now.id).filter(({ value }) => value.phase === "Ready").length;
  const why = missing.get(now.id) ?? "";
  if (now.phase === "Cached") move(pass, held.key, "Serving", { reason: "claimed again", cachedUntilMs: 0 });
  else if (ready >= now.replicas) move(pass, held.key, "Serving", { reason: "" });
  else if (now.phase === "Serving")
    move(pass, held.key, "Degraded", { reason: why || `${ready} of ${now.replicas} replicas are ready` });
}

/** Starts what is missing; true when at least one replica of the workload is wanted or runs. */
function grow(pass: Pass, workload: WorkloadState, missing: Missing): boolean {
  const { draft, room, nowMs } = pass;
  const active = replicasOf(draft, workload.id).filter(({ value }) => REPLICA_ACTIVE.has(value.phase));
  if (active.length >= workload.replicas) return true;
  const wait = backoff(pass, workload);
  if (wait !== undefined) {
    missing.set(workload.id, wait);
    return active.length > 0;
  }
  const already = new Map<string, number>();
  for (const { value } of active) already.set(value.node, (already.get(value.node) ?? 0) + 1);
  const resources = runResources(draft, workload.model);
  let placed = active.length;
  for (; placed < workload.replicas; placed += 1) {
    const placement = room.place(workload.scope, resources, already);
    if (placement.kind === "nowhere") {
      missing.set(workload.id, `${refusalText(placement.refusals, workload.scope)}${evict(pass, workload)}`);
      break;
    }
    already.set(placement.node, (already.get(placement.node) ?? 0) + 1);
    const boot = nextBoot(pass);
    const id = `${workload.model}-${workload.version}-${boot}`;
    const replica: ReplicaState = {
      id,
      workload: workload.id,
      generation: workload.generation,
      node: placement.node,
      boot,
      address: "",
      phase: "Wanted",
      reason: "",
      changedMs: nowMs,
    };
    draft.begin("replica", KEYS.replica(id), {
      model: workload.model,
      scope: workload.scope,
      to: "Wanted",
      reason: `placed on node ${placement.node}`,
    });
    draft.put("replica", KEYS.replica(id), replica);
  }
  return placed > 0;
}

function nextBoot({ draft }: Pass): number {
  const known = draft.get("boot", OWN_KEYS.boot)?.value;
  const last = (known?.last ?? 0) + 1;
  draft.put("boot", OWN_KEYS.boot, { ...known, last });
  return last;
}

/** Why no replica is started right now: the last ones were lost too quickly. */
function backoff({ draft, nowMs }: Pass, workload: WorkloadState): string | undefined {
  // What an older epoch lost says nothing of this one.
  const floor = bootFloor(draft);
  const counts = ({ phase, changedMs, boot }: ReplicaState): boolean =>
    phase === "Lost" && changedMs > nowMs - LOSSES_COUNT_MS && boot >= floor;
  const lost = draft
    .of("replica", workload.id)
    .flatMap(({ value }) => (counts(value) ? [value] : []))
    .sort((a, b) => a.changedMs - b.changedMs);
  const last = lost.at(-1);
  if (last === undefined || lost.length < 2) return undefined;
  const untilMs = last.changedMs + Math.min(BACKOFF_MAX_MS, 1_000 * 2 ** (lost.length - 2));
  if (nowMs >= untilMs) return undefined;
  return `replica ${last.id} was lost (${last.reason || "no reason given"}), the ${lost.length}th within 5 minutes; the next start is in ${Math.ceil((untilMs - nowMs) / 1000)} s`;
}

/** Sends the oldest cached workload off a node where that would make enough room, unless room is being made there already (L2). Says so. */
function evict(pass: Pass, wanted: WorkloadState): string {
  const { draft, room } = pass;
  const need = runResources(draft, wanted.model);
  for (const node of room.nodes()) {
    if (!node.alive || (wanted.scope !== "open" && wanted.scope !== `node/${node.name}`)) continue;
    const here = draft
      .all("replica")
      .flatMap(({ value }) => (value.node === node.name && !REPLICA_ENDED.has(value.phase) ? [value] : []));
    const leaving = here.some(
      ({ phase, workload }) => phase === "Draining" || workloadOf(draft, workload)?.value.phase === "Destroying",
    );
    if (leaving) return `; node ${node.name} is making room`;
    const cached = here
      .flatMap(({ workload }) => workloadOf(draft, workload) ?? [])
      .filter(({ key, value }) => value.phase === "Cached" && !draft.hasMoved(key))
      .sort((a, b) => a.value.cachedUntilMs - b.value.cachedUntilMs);
    const cpu = cached.reduce((sum, { value }) => sum + runResources(draft, value.model).cpu, node.free.cpu);
    const memory = cached.reduce(
      (sum, { value }) => sum + runResources(draft, value.model).memoryBytes,
      node.free.memoryBytes,
    );
    const oldest = cached[0];
    if (oldest === undefined || cpu + 1e-9 < need.cpu || memory < need.memoryBytes) continue;
    move(pass, oldest.key, "Destroying", { reason: `its room is needed for ${wanted.id}`, cachedUntilMs: 0 });
    return `; the cached workload ${oldest.value.id} makes room`;
  }
  return "";
}

/** Drains what is too much: those that are not ready first, then the newest. */
function shrink(pass: Pass, workload: WorkloadState, wanted: number): void {
  const active = replicasOf(pass.draft, workload.id).filter(({ value }) => REPLICA_ACTIVE.has(value.phase));
  const order = active.sort((a, b) => rank(b.value) - rank(a.value) || b.value.boot - a.value.boot);
  for (const { value } of order.slice(0, Math.max(0, active.length - wanted))) drain(pass, value, "no longer wanted");
}
const rank = (replica: ReplicaState): number => (replica.phase === "Ready" ? 0 : 1);

function release(pass: Pass, { key, value }: Held<WorkloadState>): void {
  const { draft, nowMs } = pass;
  const replicas = replicasOf(draft, value.id).map((held) => held.value);
  const ready = replicas.some(({ phase }) => phase === "Ready");
  switch (value.phase) {
    case "Starting":
      return ready ? cache(pass, key, value) : move(pass, key, "Destroying", { reason: "nobody claims it" });
    case "Serving":
    case "Degraded":
      return cache(pass, key, value);
    case "Cached":
      shrink(pass, value, 1);
      if (!ready) return move(pass, key, "Destroying", { reason: "its replica ended", cachedUntilMs: 0 });
      if (nowMs >= value.cachedUntilMs)
        move(pass, key, "Destroying", { reason: "the grace is over", cachedUntilMs: 0 });
      return;
    case "Destroying":
      for (const replica of replicas) drain(pass, replica, "its workload is destroyed");
      if (replicas.every(({ phase }) => REPLICA_ENDED.has(phase))) move(pass, key, "Destroyed", { reason: "" });
      return;
    case "Destroyed":
      return;
  }
}

function cache(pass: Pass, key: string, { model, id }: WorkloadState): void {
  const seconds = descriptionOf(pass.draft, model)?.policy.cacheGraceSeconds ?? 0;
  move(pass, key, "Cached", {
    reason: `nobody claims it; kept for ${seconds} s`,
    cachedUntilMs: pass.nowMs + seconds * 1_000,
  });
  const now = workloadOf(pass.draft, id)?.value;
  if (now !== undefined) shrink(pass, now, 1);
}

function move({ draft, nowMs }: Pass, key: string, to: WorkloadPhase, patch: Partial<WorkloadState>): void {
  const value = draft.get("workload", key)?.value;
  if (value === undefined || value.phase === to) return;
  const reason = patch.reason ?? "";
  if (!draft.arrow("workload", key, { model: value.model, scope: value.scope, from: value.phase, to, reason })) return;
  draft.put("workload", key, { ...value, ...patch, phase: to, changedMs: nowMs });
}
