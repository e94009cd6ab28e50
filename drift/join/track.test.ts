import fc from "fast-check";
import { parquetReadObjects } from "hyparquet";
import { describe, expect, test } from "vitest";
import { DAY_MS, HOUR_MS } from "#kernel/domain/profile.ts";
import type { OutcomePane } from "#kernel/domain/pane.ts";
import { decodeLabels, decodeRecords, type LabelOfRow, type Records } from "./intake.ts";
import { writeSegment } from "./segment.ts";
import { decodeJoin, encodeJoin } from "./snapshot.ts";
import { fact, labelBytes, profile, recordBytes, records, row, START_MS } from "./testing/rows.ts";
import { advance, dueDays, endBoot, openJoin, takeFact, takeLabel, takeRecords, type JoinState } from "./track.ts";

const TRACK = 5;

function open(strict = false): JoinState {
  const state = openJoin(TRACK, strict);
  takeFact(state, fact(TRACK));
  return state;
}
function feed(state: JoinState, message: Records, storedMs = 2): void {
  takeRecords(state, structuredClone(message), storedMs);
  advance(state, profile);
}
/** Moves every watermark far beyond all horizons. */
const finish = (state: JoinState, batch: number, boot = 1): void => feed(state, records(TRACK, batch, 1_000, [], boot));
const labelled = (panes: readonly OutcomePane[]): number =>
  panes.flatMap(({ versions }) => versions.flatMap(({ outcome }) => outcome.n)).reduce((sum, n) => sum + n, 0);
const total = (panes: readonly OutcomePane[], of: "late" | "unmatched" | "corrected"): number =>
  panes.reduce((sum, pane) => sum + pane[of], 0);

test("at most so many rows wait for their horizon; more are lost and counted, and their labels are late", () => {
  const state = openJoin(TRACK, false, 3);
  takeFact(state, fact(TRACK));
  feed(
    state,
    records(
      TRACK,
      1,
      1,
      [1, 2, 3, 4, 5].map((number) => row(1, number, 1)),
    ),
  );
  expect(state.lost).toBe(2);
  expect(takeLabel(state, { boot: 1, number: 3, value: 1 }, 1)).toBe("matched");
  expect(takeLabel(state, { boot: 1, number: 4, value: 1 }, 1)).toBe("late");
  finish(state, 2);
  expect(labelled(state.outbox)).toBe(1);
});

describe("the fate of a label", () => {
  test("in time it is matched, and a repeat changes nothing", () => {
    const state = open();
    feed(state, records(TRACK, 1, 1, [row(1, 1, 1)]));
    const label = { boot: 1, number: 1, value: 1 };
    expect([takeLabel(state, label, 1), takeLabel(state, label, 1)]).toEqual(["matched", "repeated"]);
    finish(state, 2);
    const [pane] = state.outbox;
    expect(pane?.versions[0]?.outcome).toMatchObject({ lossMicro: 562_500 });
    expect(pane?.versions[0]?.outcome.yMicro[16]).toBe(1_000_000);
    expect(labelled(state.outbox)).toBe(1);
  });

  test("before its row it waits and is matched when the row comes", () => {
    const state = open();
    expect(takeLabel(state, { boot: 1, number: 1, value: 1 }, 1)).toBe("early");
    feed(state, records(TRACK, 1, 1, [row(1, 1, 1)]));
    finish(state, 2);
    expect(labelled(state.outbox)).toBe(1);
    expect(total(state.outbox, "unmatched")).toBe(0);
  });

  test("a different label corrects the one before until the hour closes", () => {
    const state = open();
    feed(state, records(TRACK, 1, 1, [row(1, 1, 1)]));
    takeLabel(state, { boot: 1, number: 1, value: 1 }, 1);
    expect(takeLabel(state, { boot: 1, number: 1, value: 0 }, 1)).toBe("corrected");
    finish(state, 2);
    expect(total(state.outbox, "corrected")).toBe(1);
    expect(state.outbox[0]?.versions[0]?.outcome.lossMicro).toBe(62_500);
    expect(takeLabel(state, { boot: 1, number: 1, value: 1 }, 1)).toBe("late");
  });

  test("after its hour closed it is late, and the pane keeps the row as unlabelled", () => {
    const state = open();
    feed(state, records(TRACK, 1, 1, [row(1, 1, 1)]));
    feed(state, records(TRACK, 2, 26, [row(1, 2, 26)]));
    expect(takeLabel(state, { boot: 1, number: 1, value: 1 }, 1)).toBe("late");
    finish(state, 3);
    expect(state.outbox[0]?.versions[0]?.unlabelled).toBe(1);
    expect([labelled(state.outbox), total(state.outbox, "late")]).toEqual([0, 1]);
  });

  test("for a row nobody served it is unmatched once the horizon has passed", () => {
    const state = open();
    feed(state, records(TRACK, 1, 1, [row(1, 1, 1)]));
    expect(takeLabel(state, { boot: 1, number: 99, value: 1 }, 1)).toBe("early");
    feed(state, records(TRACK, 2, 27, [row(1, 2, 27)]));
    expect(state.early.size).toBe(0);
    finish(state, 3);
    expect(total(state.outbox, "unmatched")).toBe(1);
  });

  test("is not given up while the records are behind the moment it was stored", () => {
    const state = open();
    takeLabel(state, { boot: 1, number: 3, value: 1 }, 9);
    takeLabel(state, { boot: 1, number: 99, value: 1 }, 9);
    for (let day = 0; day < 5; day++) feed(state, records(TRACK, day + 1, 24 * day, [row(1, 10 + day, 24 * day)]), day);
    expect(state.early.size).toBe(2);
    feed(state, records(TRACK, 6, 120, [row(1, 3, 120)]), 10);
    feed(state, records(TRACK, 7, 146, [row(1, 4, 146)]), 11);
    expect([state.early.size, total(state.outbox, "unmatched")]).toEqual([0, 1]);
    expect(state.outbox.at(-1)?.versions[0]?.outcome.yMicro[16]).toBe(1_000_000);
  });

  test("one that is no number is unmatched", () => {
    expect(takeLabel(open(), { boot: 1, number: 1, value: Number.NaN }, 1)).toBe("unmatched");
  });
});

describe("hours", () => {
  test("close when the watermark is their end plus the horizon, not before", () => {
    const state = open();
    feed(state, records(TRACK, 1, 1.5, [row(1, 1, 1.5)]));
    feed(state, records(TRACK, 2, 25.99, [row(1, 2, 25.99)]));
    expect(state.outbox).toEqual([]);
    feed(state, records(TRACK, 3, 26, [row(1, 3, 26)]));
    expect(state.outbox.map(({ startMs, watermarkMs }) => [startMs, watermarkMs])).toEqual([
      [START_MS + HOUR_MS, START_MS + 2 * HOUR_MS],
    ]);
  });

  test("wait for the slowest living boot, and for no boot that has ended", () => {
    const state = open();
    feed(state, records(TRACK, 1, 1, [row(1, 1, 1)]));
    feed(state, records(TRACK, 1, 1, [row(2, 1, 1)]));
    feed(state, records(TRACK, 2, 30, [row(1, 2, 30)]));
    expect(state.outbox).toEqual([]);
    endBoot(state, 2);
    advance(state, profile);
    expect(state.outbox).toHaveLength(1);
  });

  test("do not wait for a former champion that rests", () => {
    const state = open();
    feed(state, records(TRACK, 1, 1, [row(1, 1, 1, { version: 1 })]));
    takeFact(state, fact(TRACK, { revision: 2, champion: 2 }));
    feed(state, records(TRACK, 1, 40, [row(2, 1, 40, { version: 2 })]));
    expect(state.outbox[0]?.startMs).toBe(START_MS + HOUR_MS);
  });

  test("a row that comes after its hour closed is lost and its label late", () => {
    const state = open();
    feed(state, records(TRACK, 1, 40, [row(1, 1, 40)]));
    feed(state, records(TRACK, 2, 40, [row(1, 2, 1)]));
    expect(state.lost).toBe(1);
    expect(takeLabel(state, { boot: 1, number: 2, value: 1 }, 1)).toBe("late");
  });

  test("a batch sent twice counts once", () => {
    const state = open();
    const message = records(TRACK, 1, 1, [row(1, 1, 1), row(1, 2, 1)]);
    feed(state, message);
    feed(state, message);
    finish(state, 2);
    feed(state, message);
    expect(state.outbox[0]?.versions[0]?.unlabelled).toBe(2);
    expect([state.outbox.length, state.lost]).toEqual([2, 0]);
  });

  test("a day whose last hours are empty ends with a pane that says so", () => {
    const state = open();
    feed(state, records(TRACK, 1, 20, [row(1, 1, 20)]));
    finish(state, 2);
    expect(state.outbox.map(({ watermarkMs }) => watermarkMs - START_MS)).toEqual([21 * HOUR_MS, DAY_MS]);
    expect(state.outbox[1]?.versions).toEqual([]);
  });
});

test("rows that both arms scored give the difference of their losses, served arm first", () => {
  const state = open();
  const both = row(1, 1, 1, { score: 0.5, other: 2, otherScore: 0 });
  feed(state, records(TRACK, 1, 1, [both, row(1, 2, 1)]));
  for (const number of [1, 2]) takeLabel(state, { boot: 1, number, value: 0 }, 1);
  finish(state, 2);
  expect(state.outbox[0]?.pairs).toEqual([
    { version: 1, other: 2, n: 1, differenceMicro: 250_000, squareMicro: 62_500 },
  ]);
});

test("in strict mode a pane is of a day and says nothing of fewer than a hundred labelled rows", () => {
  const state = open(true);
  const rows = (batch: number, from: number, count: number, hours: number): Records =>
    records(
      TRACK,
      batch,
      hours,
      Array.from({ length: count }, (_, i) => row(1, from + i, hours)),
    );
  feed(state, rows(1, 1, 99, 3));
  feed(state, rows(2, 100, 120, 27));
  for (let number = 1; number < 220; number++) takeLabel(state, { boot: 1, number, value: 1 }, 1);
  takeLabel(state, { boot: 1, number: 7_777, value: 1 }, 1);
  finish(state, 3);
  expect(state.outbox.map(({ startMs, versions }) => [startMs - START_MS, versions.length])).toEqual([
    [0, 0],
    [DAY_MS, 1],
  ]);
  expect([labelled(state.outbox), total(state.outbox, "unmatched")]).toEqual([120, 1]);
});

test("the day's labelled rows become a Parquet file with the features by name, the same bytes in any order", async () => {
  const state = open();
  feed(state, records(TRACK, 1, 3, [row(1, 1, 1), row(1, 2, 2), row(1, 3, 3)]));
  for (const number of [1, 3]) takeLabel(state, { boot: 1, number, value: number === 1 ? 1 : 0 }, 1);
  finish(state, 2);
  expect(dueDays(state)).toEqual([START_MS]);
  const rows = state.days.get(START_MS) ?? [];
  const { content, rows: count } = writeSegment(rows, profile.features);
  expect(count).toBe(2);
  expect(await parquetReadObjects({ file: content.slice().buffer })).toEqual([
    { event_time: BigInt(START_MS + HOUR_MS), hour: 1, origin: "B", label: 1 },
    { event_time: BigInt(START_MS + 3 * HOUR_MS), hour: 3, origin: "B", label: 0 },
  ]);
  expect(writeSegment(rows.toReversed(), profile.features).content).toEqual(content);
});

test("messages come back from the wire as rows and labels, and broken ones are undefined", () => {
  const message = records(TRACK, 3, 1, [row(1, 4, 1), row(1, 5, 1, { other: 2, otherScore: 0.5 })]);
  expect(decodeRecords(recordBytes(message))).toEqual(message);
  const labels = [{ boot: 1, number: 4, value: 1 }];
  expect(decodeLabels(labelBytes(TRACK, labels))).toEqual({ track: TRACK, labels });
  expect(decodeRecords(new Uint8Array([255, 255]))).toBeUndefined();
});

type Story = { messages: Records[]; labels: LabelOfRow[]; places: number[][] };
const HORIZON = 24;

/** Rows of two boots over 40 hours; labels in one order, laid between the messages in two ways, each before its hour closes. */
const stories: fc.Arbitrary<Story> = fc
  .record({
    gaps: fc.array(fc.double({ min: 0, max: 4, noNaN: true }), { minLength: 6, maxLength: 20 }),
    boots: fc.array(fc.integer({ min: 1, max: 2 }), { minLength: 20, maxLength: 20 }),
    told: fc.array(fc.tuple(fc.nat({ max: 19 }), fc.nat({ max: 1 }), fc.nat(), fc.nat()), { maxLength: 40 }),
  })
  .map(({ gaps, boots, told }) => {
    const numbers = [0, 0, 0];
    let hours = 0;
    const messages = gaps.map((gap, i) => {
      hours += gap;
      const boot = boots[i] ?? 1;
      const number = (numbers[boot] = (numbers[boot] ?? 0) + 1);
      return records(TRACK, number, hours, [row(boot, number, hours, { score: (i % 10) / 10 })]);
    });
    const closing = (i: number): number => {
      const end = Math.floor(((messages[i]?.rows[0]?.eventMs ?? 0) - START_MS) / HOUR_MS) + 1 + HORIZON;
      const at = messages.findIndex(({ watermarkMs }) => watermarkMs - START_MS >= end * HOUR_MS);
      return at === -1 ? messages.length : at;
    };
    const known = told.map(([i, value, a, b]) => ({ i: i % messages.length, value, a, b }));
    const latest = known.map(({ i }) => closing(i));
    for (let i = latest.length - 2; i >= 0; i--) latest[i] = Math.min(latest[i] ?? 0, latest[i + 1] ?? 0);
    const place = (of: (k: (typeof known)[number]) => number): number[] => {
      let before = 0;
      return known.map((k, i) => (before = Math.max(before, of(k) % ((latest[i] ?? 0) + 1))));
    };
    const labels = known.map(({ i, value }) => {
      const { boot = 1, number = 1 } = messages[i]?.rows[0] ?? {};
      return { boot, number, value };
    });
    return { messages, labels, places: [place(({ a }) => a), place(({ b }) => b)] };
  });

function play({ messages, labels }: Story, places: readonly number[], restart: (step: number) => boolean): JoinState {
  let state = open();
  let next = 0;
  for (let i = 0; i <= messages.length; i++) {
    for (; next < labels.length && (places[next] ?? 0) <= i; next++) takeLabel(state, labels[next] as LabelOfRow, i);
    const message = messages[i];
    if (message !== undefined) feed(state, message, i);
    if (restart(i)) state = decodeJoin(encodeJoin(state, new Set()));
  }
  finish(state, 1_000, 1);
  finish(state, 1_000, 2);
  for (const boot of [1, 2]) endBoot(state, boot);
  feed(state, records(TRACK, 1, 1_000, [], 3));
  return state;
}
const outcomeOf = (state: JoinState): unknown => ({
  panes: state.outbox.map(({ corrected, startMs, versions, pairs, watermarkMs }) => ({
    corrected,
    startMs,
    versions,
    pairs,
    watermarkMs,
  })),
  days: [...state.days].map(([dayMs, rows]) => [
    dayMs,
    Buffer.from(writeSegment(rows, profile.features).content).toString("base64"),
  ]),
});

test("any interleaving of labels before their hours close gives the same panes and segments, through any restarts", () => {
  fc.assert(
    fc.property(stories, fc.nat(), (story, seed) => {
      const [a = [], b = []] = story.places;
      const one = play(story, a, () => false);
      const other = play(story, b, (step) => (step * 7 + seed) % 3 === 0);
      expect(outcomeOf(other)).toEqual(outcomeOf(one));
      expect(total(one.outbox, "late") + total(one.outbox, "unmatched") + one.lost).toBe(0);
    }),
    { numRuns: 200 },
  );
});
