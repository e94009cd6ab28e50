// Sparse form of count arrays, as `driftmesh.internal.v1.Counts` carries them.
// K1 `gap` of a cell is its index less the index of the cell before; of the first cell, its index: 0, 3, 4 travel as 0, 3, 1.
// K2 What does not fit `size` is refused, never added to another cell.

export type SparseCounts = { size: number; gap: number[]; value: bigint[] };

/** The cells that are not zero (K1). */
export function sparseCounts(dense: ArrayLike<number>): SparseCounts {
  const gap: number[] = [];
  const value: bigint[] = [];
  let before = 0;
  for (let i = 0; i < dense.length; i++) {
    const count = dense[i] ?? 0;
    if (count === 0) continue;
    gap.push(i - before);
    value.push(BigInt(count));
    before = i;
  }
  return { size: dense.length, gap, value };
}

/** All cells, or undefined when the arrays contradict each other (K2). */
export function denseCounts({ size, gap, value }: Readonly<SparseCounts>): number[] | undefined {
  if (gap.length !== value.length || size > 65_536) return undefined;
  const dense = new Array<number>(size).fill(0);
  let at = 0;
  for (let i = 0; i < gap.length; i++) {
    at += gap[i] ?? 0;
    if (at >= size) return undefined;
    dense[at] = Number(value[i] ?? 0n);
  }
  return dense;
}
