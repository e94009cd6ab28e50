import { canonicalJson } from "#kernel/base/bytes.ts";
import { seededRand } from "#kernel/base/rand.ts";
import { DAY_MS } from "#kernel/domain/profile.ts";
import { warmupProfile } from "#kernel/domain/profile-build.ts";
import fc from "fast-check";
import { expect, test } from "vitest";
import { fold, openFold, profilesNeeded, type Decision, type TrackFold, type TrackInput } from "./door.ts";
import { DAY0, dayRows, factOf, outcomesOf, panesOf, SHA, Track, TRACK } from "./testing/synthetic.ts";

/** Folds inputs and gives decisions and the snapshot as bytes. */
function run(inputs: readonly TrackInput[], profile: Track["profile"], from: TrackFold = openFold(TRACK), seq = 0) {
  const decisions: Decision[] = inputs.flatMap((input, i) => fold(from, input, seq + i + 1, () => profile));
  return { decisions, decided: canonicalJson(decisions), snapshot: canonicalJson(from), state: from };
}

test("forty ordinary days are healthy: no episode that lasts, no feature called, no retraining", () => {
  for (const seed of [1, 2, 3]) {
    const track = new Track(seed);
    for (let day = 0; day < 40; day++) track.live();
    expect(
      track
        .episodes()
        .filter(({ state, closedAs }) => state === "Confirmed" || (state === "Closed" && closedAs !== "transient")),
    ).toEqual([]);
    expect(track.verdicts().some(({ features }) => features.some((f) => f.drifting || f.fault !== ""))).toBe(false);
    expect(track.verdicts().length).toBe(80);
    expect(track.verdicts().at(-1)).toMatchObject({ blocks: 40, labelled: 40 * 400, rows: 40 * 400 });
  }
});

test("a snapshot and the rest of the stream give the same bytes as the whole stream", () => {
  const track = new Track(4);
  for (let day = 0; day < 6; day++) track.live(day < 3 ? {} : { sizeTimes: 100 });
  const { inputs, profile } = track;
  const whole = run(inputs, profile);
  fc.assert(
    fc.property(fc.integer({ min: 0, max: inputs.length }), (cut) => {
      const first = run(inputs.slice(0, cut), profile);
      const second = run(inputs.slice(cut), profile, JSON.parse(first.snapshot) as TrackFold, cut);
      expect(second.snapshot).toBe(whole.snapshot);
      expect(canonicalJson([...first.decisions, ...second.decisions])).toBe(whole.decided);
    }),
    { numRuns: 40 },
  );
});

test("panes of several boots in any order, each perhaps twice, give the same state and the same verdicts", () => {
  const rand = seededRand(5);
  const { profile } = new Track(5);
  const fact: TrackInput = { kind: "fact", fact: factOf() };
  const untilMs = DAY0 + 29 * DAY_MS;
  const panes: TrackInput[] = [1, 2, 3].flatMap((boot) =>
    panesOf(profile, dayRows(rand, 28), { boot, version: 1, size: 50, untilMs: untilMs + boot }).map(
      (pane): TrackInput => ({ kind: "pane", pane }),
    ),
  );
  // What closes the day comes last in both; until then any order is as good as another.
  const [early, closing] = [
    panes.filter((p) => p.kind === "pane" && p.pane.number < 8),
    panes.filter((p) => p.kind === "pane" && p.pane.number === 8),
  ];
  const forget = (result: ReturnType<typeof run>) => canonicalJson({ ...result.state, seq: 0 });
  const plain = run([fact, ...early, ...closing], profile);
  expect(plain.decisions.length).toBe(1);
  fc.assert(
    fc.property(fc.shuffledSubarray([...early, ...early], { minLength: 2 * early.length }), (order) => {
      const other = run([fact, ...order, ...closing, ...closing], profile);
      expect(forget(other)).toBe(forget(plain));
      expect(canonicalJson(other.decisions.map((d) => ({ ...(d.kind === "verdict" ? d.verdict : {}), seq: 0 })))).toBe(
        canonicalJson(plain.decisions.map((d) => ({ ...(d.kind === "verdict" ? d.verdict : {}), seq: 0 }))),
      );
    }),
    { numRuns: 100 },
  );
});

test("an outcome pane given twice counts once", () => {
  const track = new Track(6);
  const rows = dayRows(track.rand, 28);
  for (const pane of panesOf(track.profile, rows, { boot: 1, version: 1, size: 400, untilMs: DAY0 + 29 * DAY_MS }))
    track.give({ kind: "pane", pane });
  for (const outcome of outcomesOf(track.profile, rows, 28, 1)) {
    track.give({ kind: "outcome", outcome });
    track.give({ kind: "outcome", outcome });
  }
  expect(track.verdicts().at(-1)?.labelled).toBe(400);
});

test("values in another unit are a data fault at the first block; retraining is withheld and the episode ends when the feed is mended", () => {
  const track = new Track(7);
  for (let day = 0; day < 5; day++) track.live();
  track.live({ sizeTimes: 100 });
  expect(track.verdicts().at(-1)).toMatchObject({ state: "data-fault" });
  expect(track.episodes().at(-1)).toMatchObject({
    state: "Suspect",
    class: "quality",
    retrain: false,
    fromMs: DAY0 + 33 * DAY_MS,
  });
  expect(track.episodes().at(-1)?.causes[0]).toMatchObject({ feature: "size", kind: "scale" });
  track.live({ sizeTimes: 100 });
  expect(track.episodes().at(-1)).toMatchObject({
    state: "Confirmed",
    class: "quality",
    withheld: "data fault: size (scale)",
  });
  for (let day = 0; day < 2; day++) track.live();
  expect(track.episodes().at(-1)).toMatchObject({ state: "Closed", closedAs: "recovered", toMs: DAY0 + 35 * DAY_MS });
  expect(track.verdicts().at(-1)?.state).toBe("healthy");
});

test.each([
  ["grams sent as kilograms", { sizeTimes: 0.001 }, "size", "scale"],
  ["values gone missing", { missing: 0.3 }, "size", "missing"],
  ["a category renamed", { kind: "crimson" }, "kind", "category"],
] as const)("%s are recognised for what they are at the first block", (_, twist, feature, kind) => {
  const track = new Track(8);
  track.live();
  track.live({ ...twist, rows: 1600 });
  expect(track.episodes().at(-1)?.causes).toMatchObject([{ feature, kind }]);
});

test("blocks of a data fault do not reach recalibration, realised risk or evidence", () => {
  const track = new Track(9);
  for (let day = 0; day < 3; day++) track.live();
  const { history, risk } = structuredClone(track.state.champion);
  track.give({
    kind: "fact",
    fact: factOf({ revision: 2, rollout: { id: "rol_a", champion: 1, challenger: 2, stage: "Shadow" } }),
  });
  for (let day = 0; day < 3; day++)
    track.live({ sizeTimes: 100, concept: true }, { pairing: { version: 1, other: 2, otherScore: () => 0.5 } });
  expect(track.state.champion).toMatchObject({ history, risk });
  expect(track.evidence().at(-1)).toMatchObject({ blocks: 0, decision: "wait" });
});

test("a changed relation of scores and labels is suspected, then confirmed, and asks for retraining from its first day", () => {
  const track = new Track(10);
  for (let day = 0; day < 20; day++) track.live();
  const changeMs = DAY0 + track.day * DAY_MS;
  for (let day = 0; day < 14; day++) track.live({ concept: true });
  const confirmed = track.episodes().find(({ state, class: c }) => state === "Confirmed" && c === "concept");
  expect(confirmed).toMatchObject({ retrain: true, withheld: "", fromMs: changeMs });
  expect(track.episodes().find(({ number }) => number === confirmed?.number)?.state).toBe("Suspect");
  expect(track.verdicts().at(-1)?.state).toBe("drifting");
});

test("a confirmed risk does not ask for retraining while a data fault is open", () => {
  const track = new Track(11);
  for (let day = 0; day < 10; day++) track.live();
  for (let day = 0; day < 14; day++) track.live({ concept: true });
  track.live({ concept: true, missing: 0.5 });
  expect(track.episodes().at(-1)).toMatchObject({
    class: "concept",
    state: "Confirmed",
    retrain: false,
    withheld: "data fault: size (missing)",
  });
  for (let day = 0; day < 2; day++) track.live({ concept: true });
  expect(track.episodes().at(-1)).toMatchObject({ class: "concept", state: "Confirmed", retrain: true, withheld: "" });
});

test("the leader's end closes the episode it names, once, and the detectors begin anew", () => {
  const track = new Track(12);
  for (let day = 0; day < 24; day++) track.live(day < 10 ? {} : { concept: true });
  const open = track.episodes().findLast(({ state }) => state === "Confirmed");
  const ended = { episode: open?.id ?? "", as: "rejected" } as const;
  track.give({ kind: "fact", fact: factOf({ revision: 2, ended }) });
  track.give({ kind: "fact", fact: factOf({ revision: 3, ended }) });
  expect(track.episodes().filter(({ id, state }) => id === open?.id && state === "Closed")).toMatchObject([
    { closedAs: "rejected", retrain: false },
  ]);
  expect(track.state.champion.risk).toEqual([0, 0, 0]);
});

test("with another champion the detectors begin anew and its confirmed episode is closed as retrained", () => {
  const track = new Track(13);
  for (let day = 0; day < 24; day++) track.live(day < 10 ? {} : { concept: true });
  track.give({ kind: "fact", fact: factOf({ revision: 2, champion: 2 }) });
  expect(track.episodes().at(-1)).toMatchObject({ state: "Closed", closedAs: "retrained" });
  expect(track.state.champion).toMatchObject({ version: 2, history: [], risk: [0, 0, 0] });
});

test("a lasting shift of the stated minimum effect is called within twenty blocks, and only warns", () => {
  const track = new Track(14);
  for (let day = 0; day < 3; day++) track.live({}, { labels: false });
  for (let day = 0; day < 20; day++) track.live({ sizePlus: 4 }, { labels: false });
  const size = track
    .verdicts()
    .at(-1)
    ?.features.find(({ name }) => name === "size");
  expect(size?.statistic).toBeGreaterThan(size?.minimumEffect ?? 0);
  expect(size?.drifting).toBe(true);
  expect(track.episodes().at(-1)).toMatchObject({ state: "Suspect", class: "covariate", retrain: false });
  expect(
    track
      .verdicts()
      .at(-1)
      ?.features.find(({ name }) => name === "kind")?.drifting,
  ).toBe(false);
});

test("a version without training data warms up on its first traffic, then is healthy", () => {
  const profile = warmupProfile(
    [
      { name: "size", type: "number" },
      { name: "kind", type: "category" },
    ],
    "probability",
  );
  const track = new Track(15, profile);
  track.live();
  expect(track.verdicts().at(-1)?.state).toBe("warm-up");
  for (let day = 0; day < 30; day++) track.live();
  expect(track.verdicts().at(-1)?.state).toBe("healthy");
  track.live({ sizeTimes: 100 });
  expect(track.verdicts().at(-1)?.state).toBe("data-fault");
});

test("a day waits for the slowest living boot of the champion, and not for one that has ended", () => {
  const track = new Track(16);
  const rows = dayRows(track.rand, 28);
  const [slow] = panesOf(track.profile, rows.slice(0, 100), {
    boot: 9,
    version: 1,
    size: 400,
    untilMs: DAY0 + 28.5 * DAY_MS,
  });
  if (slow !== undefined) track.give({ kind: "pane", pane: slow });
  for (const pane of panesOf(track.profile, rows, { boot: 1, version: 1, size: 400, untilMs: DAY0 + 29 * DAY_MS }))
    track.give({ kind: "pane", pane });
  expect(track.verdicts()).toEqual([]);
  track.give({ kind: "fact", fact: { kind: "boot-ended", track: TRACK, boot: 9, lastNumber: 1 } });
  expect(track.verdicts()).toMatchObject([{ rows: 500 }]);
});

test("nothing is judged before the first fact, and nothing is forgotten", () => {
  const { profile } = new Track(17);
  const state = openFold(TRACK);
  const rows = dayRows(seededRand(17), 28);
  const panes = panesOf(profile, rows, { boot: 1, version: 1, size: 400, untilMs: DAY0 + 29 * DAY_MS });
  for (const [i, pane] of panes.entries())
    expect(fold(state, { kind: "pane", pane }, i + 1, () => undefined)).toEqual([]);
  expect(fold(state, { kind: "fact", fact: factOf() }, 9, () => profile)).toMatchObject([
    { kind: "verdict", verdict: { rows: 400, seq: 9 } },
  ]);
  expect(profilesNeeded(factOf())).toEqual([SHA]);
  expect(profilesNeeded({ kind: "boot-ended", track: TRACK, boot: 1, lastNumber: 1 })).toEqual([]);
});

test("rows of a closed day are counted as lost, and open days have a capacity", () => {
  const track = new Track(18);
  track.live();
  const late = panesOf(track.profile, dayRows(track.rand, 28), {
    boot: 2,
    version: 1,
    size: 400,
    untilMs: DAY0 + 30 * DAY_MS,
  });
  for (const pane of late) track.give({ kind: "pane", pane });
  expect(track.state.lost).toBe(400);
  for (let day = 40; day < 120; day++) {
    const pane = panesOf(track.profile, dayRows(track.rand, day, { rows: 50 }), {
      boot: 3,
      version: 1,
      size: 50,
      untilMs: DAY0 + 30 * DAY_MS,
      number: day - 39,
    });
    for (const p of pane) track.give({ kind: "pane", pane: p });
  }
  expect(track.state.days.length).toBe(64);
  expect(track.state.lost).toBe(400 + 16 * 50);
  expect(canonicalJson(track.state).length).toBeLessThan(1 << 20);
});
