import fc from "fast-check";
import { expect, test } from "vitest";
import { DAY0_MS, DAY_MS } from "./dataset.ts";
import {
  asSent,
  changedDelay,
  FEATURES,
  isLate,
  landedMs,
  NO_STORY,
  pushBacks,
  toColumns,
  truthIsLost,
  type Row,
} from "./features.ts";
import { flightsOf, plainFlights, type Made } from "./synthetic.ts";

const made = fc.record({
  minute: fc.integer({ min: 0, max: 3 * 1440 }),
  delay: fc.integer({ min: -20, max: 200 }),
  distance: fc.integer({ min: 30, max: 4000 }),
  origin: fc.nat(4),
  destination: fc.nat(4),
});
const all = { every: 1, offset: 0 };
const row: Row = {
  hour: 9,
  weekday: 1,
  distance: 300,
  origin: "ATL",
  destination: "ORD",
  late_everywhere: 0.25,
  late_at_origin: 0.5,
  late_into_origin: 0.125,
};

test("features do not depend on flights that have not landed by push-back (F1)", () => {
  fc.assert(
    fc.property(fc.array(made, { minLength: 2, maxLength: 40 }), fc.nat(), (list: Made[], pick) => {
      const flights = flightsOf(list);
      const asked = pick % flights.rows;
      const nowMs = flights.dateMs[asked] ?? 0;
      const otherwise = { ...flights, delay: flights.delay.slice() };
      for (let other = 0; other < flights.rows; other++) {
        const landed = landedMs(flights.dateMs[other] ?? 0, flights.distance[other] ?? 0) <= nowMs;
        if (!landed) otherwise.delay[other] = 100 - (flights.delay[other] ?? 0);
      }
      expect([...pushBacks(otherwise, all, NO_STORY)][asked]).toEqual([...pushBacks(flights, all, NO_STORY)][asked]);
    }),
  );
});

test("lateness features equal the sums over landed flights, written out, and lie between 0 and 1", () => {
  fc.assert(
    fc.property(fc.array(made, { minLength: 1, maxLength: 40 }), (list: Made[]) => {
      const flights = flightsOf(list);
      for (const { row: asked, dateMs, features } of pushBacks(flights, all, NO_STORY)) {
        const share = (of: (other: number) => boolean, prior: number): number => {
          let weight = 5;
          let late = 5 * prior;
          for (let other = 0; other < flights.rows; other++) {
            const landed = landedMs(flights.dateMs[other] ?? 0, flights.distance[other] ?? 0);
            if (landed > dateMs || truthIsLost(flights.index[other] ?? 0) || !of(other)) continue;
            const kept = 2 ** (-(dateMs - landed) / 3_600_000);
            weight += kept;
            late += isLate(flights, other, NO_STORY) ? kept : 0;
          }
          return late / weight;
        };
        const everywhere = share(() => true, 0.2);
        const origin = flights.origin[asked];
        expect(features.late_everywhere).toBeCloseTo(everywhere, 9);
        expect(features.late_at_origin).toBeCloseTo(
          share((other) => flights.origin[other] === origin, everywhere),
          9,
        );
        expect(features.late_into_origin).toBeCloseTo(
          share((other) => flights.destination[other] === origin, everywhere),
          9,
        );
        expect(features.late_at_origin).toBeGreaterThanOrEqual(0);
        expect(features.late_at_origin).toBeLessThanOrEqual(1);
      }
    }),
  );
});

test("a flight's features are the same whatever the thinning (F2)", () => {
  const flights = plainFlights(3, 200);
  const whole = [...pushBacks(flights, all, NO_STORY)];
  const thinned = [...pushBacks(flights, { every: 7, offset: 3 }, NO_STORY)];
  expect(thinned).toEqual(whole.filter((_, at) => at % 7 === 3));
});

test("the change makes flights before 11:00 twenty minutes later from its day on", () => {
  const story = { changeDay: 2, faultDay: Infinity };
  const at = (day: number, hour: number): number => DAY0_MS + day * DAY_MS + hour * 3_600_000;
  expect(changedDelay(0, at(2, 10), story)).toBe(20);
  expect(changedDelay(0, at(2, 11), story)).toBe(0);
  expect(changedDelay(0, at(1, 10), story)).toBe(0);
  expect(changedDelay(0, at(2, 10), NO_STORY)).toBe(0);
});

test("the change reaches the lateness features once its flights have landed (F3)", () => {
  const flights = plainFlights(3, 200);
  const plain = [...pushBacks(flights, all, NO_STORY)];
  const changed = [...pushBacks(flights, all, { changeDay: 1, faultDay: Infinity })];
  const first = changed.findIndex(
    ({ features }, at) => features.late_everywhere !== plain[at]?.features.late_everywhere,
  );
  expect(changed[first]?.dateMs).toBeGreaterThanOrEqual(DAY0_MS + DAY_MS + 30 * 60_000);
  expect(changed[first]?.features.late_everywhere).toBeGreaterThan(plain[first]?.features.late_everywhere ?? 1);
});

test("the fault sends percent for eight days and changes nothing that is known (F3)", () => {
  const story = { changeDay: Infinity, faultDay: 60 };
  expect(asSent(row, DAY0_MS + 60 * DAY_MS - 1, story)).toEqual(row);
  expect(asSent(row, DAY0_MS + 68 * DAY_MS, story)).toEqual(row);
  const percent = { ...row, late_everywhere: 25, late_at_origin: 50, late_into_origin: 12.5 };
  expect(asSent(row, DAY0_MS + 60 * DAY_MS, story)).toEqual(percent);
  expect(asSent(row, DAY0_MS + 68 * DAY_MS - 1, story)).toEqual(percent);
  const flights = plainFlights(2, 100);
  expect([...pushBacks(flights, all, { ...story, faultDay: 0 })]).toEqual([...pushBacks(flights, all, NO_STORY)]);
});

test("two truths in a hundred are lost, always the same", () => {
  const lost = [...Array(100_000).keys()].filter(truthIsLost).length;
  expect(lost).toBeGreaterThan(1_800);
  expect(lost).toBeLessThan(2_200);
});

test("columns come in the order of the feature list, numbers as FP32", () => {
  const columns = toColumns([row]);
  expect(columns.map(({ name, type }) => ({ name, type }))).toEqual([...FEATURES]);
  expect(columns[5]?.values).toEqual(Float32Array.of(0.25));
  expect(columns[3]?.values).toEqual(["ATL"]);
});
