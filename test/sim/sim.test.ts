import { expect, it } from "vitest";
import type { Sabotage } from "./mesh.ts";
import { simulate } from "./simulation.ts";

const SEEDS = Array.from({ length: 20 }, (_, i) => i + 1);
const digests = new Map<number, string>();

it.each(SEEDS)("keeps every promise under the faults of seed %i", async (seed) => {
  const { broken, digest } = await simulate({ seed });
  expect(broken).toEqual([]);
  digests.set(seed, digest);
});

it("gives the same history for the same seed", async () => {
  expect((await simulate({ seed: 7 })).digest).toBe(digests.get(7));
});

it("keeps every promise with a leader that does not notice that it was deposed", async () => {
  const { broken, counts } = await simulate({ seed: 1, sabotage: { deposed: true } });
  expect(broken).toEqual([]);
  expect(counts["fenced"]).toBeGreaterThan(0);
});

const PLANTED: readonly { bug: string; sabotage: Sabotage; seed: number; checker: string }[] = [
  {
    bug: "a store that fences nobody, a deposed leader included",
    sabotage: { deposed: true, unfenced: true },
    seed: 1,
    checker: "fenced",
  },
  { bug: "a store that forgets an acknowledgement", sabotage: { forgetful: true }, seed: 1, checker: "promises" },
  { bug: "an agent that begins a boot again", sabotage: { amnesia: true }, seed: 1, checker: "once" },
  { bug: "a wanted set that lacks a replica", sabotage: { lossy: true }, seed: 1, checker: "absence" },
];

it.each(PLANTED)("notices $bug", async ({ sabotage, seed, checker }) => {
  const { broken } = await simulate({ seed, sabotage });
  expect(broken.map((finding) => finding.checker)).toContain(checker);
});
