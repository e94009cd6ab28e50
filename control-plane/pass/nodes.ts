// Stage: what the agents say of their nodes becomes `node.<n>`.
// N1 A node is alive while its agent answers; a silence shorter than SILENCE_MS changes nothing.
import { type NodeState, KEYS } from "#kernel/domain/state.ts";
import type { Pass } from "./pass.ts";

/** An agent's restart takes a few seconds; only a longer silence is one. */
const SILENCE_MS = 15_000;

export function nodes({ draft, observed, nowMs }: Pass): void {
  if (observed === undefined) return;
  const silent = !observed.connected && nowMs - observed.sinceMs > SILENCE_MS;
  const seen = new Set<string>();
  for (const { name, shares } of observed.nodes) {
    seen.add(name);
    const old = draft.get("node", KEYS.node(name))?.value;
    const alive = observed.connected ? true : silent ? false : (old?.alive ?? false);
    const next = { name, shares, free: old?.free ?? shares, agentBoot: observed.agentBoot, alive };
    put(draft, next, old, nowMs);
  }
  for (const { value: old } of draft.all("node"))
    if (!seen.has(old.name) && old.alive && (observed.connected || silent))
      put(draft, { ...old, alive: false }, old, nowMs);
}

/** Last stage: what is left on each node, for people to read. */
export function freeShares({ draft, room, nowMs }: Pass): void {
  for (const { name, free } of room.nodes()) {
    const old = draft.get("node", KEYS.node(name))?.value;
    if (old === undefined) continue;
    put(draft, { ...old, free: { cpu: Number(free.cpu.toFixed(6)), memoryBytes: free.memoryBytes } }, old, nowMs);
  }
}

function put(
  draft: Pass["draft"],
  next: Omit<NodeState, "changedMs">,
  old: NodeState | undefined,
  nowMs: number,
): void {
  const changed = old === undefined || old.alive !== next.alive || old.agentBoot !== next.agentBoot;
  draft.put("node", KEYS.node(next.name), { ...next, changedMs: changed ? nowMs : old.changedMs });
}
