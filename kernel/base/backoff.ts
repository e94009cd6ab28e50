// How long to wait before trying again.
import type { Rand } from "./rand.ts";

/** Exponential from `firstMs` to `maxMs`, half of it jitter. `attempt` counts from 0. */
export function backoffMs(attempt: number, rand: Rand, firstMs = 100, maxMs = 30_000): number {
  const ceilingMs = Math.min(maxMs, firstMs * 2 ** Math.min(attempt, 20));
  return ceilingMs / 2 + rand.next() * (ceilingMs / 2);
}
