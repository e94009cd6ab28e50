import { expect, test } from "vitest";
import { DAY0_MS, DAY_MS } from "./dataset.ts";
import { historyTable } from "./history.ts";
import { comparePolicies, meanCost, Recorder, type Recorded } from "./policies.ts";
import { psiAgainst } from "./psi.ts";
import { replay } from "./replay.ts";
import { plainFlights, tableOf } from "./synthetic.ts";
import { taken } from "./table.ts";
import { DEFAULT_SETTINGS } from "./train.ts";

const settings = { ...DEFAULT_SETTINGS, trees: 15, min_rows: 10 };
const flights = plainFlights(60, 60);
const asked = { every: 1, offset: 0 };
const story = { changeDay: 45, faultDay: 50 };
const history = (() => {
  const end = flights.dateMs.findIndex((ms) => ms >= DAY0_MS + 28 * DAY_MS);
  return historyTable({ ...flights, rows: end }, asked);
})();

function recordedWith(answer: number): Recorded {
  const recorder = new Recorder();
  for (const event of replay(flights, { asked, story, fromDay: 28, toDay: 60, windowMinutes: 30 })) {
    if (event.kind === "truths") recorder.told(event);
    else {
      const answers = new Float64Array(event.keys.length).fill(answer);
      recorder.answered(event, {
        pinned: answers,
        mesh: answers.map((_, at) => (event.keys[at] === 1700 ? NaN : answer)),
      });
    }
  }
  return recorder.recorded();
}
const recorded = recordedWith(0.3);

test("a row is judged once it has its truth and both answers (C2)", () => {
  const times = [...recorded.eventMs];
  expect(times).toEqual(times.toSorted((a, b) => a - b));
  expect(recorded.rows).toBeLessThan(32 * 60);
  expect(recorded.rows).toBeGreaterThan(32 * 60 * 0.95);
  expect([...recorded.knownMs].every((ms, row) => ms > (recorded.eventMs[row] ?? 0))).toBe(true);
});

test("the habits retrain: weekly every seventh day, by PSI only on alarm", () => {
  const { policies, outsideFault, weeks } = comparePolicies(recorded, {
    history,
    settings,
    mesh: { runs: 1, alarms: 2 },
    faultDay: story.faultDay,
  });
  const [pinned, mesh, weekly, psi] = policies;
  expect(policies.map(({ policy }) => policy)).toEqual(["pinned", "mesh", "weekly", "psi"]);
  expect(weekly?.runs).toBe(4);
  expect(psi?.runs).toBeGreaterThan(0);
  expect(psi?.alarms).toBeGreaterThanOrEqual(psi?.runs ?? 0);
  expect(mesh).toEqual({ ...pinned, policy: "mesh", runs: 1, alarms: 2 });
  expect(weekly?.brier).toBeLessThan(pinned?.brier ?? 0);
  expect(outsideFault[0]?.rows).toBeLessThan(recorded.rows);
  expect(weeks.map(({ fromDay }) => fromDay)).toEqual([28, 35, 42, 49, 56]);
  expect(weeks.reduce((sum, { rows }) => sum + rows, 0)).toBe(recorded.rows);
});

test("a missed late flight costs four warnings for nothing", () => {
  expect(meanCost(Float64Array.of(0.19, 0.2, 0.9, 0), Uint8Array.of(1, 0, 1, 0))).toBe(5 / 4);
});

test("PSI is nothing between a table and itself, and names the feature that moved", () => {
  const table = tableOf(960, () => 0);
  const psi = psiAgainst(table);
  expect(psi(table).psi).toBeCloseTo(0, 12);
  const evenings = taken(
    table,
    [...Array(960).keys()].filter((row) => row % 24 >= 12),
  );
  expect(psi(evenings).feature).toBe("hour");
  expect(psi(evenings).psi).toBeGreaterThan(0.1);
});
