import { expect, test } from "vitest";
import { EventTime, statedTimes } from "./event-time.ts";

const HOUR = 3_600_000;
const DAY0 = Date.UTC(2001, 0, 1);
const NOW = Date.UTC(2026, 0, 1);

test("the server's clock is used unless the deployment lets clients state the time, and never goes back", () => {
  const time = new EventTime(false);
  expect(time.accept(DAY0, NOW)).toBe(NOW);
  expect(time.accept(DAY0, NOW - 5)).toBe(NOW);
  expect(time.highestMs).toBe(NOW);
});

test("a row up to 26 h ahead moves the highest time, a row further ahead is skew and moves nothing", () => {
  const time = new EventTime(true);
  expect(time.accept(DAY0, NOW)).toBe(DAY0);
  expect(time.accept(DAY0 + 26 * HOUR, NOW)).toBe(DAY0 + 26 * HOUR);
  expect(time.accept(DAY0 + 53 * HOUR, NOW)).toBe(DAY0 + 26 * HOUR);
  expect(time.skewed).toBe(1);
  expect(time.accept(DAY0 + HOUR, NOW)).toBe(DAY0 + HOUR);
  expect(time.highestMs).toBe(DAY0 + 26 * HOUR);
});

test("when for a whole minute every row is ahead, the world has moved", () => {
  const time = new EventTime(true);
  time.accept(DAY0, NOW);
  const later = DAY0 + 1_000 * HOUR;
  expect(time.accept(later, NOW)).toBe(DAY0);
  expect(time.accept(later, NOW + 59_000)).toBe(DAY0);
  expect(time.accept(DAY0, NOW + 59_500)).toBe(DAY0);
  expect(time.accept(later, NOW + 60_001)).toBe(DAY0);
  expect(time.accept(later, NOW + 120_002)).toBe(later);
  expect(time.highestMs).toBe(later);
});

test("a call without a time does not set the clock of a replay that comes after it", () => {
  const time = new EventTime(true);
  expect(time.accept(undefined, NOW)).toBe(NOW);
  expect(time.highestMs).toBe(0);
  expect(time.accept(DAY0, NOW + 1_000)).toBe(DAY0);
  expect(time.accept(undefined, NOW + 2_000)).toBe(DAY0);
});

test("times are read as one for all rows or one for each, and anything else says what was expected", () => {
  const int = (value: bigint) => ({ parameterChoice: { case: "int64Param", value } });
  const text = (value: string) => ({ parameterChoice: { case: "stringParam", value } });
  expect(statedTimes(undefined, 2)).toEqual({ kind: "none" });
  const one = statedTimes(int(BigInt(DAY0)), 2);
  expect(one.kind === "times" && one.of(1)).toBe(DAY0);
  const each = statedTimes(text(`${DAY0},${DAY0 + 1}`), 2);
  expect(each.kind === "times" && each.of(1)).toBe(DAY0 + 1);
  for (const wrong of [
    text("x"),
    text(`${DAY0},${DAY0},${DAY0}`),
    int(5n),
    text("1e99"),
    { parameterChoice: { case: "boolParam", value: true } },
  ]) {
    expect(statedTimes(wrong, 2)).toMatchObject({ kind: "wrong" });
  }
});
