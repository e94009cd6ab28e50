import { DAY_MS } from "#kernel/domain/profile.ts";
import fc from "fast-check";
import { expect, test } from "vitest";
import {
  endEpisode,
  episodeId,
  episodeState,
  featureBlock,
  openEpisodes,
  qualityBlock,
  riskBlock,
  type RiskSighting,
  type Told,
} from "./door.ts";

const QUIET: RiskSighting = {
  dayMs: 0,
  suspicious: false,
  convicting: false,
  excessive: false,
  unusual: false,
  class: "unknown",
  causes: [],
  changeMs: 0,
  numbers: {},
  held: false,
};
const BAD: RiskSighting = { ...QUIET, suspicious: true, convicting: true, excessive: true, class: "concept" };
const FAULT = [{ feature: "x", kind: "scale", value: 1 }] as const;
const state = (told: readonly Told[]) =>
  told.map((t) => episodeState(t, { track: 1, model: "m", scope: "open", seq: 1 }));

test("an unusual day that passes is a transient episode, and never asked for retraining", () => {
  const fold = openEpisodes();
  const opened = riskBlock(fold, { ...QUIET, dayMs: 10, unusual: true, class: "covariate" });
  expect(state(opened)).toMatchObject([{ state: "Suspect", class: "covariate", retrain: false, fromMs: 10 }]);
  expect(riskBlock(fold, { ...QUIET, dayMs: 11 })).toEqual([]);
  expect(state(riskBlock(fold, { ...QUIET, dayMs: 12 }))).toMatchObject([
    { state: "Closed", closedAs: "transient", toMs: 11, retrain: false },
  ]);
});

test("one convicting block is a suspicion, two confirm it", () => {
  const fold = openEpisodes();
  expect(state(riskBlock(fold, { ...BAD, dayMs: DAY_MS }))).toMatchObject([{ state: "Suspect", retrain: false }]);
  expect(state(riskBlock(fold, { ...BAD, dayMs: 2 * DAY_MS, changeMs: DAY_MS }))).toMatchObject([
    { state: "Confirmed", retrain: true, fromMs: DAY_MS, confirmedMs: 3 * DAY_MS },
  ]);
});

test("a confirmed risk recovers after five quiet blocks, but not while a rollout is under way", () => {
  const fold = openEpisodes();
  for (let day = 0; day < 2; day++) riskBlock(fold, BAD);
  for (let day = 0; day < 9; day++) expect(riskBlock(fold, { ...QUIET, held: true })).toEqual([]);
  for (let day = 0; day < 4; day++) expect(riskBlock(fold, QUIET)).toEqual([]);
  expect(state(riskBlock(fold, QUIET))).toMatchObject([{ closedAs: "recovered" }]);
});

test("a fault of one block is transient, a longer one is confirmed and recovers or is ended by a person as data-fixed", () => {
  const fold = openEpisodes();
  const block = (faulty: boolean) =>
    state(qualityBlock(fold, { dayMs: 0, faults: faulty ? [...FAULT] : [], numbers: {} }));
  expect([block(true), block(false), block(false)].flat()).toMatchObject([
    { state: "Suspect" },
    { closedAs: "transient" },
  ]);
  expect([block(true), block(true), block(false), block(false)].flat()).toMatchObject([
    { state: "Suspect" },
    { state: "Confirmed", withheld: "data fault: x (scale)" },
    { closedAs: "recovered" },
  ]);
  block(true);
  block(true);
  const id = episodeId(1, fold.quality?.number ?? 0);
  expect(state(endEpisode(fold, 1, { episode: id, as: "data-fixed" }, 9))).toMatchObject([
    { closedAs: "data-fixed", toMs: 9 },
  ]);
});

test("features alone open a suspicion that ends when they are back, and a risk takes it over", () => {
  const fold = openEpisodes();
  const drifting = [{ feature: "x", kind: "shift", value: 2 }] as const;
  const block = (moved: boolean) =>
    state(featureBlock(fold, { dayMs: 3, drifting: moved ? [...drifting] : [], numbers: {} }));
  expect(block(true)).toMatchObject([{ state: "Suspect", class: "covariate" }]);
  expect(block(false)).toMatchObject([{ state: "Closed", closedAs: "transient" }]);
  block(true);
  riskBlock(fold, BAD);
  expect(block(false)).toEqual([]);
  expect(fold.risk?.class).toBe("concept");
});

test("whatever comes, episodes go only along the arrows, retraining is asked for only when confirmed and without a data fault", () => {
  const sighting = fc.record({
    suspicious: fc.boolean(),
    convicting: fc.boolean(),
    excessive: fc.boolean(),
    unusual: fc.boolean(),
    held: fc.boolean(),
    faulty: fc.boolean(),
    drifting: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(sighting, { maxLength: 60 }), (sightings) => {
      const fold = openEpisodes();
      const last = new Map<number, string>();
      sightings.forEach(({ faulty, drifting, ...s }, i) => {
        const dayMs = i * DAY_MS;
        const told = [
          ...state(qualityBlock(fold, { dayMs, faults: faulty ? [...FAULT] : [], numbers: {} })),
          ...state(
            featureBlock(fold, {
              dayMs,
              drifting: drifting ? [{ feature: "x", kind: "shift", value: 2 }] : [],
              numbers: {},
            }),
          ),
          ...state(riskBlock(fold, { ...QUIET, ...s, dayMs, class: s.suspicious ? "concept" : "prior" })),
        ];
        for (const e of told) {
          const arrow = `${last.get(e.number) ?? "-"}>${e.state}${e.closedAs}`;
          expect(ARROWS.has(arrow), arrow).toBe(true);
          last.set(e.number, e.state);
          if (e.retrain) expect([e.state, e.class === "quality", fold.quality]).toEqual(["Confirmed", false, null]);
        }
      });
    }),
  );
});

const ARROWS = new Set([
  "->Suspect",
  "Suspect>Suspect",
  "Suspect>Confirmed",
  "Suspect>Closedtransient",
  "Confirmed>Confirmed",
  "Confirmed>Closedrecovered",
]);
