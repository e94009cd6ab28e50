import fc from "fast-check";
import { expect, test } from "vitest";
import type { OutcomePane, Pane } from "#kernel/domain/pane.ts";
import { emptyOutcome } from "#kernel/domain/profile.ts";
import type { Fact } from "#kernel/domain/state.ts";
import { addNumber, hasNumber, type Intervals } from "./intervals.ts";
import { openRollup, takeOutcome, takePane } from "./rollup.ts";
import { decodeFact, decodeOutcome, decodePane, encodeFact, encodeOutcome, encodePane } from "./wire.ts";

const count = fc.nat({ max: 2 ** 40 });
const counts = fc.array(fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, count), { maxLength: 70 });
const ms = fc.integer({ min: -1e13, max: 4e12 });
const u32 = fc.nat({ max: 2 ** 32 - 1 });

const panes: fc.Arbitrary<Pane> = fc.record({
  track: fc.nat({ max: 2 ** 24 - 1 }),
  boot: u32,
  number: fc.integer({
    min: 1,
    max: 2 ** 40,
  }),
  firstRow: count,
  rows: count,
  dropped: count,
  suppressed: count,
  watermarkMs: ms,
  cells: fc.array(
    fc.record({
      startMs: ms,
      version: u32,
      rows: count,
      features: fc.array(counts, { maxLength: 4 }),
      score: counts,
    }),
    { maxLength: 3 },
  ),
});
const signed = fc.integer({ min: -(2 ** 48), max: 2 ** 48 });
const outcomes: fc.Arbitrary<OutcomePane> = fc.record({
  track: u32,
  startMs: ms,
  corrected: count,
  late: count,
  unmatched: count,
  watermarkMs: ms,
  versions: fc.array(
    fc
      .integer({
        min: 0,
        max: 65,
      })
      .chain((bins) => {
        const cells = <T>(of: fc.Arbitrary<T>): fc.Arbitrary<T[]> =>
          fc.array(of, {
            minLength: bins,
            maxLength: bins,
          });
        const outcome = fc.record({
          n: cells(count),
          yMicro: cells(signed),
          yyMicro: cells(count),
          lossMicro: signed,
        });
        return fc.record({
          version: u32,
          outcome,
          unlabelled: count,
        });
      }),
    { maxLength: 3 },
  ),
  pairs: fc.array(
    fc.record({
      version: u32,
      other: u32,
      n: count,
      differenceMicro: signed,
      squareMicro: count,
    }),
    { maxLength: 2 },
  ),
});

test("a pane comes back as it was sent", () => {
  fc.assert(
    fc.property(panes, (pane) => {
      expect(decodePane(encodePane(pane))).toEqual(pane);
    }),
  );
});

test("an outcome pane comes back as it was sent", () => {
  fc.assert(
    fc.property(outcomes, (pane) => {
      expect(decodeOutcome(encodeOutcome(pane))).toEqual(pane);
    }),
  );
});

test("a fact comes back as it was sent, and one of an unknown kind is undefined", () => {
  const ended: Fact = { kind: "boot-ended", track: 3, boot: 9, lastNumber: 12 };
  const track: Fact = {
    kind: "track",
    track: 3,
    revision: 2,
    model: "flights",
    scope: "open",
    champion: 1,
    profileSha256: "ab",
    policy: {
      tolerance: 0.002,
      scale: 0.015,
      labelHorizonHours: 24,
      shadowDays: 14,
      probationDays: 3,
    },
    rollout: null,
    ended: null,
  };
  expect(decodeFact(encodeFact(ended))).toEqual(ended);
  expect(decodeFact(encodeFact(track))).toEqual(track);
  expect(decodeFact(encodeFact({ ...ended, kind: "tick" } as never))).toBeUndefined();
});

test("bytes that are no pane are undefined, never a guess", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      for (const decode of [decodePane, decodeOutcome, decodeFact]) expect(() => decode(bytes)).not.toThrow();
    }),
  );
});

test("a set of ranges knows exactly what was added, in any order", () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 60 })), (numbers) => {
      const ranges: Intervals = [];
      const model = new Set<number>();
      for (const n of numbers) {
        expect(addNumber(ranges, n)).toBe(!model.has(n));
        model.add(n);
      }
      for (let n = 0; n <= 61; n++) expect(hasNumber(ranges, n)).toBe(model.has(n));
    }),
  );
});

test("the roll-up adds a pane and an outcome pane once, by event day and version", () => {
  const rollup = openRollup();
  const cell = { startMs: 90_000_000, version: 2, rows: 5, features: [], score: [] };
  const pane = {
    track: 1,
    boot: 7,
    number: 1,
    firstRow: 1,
    rows: 6,
    dropped: 1,
    suppressed: 0,
    watermarkMs: 0,
    cells: [cell],
  };
  expect([takePane(rollup, pane), takePane(rollup, pane)]).toEqual([true, false]);
  const outcome = { ...emptyOutcome(), lossMicro: 250_000 };
  outcome.n[3] = 2;
  const labelled = { track: 1, startMs: 90_000_000, versions: [{ version: 2, outcome, unlabelled: 3 }], pairs: [] };
  const counted = { ...labelled, corrected: 0, late: 0, unmatched: 0, watermarkMs: 0 };
  expect([takeOutcome(rollup, counted), takeOutcome(rollup, counted)]).toEqual([true, false]);
  expect(rollup.days).toEqual([
    {
      dayMs: 86_400_000,
      version: 2,
      rows: 5,
      labelled: 2,
      unlabelled: 3,
      lossMicro: 250_000,
      suppressed: 0,
      dropped: 1,
    },
  ]);
});
