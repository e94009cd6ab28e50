// Owns what is known of each boot: how far its batches came without a hole, and the event time none of its later rows comes before.
// B1 A boot's watermark moves only over batches without a hole; beyond AHEAD_MAX the missing one is given up.
// B2 The track's watermark is the minimum over living boots that are not idle, and never goes back. A boot that serves the champion is
//    idle when it is IDLE_CHAMPION_MS behind the foremost, any other (a former champion kept warm) when it is IDLE_OTHER_MS behind.
import { DAY_MS, HOUR_MS } from "#kernel/domain/profile.ts";
import type { Intervals } from "../panes/door.ts";

export type BootJoin = {
  boot: number;
  upto: number;
  watermarkMs: number;
  /** Batches applied above `upto`: [number, watermark], ascending. */
  ahead: [number, number][];
  version: number;
  ended: boolean;
  /** Rows whose hour has closed. */
  closed: Intervals;
};

const AHEAD_MAX = 64;
const IDLE_CHAMPION_MS = 3 * DAY_MS;
const IDLE_OTHER_MS = 6 * HOUR_MS;

export const openBoot = (boot: number): BootJoin => ({
  boot,
  upto: 0,
  watermarkMs: 0,
  ahead: [],
  version: 0,
  ended: false,
  closed: [],
});

/** Notes a batch (B1). */
export function noteBatch(boot: BootJoin, batch: number, watermarkMs: number, version: number): void {
  boot.version = version;
  if (batch <= boot.upto || boot.ahead.some(([number]) => number === batch)) return;
  boot.ahead.push([batch, watermarkMs]);
  boot.ahead.sort(([a], [b]) => a - b);
  for (let next = boot.ahead[0]; next !== undefined; next = boot.ahead[0]) {
    // The first batch we see of a boot need not be its first: what came before has expired.
    if (next[0] !== boot.upto + 1 && boot.upto !== 0 && boot.ahead.length <= AHEAD_MAX) return;
    boot.ahead.shift();
    boot.upto = next[0];
    boot.watermarkMs = Math.max(boot.watermarkMs, next[1]);
  }
}

/** The track's watermark (B2); 0 while no boot lives that has said one. */
export function watermarkOf(boots: Iterable<BootJoin>, champion: number): number {
  const living = [...boots].filter(({ ended, watermarkMs }) => !ended && watermarkMs > 0);
  const foremost = living.reduce((most, { watermarkMs }) => Math.max(most, watermarkMs), 0);
  const active = living.filter(({ version, watermarkMs }) => {
    return watermarkMs >= foremost - (version === champion ? IDLE_CHAMPION_MS : IDLE_OTHER_MS);
  });
  return active.reduce((least, { watermarkMs }) => Math.min(least, watermarkMs), foremost);
}
