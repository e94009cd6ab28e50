import { seededRand, type Rand } from "#kernel/base/rand.ts";
import { DAY_MS, type FeatureBins } from "#kernel/domain/profile.ts";
import { expect, test } from "vitest";
import { readBlock, referenceOf } from "./reference.ts";
import { unitFactor } from "./units.ts";

const BINS: FeatureBins = { name: "x", kind: "number", edges: Array.from({ length: 63 }, (_, i) => (i + 1) / 64) };

/** Counts of a day whose location strays by `spread` from the middle; `shift` moves it. */
function day(rand: Rand, rows: number, spread: number, shift = 0): number[] {
  const counts = new Array<number>(65).fill(0);
  const power = 1 + spread * (rand.next() - 0.5) + shift;
  for (let i = 0; i < rows; i++) {
    const bin = Math.min(63, Math.floor(rand.next() ** power * 64));
    counts[bin] = (counts[bin] ?? 0) + 1;
  }
  return counts;
}

const referenceFrom = (rand: Rand, rows: number, spread: number) =>
  referenceOf(
    BINS,
    Array.from({ length: 28 }, (_, d) => ({ startMs: d * DAY_MS, counts: day(rand, rows, spread) })),
  );

test.each([
  [50, 0],
  [500, 0],
  [5000, 0],
  [50, 0.4],
  [500, 0.4],
  [2000, 0.4],
])(
  "blocks of %d rows that stray by %d like the reference pass the limit about once in a thousand, never one in two hundred",
  (rows, spread) => {
    const rand = seededRand(rows + spread * 10);
    let beyond = 0;
    for (let r = 0; r < 10; r++) {
      const reference = referenceFrom(rand, 1000, spread);
      for (let i = 0; i < 200; i++) {
        const reading = readBlock(reference, { startMs: (28 + i) * DAY_MS, counts: day(rand, rows, spread) });
        if (reading !== undefined && reading.statistic > reading.limit) beyond++;
      }
    }
    expect(beyond).toBeLessThanOrEqual(10);
  },
);

test("the statistic's expectation is right at every traffic, so a quarter of the rows is no drift", () => {
  const rand = seededRand(3);
  const reference = referenceFrom(rand, 2000, 0.3);
  for (const rows of [100, 500, 2000]) {
    let statistic = 0;
    let mean = 0;
    for (let i = 0; i < 300; i++) {
      const reading = readBlock(reference, { startMs: (28 + i) * DAY_MS, counts: day(rand, rows, 0.3) });
      statistic += reading?.statistic ?? 0;
      mean += reading?.mean ?? 0;
    }
    expect(statistic / mean).toBeGreaterThan(0.75);
    expect(statistic / mean).toBeLessThan(1.33);
  }
});

test("a shift well beyond the spread of the reference passes the limit in nearly every block", () => {
  const rand = seededRand(4);
  const reference = referenceFrom(rand, 1000, 0.2);
  let beyond = 0;
  for (let i = 0; i < 100; i++) {
    const reading = readBlock(reference, { startMs: (28 + i) * DAY_MS, counts: day(rand, 1000, 0.2, 0.8) });
    if (reading !== undefined && reading.statistic > reading.limit) beyond++;
  }
  expect(beyond).toBeGreaterThanOrEqual(95);
});

test("a feature that is one weekday all day long is compared with its own weekday", () => {
  const bins: FeatureBins = { name: "weekday", kind: "number", edges: [1, 2, 3, 4, 5, 6] };
  const only = (weekday: number) => Array.from({ length: 8 }, (_, i) => (i === weekday ? 900 : 0));
  const reference = referenceOf(
    bins,
    Array.from({ length: 28 }, (_, d) => ({ startMs: d * DAY_MS, counts: only(d % 7) })),
  );
  const right = readBlock(reference, { startMs: 28 * DAY_MS, counts: only(0) });
  const wrong = readBlock(reference, { startMs: 28 * DAY_MS, counts: only(3) });
  expect(right?.statistic).toBeLessThan(right?.limit ?? 0);
  expect(wrong?.statistic).toBeGreaterThan(wrong?.limit ?? 4);
});

test("a known ratio is recognised, a shift in shape is not taken for one", () => {
  const rand = seededRand(6);
  const edges = Array.from({ length: 63 }, (_, i) => 100 * 1.05 ** i);
  const bins: FeatureBins = { name: "miles", kind: "number", edges };
  const counted = (times: number, mean: number) => {
    const counts = new Array<number>(65).fill(0);
    for (let i = 0; i < 3000; i++) {
      const value = mean * Math.exp((rand.next() + rand.next() + rand.next() - 1.5) * 0.6) * times;
      const bin = edges.filter((e) => e <= value).length;
      counts[bin] = (counts[bin] ?? 0) + 1;
    }
    return counts;
  };
  const totals = counted(1, 500);
  expect(unitFactor(bins, totals, counted(1.609344, 500))).toBe(1.609344);
  expect(unitFactor(bins, totals, counted(1, 500))).toBe(0);
  expect(unitFactor(bins, totals, counted(1, 620))).toBe(0);
});
