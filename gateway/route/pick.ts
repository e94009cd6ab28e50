// Chooses among the replicas of an arm: the less loaded of two taken by chance, leaving out those that just refused a connection.
import type { Rand } from "#kernel/base/rand.ts";

/** What the gateway knows of a replica's load: its own calls there, and until when it is left alone. */
export type Load = { inFlight: number; restUntilMs: number };

/** Index of the chosen one; undefined when there is none. Resting ones are taken only when all rest. */
export function pickOf(loads: readonly Load[], nowMs: number, rand: Rand): number | undefined {
  if (loads.length <= 1) return loads.length === 1 ? 0 : undefined;
  const awake = [...loads.keys()].filter((i) => (loads[i]?.restUntilMs ?? 0) <= nowMs);
  const among = awake.length > 0 ? awake : [...loads.keys()];
  const first = among[rand.below(among.length)];
  const second = among[rand.below(among.length)];
  if (first === undefined || second === undefined) return first;
  return (loads[second]?.inFlight ?? 0) < (loads[first]?.inFlight ?? 0) ? second : first;
}
