import { seededRand } from "../base/rand.ts";
import { expect, test } from "vitest";
import { countOutcome, guardedEdges, lossMicro, profileFrom, warmupProfile } from "./profile-build.ts";
import { cellsOf, DAY_MS, emptyOutcome, numericBin } from "./profile.ts";

const rand = seededRand(1);
const ROWS = 3000;
const values = Float64Array.from({ length: ROWS }, (_, i) => (i % 50 === 0 ? Number.NaN : rand.next()));
const kinds = Array.from({ length: ROWS }, (_, i) => (i % 3 === 0 ? "a" : i % 3 === 1 ? "b" : ""));
const labels = Float64Array.from({ length: ROWS }, () => (rand.next() < 0.3 ? 1 : 0));
const scores = Float64Array.from({ length: ROWS }, () => rand.next());
const eventMs = Float64Array.from({ length: ROWS }, (_, i) => Math.floor(i / 1000) * DAY_MS + 5);
const input = {
  columns: [
    { name: "x", kind: "number", values },
    { name: "k", kind: "category", values: kinds },
  ],
  labels,
  scores,
  eventMs,
  scoreKind: "probability",
} as const;

test("a profile counts each row once per feature, by day, missing values in the last cell", () => {
  const profile = profileFrom(input);
  expect(profile.blocks.map(({ startMs, rows, heldOut }) => [startMs, rows, heldOut])).toEqual([
    [0, 1000, false],
    [DAY_MS, 1000, false],
    [2 * DAY_MS, 1000, false],
  ]);
  for (const { features, score, outcome } of profile.blocks) {
    for (const counts of [...features, score, outcome.n]) expect(counts.reduce((a, b) => a + b, 0)).toBe(1000);
    expect(features[0]?.at(-1)).toBe(20);
  }
  expect(profile.features.map(cellsOf)).toEqual(profile.blocks[0]?.features.map((counts) => counts.length));
});

test("days the caller names are marked as held out, and given bins are kept", () => {
  const first = profileFrom(input);
  const { features, score, labelShift, labelScale } = first;
  const again = profileFrom({
    ...input,
    heldOut: (startMs) => startMs > 0,
    bins: { features, score, labelShift, labelScale },
  });
  expect(again.blocks.map(({ heldOut }) => heldOut)).toEqual([false, true, true]);
  expect(again.features).toBe(features);
});

test("edges have guards: values a whole range off, or a hundredth of the usual, lie where the reference has none", () => {
  const sorted = Float64Array.from({ length: 5000 }, (_, i) => 0.05 + (0.5 * i) / 5000);
  const edges = guardedEdges(sorted);
  expect(edges.length).toBeLessThanOrEqual(63);
  const used = new Set([...sorted].map((v) => numericBin(edges, v)));
  for (const v of [0.2 * 100, 0.55 * 100, 0.2 / 100, 0.5 / 100]) expect(used.has(numericBin(edges, v))).toBe(false);
});

test("losses and outcome tables are integers and agree", () => {
  const bins = profileFrom(input);
  const outcome = emptyOutcome();
  let loss = 0;
  for (let i = 0; i < 100; i++) {
    countOutcome(outcome, bins, scores[i] ?? 0, labels[i] ?? 0);
    loss += lossMicro(bins, scores[i] ?? 0, labels[i] ?? 0);
  }
  expect(outcome.lossMicro).toBe(loss);
  expect(outcome.n.every(Number.isInteger)).toBe(true);
  countOutcome(outcome, bins, Number.NaN, 1);
  expect(outcome.n.reduce((a, b) => a + b, 0)).toBe(100);
});

test("a regression's labels are counted on the profile's scale, held to eight", () => {
  const profile = profileFrom({ ...input, scoreKind: "value", labels: values, scores: values });
  const outcome = emptyOutcome();
  countOutcome(outcome, profile, 0.5, 1e9);
  expect(outcome.yMicro.reduce((a, b) => a + b, 0)).toBe(8_000_000);
  expect(profile.score.edges.length).toBe(63);
});

test("a profile nobody has data for has bins and no blocks", () => {
  const profile = warmupProfile(
    [
      { name: "x", type: "number" },
      { name: "k", type: "category" },
    ],
    "probability",
  );
  expect(profile).toMatchObject({ kind: "warmup", blocks: [] });
  expect(profile.features.map(cellsOf)).toEqual([65, 2]);
});
