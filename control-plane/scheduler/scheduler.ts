// Where something runs: filter, score, pick. Pure.
// K1 The answer names every node that was refused, and why. K2 The same input gives the same node.
import type { Resources, Scope } from "#kernel/domain/model.ts";

export type Candidate = { name: string; alive: boolean; shares: Resources; free: Resources };
export type Demand = {
  scope: Scope;
  resources: Resources;
  /** How many of the same workload each node has: they are spread. */
  already: ReadonlyMap<string, number>;
};
export type Refusal = { node: string; reason: string };
export type Placement = { kind: "placed"; node: string } | { kind: "nowhere"; refusals: readonly Refusal[] };

/** Picks a node, or says of each why not. */
export function place(nodes: readonly Candidate[], demand: Demand): Placement {
  const refusals: Refusal[] = [];
  let best: { node: string; score: number } | undefined;
  for (const node of [...nodes].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const reason = refusal(node, demand);
    if (reason !== undefined) refusals.push({ node: node.name, reason });
    else {
      const score = scoreOf(node, demand);
      if (best === undefined || score > best.score) best = { node: node.name, score };
    }
  }
  return best === undefined ? { kind: "nowhere", refusals } : { kind: "placed", node: best.node };
}

function refusal(node: Candidate, { scope, resources }: Demand): string | undefined {
  if (scope !== "open" && scope !== `node/${node.name}`) return `not the node of this strict deployment`;
  if (!node.alive) return "its agent does not answer";
  const short: string[] = [];
  if (resources.cpu > node.free.cpu + 1e-9)
    short.push(`cpu ${figure(resources.cpu)} asked, ${figure(node.free.cpu)} free`);
  if (resources.memoryBytes > node.free.memoryBytes)
    short.push(`memory ${sizeText(resources.memoryBytes)} asked, ${sizeText(node.free.memoryBytes)} free`);
  return short.length === 0 ? undefined : short.join(", ");
}

/** Few of the same workload first, then the larger free share after placing. */
function scoreOf(node: Candidate, { resources, already }: Demand): number {
  const cpuLeft = (node.free.cpu - resources.cpu) / Math.max(node.shares.cpu, 1e-9);
  const memoryLeft = (node.free.memoryBytes - resources.memoryBytes) / Math.max(node.shares.memoryBytes, 1);
  return -10 * (already.get(node.name) ?? 0) + Math.min(cpuLeft, memoryLeft);
}

/** One sentence of all refusals. A strict demand only speaks of its own node. */
export function refusalText(refusals: readonly Refusal[], scope: Scope): string {
  if (scope !== "open") {
    const own = refusals.find(({ node }) => scope === `node/${node}`);
    const name = scope.slice("node/".length);
    return own === undefined ? `node ${name} is not there` : `node ${name}: ${own.reason}`;
  }
  if (refusals.length === 0) return "there is no node yet";
  return `no node has room: ${refusals.map(({ node, reason }) => `node ${node}: ${reason}`).join("; ")}`;
}

const figure = (value: number): string => String(Number(value.toFixed(3)));

/** Bytes as people write them: 512Mi, 1.5Gi. */
export function sizeText(bytes: number): string {
  const units = ["", "Ki", "Mi", "Gi", "Ti"];
  let value = Math.max(0, bytes);
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${Number(value.toFixed(unit === 0 ? 0 : 1))}${units[unit] ?? ""}`;
}
