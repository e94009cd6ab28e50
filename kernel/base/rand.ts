// Chance as an argument: seeded for simulations and tests, the operating system's for ids and keys.

/** A source of chance. */
export interface Rand {
  /** A float in [0, 1). */
  next(): number;
  /** A whole number in [0, n). */
  below(n: number): number;
  /** `n` random bytes. */
  bytes(n: number): Uint8Array;
}

/** Unpredictable; for ids, keys and jitter. */
export const systemRand: Rand = {
  next: () => {
    const word = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
    return word / 2 ** 32;
  },
  below: (n) => Math.floor(systemRand.next() * n),
  bytes: (n) => crypto.getRandomValues(new Uint8Array(n)),
};

/** Reproducible: splitmix32 from a seed. */
export function seededRand(seed: number): Rand {
  let state = seed | 0;
  const word = (): number => {
    state = (state + 0x9e3779b9) | 0;
    let z = state ^ (state >>> 16);
    z = Math.imul(z, 0x21f0aaad);
    z ^= z >>> 15;
    z = Math.imul(z, 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  const rand: Rand = {
    next: () => word() / 2 ** 32,
    below: (n) => Math.floor(rand.next() * n),
    bytes: (n) => Uint8Array.from({ length: n }, () => word() & 255),
  };
  return rand;
}
