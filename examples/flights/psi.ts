// Owns the population stability index, as it is commonly computed: tenths of the reference for numbers, the most frequent
// twenty categories and the rest for text. It is here to be compared with, not part of the mesh.
import type { Column, Table } from "./table.ts";

const TENTHS = 10;
const CATEGORIES = 20;
/** A share of nothing counts as this much. */
const FLOOR = 1e-4;

export type Moved = { feature: string; psi: number };

/** Prepares the reference once; the function says which feature moved most in a recent table. */
export function psiAgainst(reference: Table): (recent: Table) => Moved {
  const prepared = reference.columns.map((column) => {
    const bins = binsOf(column);
    return { feature: column.name, bins, before: shares(column, bins) };
  });
  return ({ columns }) => {
    let worst: Moved = { feature: "", psi: 0 };
    prepared.forEach(({ feature, bins, before }, at) => {
      const column = columns[at];
      const value = column === undefined ? 0 : index(before, shares(column, bins));
      if (value > worst.psi) worst = { feature, psi: value };
    });
    return worst;
  };
}

/** Sum over bins of (after - before) ln(after / before). */
const index = (before: readonly number[], after: readonly number[]): number =>
  before.reduce((sum, share, at) => {
    const now = after[at] ?? FLOOR;
    return sum + (now - share) * Math.log(now / share);
  }, 0);

type Bins = { count: number; number: (value: number) => number; text: (value: string) => number };

function binsOf(reference: Column): Bins {
  if (reference.type === "number") {
    const sorted = reference.values.toSorted();
    const tenth = (part: number): number => sorted[Math.floor((part * (sorted.length - 1)) / TENTHS)] ?? 0;
    const edges = [...new Set(Array.from({ length: TENTHS - 1 }, (_, at) => tenth(at + 1)))];
    const binOf = (value: number): number => {
      const bin = edges.findIndex((edge) => value <= edge);
      return bin === -1 ? edges.length : bin;
    };
    return { count: edges.length + 1, number: binOf, text: () => 0 };
  }
  const counts = new Map<string, number>();
  for (const value of reference.values) counts.set(value, (counts.get(value) ?? 0) + 1);
  const frequent = [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1)).slice(0, CATEGORIES);
  const place = new Map(frequent.map(([value], at) => [value, at]));
  return { count: frequent.length + 1, number: () => 0, text: (value) => place.get(value) ?? frequent.length };
}

function shares(column: Column, bins: Bins): number[] {
  const counts = Array.from({ length: bins.count }, () => 0);
  const count = (bin: number): void => {
    counts[bin] = (counts[bin] ?? 0) + 1;
  };
  if (column.type === "number") column.values.forEach((value) => count(bins.number(value)));
  else column.values.forEach((value) => count(bins.text(value)));
  return counts.map((n) => Math.max(FLOOR, n / column.values.length));
}
