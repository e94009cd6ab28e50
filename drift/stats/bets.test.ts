import { seededRand } from "#kernel/base/rand.ts";
import fc from "fast-check";
import { expect, test } from "vitest";
import { bet, clipGain, detect, eBenjaminiHochberg, freshDetector, freshProcess, level } from "./bets.ts";

test("an e-process of fair gains passes 20 in at most one run of twenty, though one looks after every block", () => {
  const rand = seededRand(1);
  let passed = 0;
  for (let run = 0; run < 2000; run++) {
    let wealth = freshProcess();
    for (let block = 0; block < 100 && level(wealth) < 20; block++) wealth = bet(wealth, rand.next() < 0.5 ? 1 : -1);
    if (level(wealth) >= 20) passed++;
  }
  // 5 % of 2000, and the 99.9 % binomial band.
  expect(passed).toBeLessThanOrEqual(131);
});

test("a detector of fair gains runs at least as long as its threshold on average", () => {
  const rand = seededRand(2);
  let blocks = 0;
  const runs = 400;
  for (let run = 0; run < runs; run++) {
    let wealth = freshDetector();
    for (let block = 0; block < 20_000 && level(wealth) < 100; block++, blocks++)
      wealth = detect(wealth, rand.next() < 0.5 ? 1 : -1);
  }
  expect(blocks / runs).toBeGreaterThan(100);
});

test("a detector of gains at their ceiling passes 100 in eight blocks", () => {
  let wealth = freshDetector();
  let blocks = 0;
  for (; level(wealth) < 100; blocks++) wealth = detect(wealth, 1);
  expect(blocks).toBe(8);
});

test("wealth never falls below nothing, whatever is gained", () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: -50, max: 50, noNaN: true }), { maxLength: 200 }), (values) => {
      let wealth = freshDetector();
      for (const value of values) wealth = detect(wealth, clipGain(value, 4));
      expect(wealth.every((w) => w >= 0 && Number.isFinite(w))).toBe(true);
    }),
  );
});

test("e-BH rejects the k largest where the k-th reaches threshold times count over k", () => {
  expect(eBenjaminiHochberg([39, 1, 1, 1], 10)).toEqual([false, false, false, false]);
  expect(eBenjaminiHochberg([40, 1, 1, 1], 10)).toEqual([true, false, false, false]);
  expect(eBenjaminiHochberg([20, 1, 1, 20], 10)).toEqual([true, false, false, true]);
});
