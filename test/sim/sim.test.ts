import { expect, it } from "vitest";
import { simulate } from "./simulation.ts";

const SEEDS = Array.from({ length: 20 }, (_, i) => i + 1);

it.each(SEEDS)("keeps every promise under the faults of seed %i", async (seed) => {
  const { broken } = await simulate({ seed });
  expect(broken).toEqual([]);
});

it("gives the same history for the same seed", async () => {
  const [first, second] = [await simulate({ seed: 7 }), await simulate({ seed: 7 })];
  expect(first.digest).toBe(second.digest);
});
