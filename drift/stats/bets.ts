// Owns betting: e-processes and e-detectors on bounded gains of blocks.
// E1 A wealth starts at 1 (process) or 0 (detector) per bet and is multiplied by 1 + bet * gain >= 0 for each block.
// E2 As long as the mean gain is at most 0 given the past, an e-process exceeds A with probability at most 1 / A however
//    often one looks, and a detector (Shiryaev-Roberts) has a mean run of at least A blocks until it exceeds A.
//    (Ville's inequality; Shin, Ramdas, Rinaldo 2022 for the detector. Both hold for the mean over the bets.)
// E3 Only + * and comparisons: the same gains give the same bits everywhere.

/** Shares of the wealth that are bet. A block of gain 1 multiplies the largest by 1.95. */
const BETS = [0.25, 0.5, 0.95] as const;
/** Wealth is held below this: any threshold in use is far lower, and JSON keeps it exactly. */
const WEALTH_MAX = 1e12;

export const freshProcess = (): number[] => BETS.map(() => 1);
export const freshDetector = (): number[] => BETS.map(() => 0);

/** E-process after a block with this gain (>= -1). */
export function bet(wealth: readonly number[], gain: number): number[] {
  return BETS.map((share, i) => Math.min(WEALTH_MAX, (wealth[i] ?? 1) * (1 + share * gain)));
}

/** Detector after a block with this gain (>= -1): R <- (R + 1)(1 + bet * gain). */
export function detect(wealth: readonly number[], gain: number): number[] {
  return BETS.map((share, i) => Math.min(WEALTH_MAX, ((wealth[i] ?? 0) + 1) * (1 + share * gain)));
}

/** The mean over the bets: what is compared with a threshold. */
export function level(wealth: readonly number[]): number {
  return wealth.reduce((sum, w) => sum + w, 0) / BETS.length;
}

/** `value` held to [-1, ceiling]. */
export function clipGain(value: number, ceiling = 1): number {
  return Math.max(-1, Math.min(ceiling, value));
}

/**
 * e-BH (Wang and Ramdas 2022): which of the e-values are rejected at level 1 / `threshold`, under any dependence:
 * the k largest where the k-th is at least threshold * count / k.
 */
export function eBenjaminiHochberg(values: readonly number[], threshold: number): boolean[] {
  const order = values.map((_, i) => i).sort((a, b) => (values[b] ?? 0) - (values[a] ?? 0) || a - b);
  let rejected = 0;
  order.forEach((i, place) => {
    if ((values[i] ?? 0) >= (threshold * values.length) / (place + 1)) rejected = place + 1;
  });
  const kept = new Set(order.slice(0, rejected));
  return values.map((_, i) => kept.has(i));
}
