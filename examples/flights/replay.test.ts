import { expect, test } from "vitest";
import { DAY0_MS, DAY_MS } from "./dataset.ts";
import { isLate, truthIsLost } from "./features.ts";
import { replay, type ReplayEvent, type ReplayOptions } from "./replay.ts";
import { plainFlights } from "./synthetic.ts";

const flights = plainFlights(5, 300);
const options: ReplayOptions = {
  asked: { every: 2, offset: 1 },
  story: { changeDay: 3, faultDay: 2 },
  fromDay: 1,
  toDay: 5,
  windowMinutes: 30,
};
const events = [...replay(flights, options)];

const keysOf = (kind: ReplayEvent["kind"]): number[] =>
  events.flatMap((event) => (event.kind === kind ? [...event.keys] : []));

test("events come in order of event time, and no truth before its row (P1)", () => {
  let last = 0;
  const asked = new Set<number>();
  for (const event of events) {
    expect(event.atMs).toBeGreaterThanOrEqual(last);
    last = event.atMs;
    if (event.kind === "rows") event.keys.forEach((key) => asked.add(key));
    else {
      expect([...event.keys].filter((key) => !asked.has(key))).toEqual([]);
      expect([...event.knownMs].every((ms) => ms < event.atMs)).toBe(true);
    }
  }
});

test("push-backs within and across requests do not go back in time", () => {
  const times = events.flatMap((event) => (event.kind === "rows" ? [...event.eventMs] : []));
  expect(times).toEqual(times.toSorted((a, b) => a - b));
  expect(times[0]).toBeGreaterThanOrEqual(DAY0_MS + DAY_MS);
});

test("each asked flight of the days is sent once, and its truth once unless it never comes (P3, P4)", () => {
  const expected = [...flights.index].filter(
    (key, row) => key % 2 === 1 && (flights.dateMs[row] ?? 0) >= DAY0_MS + DAY_MS,
  );
  expect(keysOf("rows")).toEqual(expected);
  expect(keysOf("truths").toSorted((a, b) => a - b)).toEqual(expected.filter((key) => !truthIsLost(key)));
});

test("truths are those of the changed world (P2)", () => {
  for (const event of events) {
    if (event.kind !== "truths") continue;
    event.keys.forEach((key, at) => expect(event.labels[at]).toBe(isLate(flights, key, options.story) ? 1 : 0));
  }
});

test("rows of fault days carry percent, others fractions (P2)", () => {
  for (const event of events) {
    if (event.kind !== "rows") continue;
    const column = event.columns.find(({ name }) => name === "late_everywhere");
    event.eventMs.forEach((ms, at) => {
      const value = Number(column?.values[at]);
      if (ms >= DAY0_MS + 2 * DAY_MS) expect(value).toBeGreaterThan(1);
      else expect(value).toBeLessThanOrEqual(1);
    });
  }
});

test("the same story gives the same events, whatever the window a flight falls into keeps its features", () => {
  expect([...replay(flights, options)]).toEqual(events);
  const finer = [...replay(flights, { ...options, windowMinutes: 5 })];
  const shares = (list: readonly ReplayEvent[]): number[] =>
    list.flatMap((event) => (event.kind === "rows" ? [...(event.columns[6]?.values ?? [])].map(Number) : []));
  expect(shares(finer)).toEqual(shares(events));
});

test("a window in which flights could land is refused", () => {
  expect(() => [...replay(flights, { ...options, windowMinutes: 31 })]).toThrow("at most 30");
});
