import { parquetReadObjects } from "hyparquet";
import { expect, test } from "vitest";
import { systemClock } from "#kernel/base/clock.ts";
import { DAY_MS } from "#kernel/domain/profile.ts";
import type { OutcomePane } from "#kernel/domain/pane.ts";
import { SUBJECTS, type EpisodeState, type SegmentState, type VerdictState } from "#kernel/domain/state.ts";
import type { EventLog, LogMessage, StateStore } from "#kernel/store/ports.ts";
import { until } from "#kernel/store/testing/wait.ts";
import { decodeOutcome } from "../panes/door.ts";
import { createDrift, type DriftSteps } from "./drift.ts";
import { crashing, depsOn, memoryStores, TRACK, World, type Stores } from "./testing/world.ts";

async function messages(log: EventLog, filter: string): Promise<LogMessage[]> {
  const { lastSeq } = await log.info(filter);
  const found: LogMessage[] = [];
  if (lastSeq === 0) return found;
  for await (const event of log.read({ filter, fromSeq: 1 }, new AbortController().signal)) {
    if (event.kind === "message") found.push(event.message);
    if (found.at(-1)?.seq === lastSeq) break;
  }
  return found;
}
const outcomes = async ({ panes }: Stores): Promise<OutcomePane[]> =>
  (await messages(panes, SUBJECTS.outcomePane(TRACK))).flatMap(({ payload }) => decodeOutcome(payload) ?? []);
const values = async <T>(state: StateStore, prefix: string): Promise<T[]> =>
  (await state.list(prefix)).map(({ value }) => JSON.parse(new TextDecoder().decode(value)) as T);

/** Runs `act` with a drift on `stores`, then stops it. */
async function withDrift<T>(stores: Stores, act: (steps: DriftSteps) => Promise<T>): Promise<T> {
  const over = new AbortController();
  try {
    return await act(await createDrift(depsOn(stores)).begin(over.signal));
  } finally {
    over.abort();
  }
}

test("records, labels and panes become outcome panes, a segment a day, verdicts and episodes", async () => {
  const stores = memoryStores();
  const world = new World(stores);
  await world.begin();
  await withDrift(stores, async (steps) => {
    for (const twist of [{}, {}, { sizeTimes: 100 }, { sizeTimes: 100 }, {}, {}, {}]) {
      await world.day(twist);
      await steps.settle();
    }
  });
  const panes = await outcomes(stores);
  expect(panes.length).toBe(6 * 24);
  const labelled = panes.flatMap(({ versions }) => versions.map(({ outcome }) => outcome.n.reduce((a, b) => a + b, 0)));
  expect(labelled.reduce((a, b) => a + b, 0)).toBe(6 * 400);
  expect(panes.every(({ late, unmatched, corrected }) => late + unmatched + corrected === 0)).toBe(true);

  const segments = await values<SegmentState>(stores.state, `segment.${TRACK}.`);
  expect(segments.map(({ day, rows }) => [day, rows]).slice(0, 2)).toEqual([
    ["2024-01-29", 400],
    ["2024-01-30", 400],
  ]);
  const file = await stores.blobs.get(segments[0]?.sha256 ?? "");
  const rows = await parquetReadObjects({ file: (file ?? new Uint8Array()).slice().buffer });
  expect(Object.keys(rows[0] ?? {})).toEqual(["event_time", "size", "kind", "label"]);

  const [verdict] = await values<VerdictState>(stores.state, "verdict.");
  expect(verdict).toMatchObject({ model: "sizes", champion: 1, labelled: 6 * 400 });
  const episodes = await values<EpisodeState>(stores.state, `episode.${TRACK}.`);
  expect(episodes.map((e) => e.class)).toContain("quality");
  expect((await messages(stores.events, "mesh.event.episode.sizes")).length).toBeGreaterThanOrEqual(2);
});

test("every decision that is kept replays to the same bytes", async () => {
  const stores = memoryStores();
  const drift = createDrift(depsOn(stores));
  const world = new World(stores);
  const other = new World(stores, { track: 70, seed: 3, boot: 12 });
  await world.begin();
  await other.begin({ model: "others", rollout: { id: "rol_a", champion: 1, challenger: 2, stage: "Shadow" } });
  const over = new AbortController();
  const steps = await drift.begin(over.signal);
  for (let day = 0; day < 5; day++) {
    await Promise.all([world.day({ sizePlus: day > 1 ? 40 : 0 }), other.day()]);
    await steps.settle();
  }
  const kept = (await stores.state.list("decision.")).map(({ key }) => key.slice("decision.".length));
  expect(new Set(kept.map((id) => id.split("-")[0]))).toEqual(new Set(["verdict", "episode", "evidence"]));
  for (const id of kept) {
    const replayed = await drift.replay(id, over.signal);
    expect(replayed).toMatchObject({ identical: true });
    expect(replayed.made.length).toBeGreaterThan(10);
  }
  await expect(drift.replay("episode-5-999999", over.signal)).rejects.toThrow("no decision episode-5-999999 is kept");
  await expect(drift.replay("nonsense", over.signal)).rejects.toThrow("names no decision");
  over.abort();
});

/** Everything that was said, without what names the moment of saving. */
async function said(stores: Stores): Promise<unknown> {
  const state = await stores.state.list("");
  const text = (value: Uint8Array): string => new TextDecoder().decode(value);
  const levels = state.filter(({ key }) => /^(segment|verdict|episode|evidence|decision)\./.test(key));
  return {
    outcomes: await outcomes(stores),
    levels: levels.map(({ key, value }) => [key, text(value)]),
    events: (await messages(stores.events, "mesh.>")).map(({ payload }) => text(payload)),
  };
}

test("a crash before or after any effect leaves the same panes, segments, decisions and events", async () => {
  async function play(nth: number): Promise<{ said: unknown; crashed: boolean }> {
    const stores = memoryStores();
    const world = new World(stores);
    await world.begin();
    const faulty = crashing(stores, nth);
    for (const twist of [{}, { sizeTimes: 100 }, { sizeTimes: 100 }, {}]) {
      await world.day({ rows: 60, ...twist });
      await world.label([
        { number: 1, value: 0 },
        { number: 999_999, value: 1 },
      ]);
      const settled = withDrift(faulty.stores, (steps) => steps.settle());
      await settled.catch(() => withDrift(stores, (steps) => steps.settle()));
    }
    return { said: await said(stores), crashed: faulty.crashed() };
  }
  const whole = await play(Number.POSITIVE_INFINITY);
  let crashes = 0;
  // Every third effect: odd and even, so before and after.
  for (let nth = 1; ; nth += 3) {
    const { said: after, crashed } = await play(nth);
    expect(after).toEqual(whole.said);
    if (!crashed) break;
    crashes += 1;
  }
  expect(crashes).toBeGreaterThan(30);
});

test("an outcome pane that the log stored twice is folded and counted once", async () => {
  const stores = memoryStores();
  const world = new World(stores);
  await world.begin();
  const drift = createDrift(depsOn(stores));
  const over = new AbortController();
  const steps = await drift.begin(over.signal);
  for (let day = 0; day < 3; day++) await world.day();
  await steps.settle();
  const before = drift.board.tracks()[0]?.days;
  for (const { subject, payload, seq } of await messages(stores.panes, "mesh.>")) {
    await stores.panes.publish({ subject, payload, id: `again/${seq}` });
  }
  await steps.settle();
  expect(drift.board.tracks()[0]?.days).toEqual(before);
  over.abort();
});

test("labels acknowledged before a record are applied before it, however far the reading of labels lags", async () => {
  const stores = memoryStores();
  const gate = Promise.withResolvers<void>();
  const feedback: EventLog = {
    publish: (publication) => stores.feedback.publish(publication),
    async *read(options, signal) {
      await gate.promise;
      yield* stores.feedback.read(options, signal);
    },
    info: (filter) => stores.feedback.info(filter),
    close: () => stores.feedback.close(),
  };
  const world = new World(stores);
  await world.begin();
  for (let day = 0; day < 4; day++) await world.day();
  await withDrift({ ...stores, feedback }, async (steps) => {
    const settled = steps.settle();
    for (let turn = 0; turn < 100; turn++) await Promise.resolve();
    gate.resolve();
    await settled;
  });
  const panes = await outcomes(stores);
  expect(panes.length).toBe(3 * 24);
  expect(panes.every(({ late, versions }) => late === 0 && versions.every(({ unlabelled }) => unlabelled === 0))).toBe(
    true,
  );
  expect(panes.at(-1)?.watermarkMs).toBe((panes[0]?.startMs ?? 0) + 3 * DAY_MS);
});

test("a worker that finds another one's save stops and publishes nothing more", async () => {
  const stores = memoryStores();
  const world = new World(stores);
  await world.begin();
  await world.day();
  await world.day();
  await withDrift(stores, async (first) => {
    await withDrift(stores, (second) => second.settle());
    const published = (await stores.panes.info()).lastSeq;
    await expect(first.joiner.settle()).rejects.toThrow("another worker joins");
    await expect(first.verdicts.settle()).rejects.toThrow("another worker judges");
    expect((await stores.panes.info()).lastSeq).toBe(published);
  });
});

test("a worker leads, and when it stops the next one goes on at once from what was saved", async () => {
  const stores = memoryStores();
  const world = new World(stores);
  await world.begin();
  for (let turn = 0; turn < 2; turn++) {
    await world.day();
    await world.day();
    const over = new AbortController();
    const drift = createDrift(depsOn(stores, systemClock));
    const running = drift.run(over.signal);
    const labelled = (): number => drift.board.tracks()[0]?.days.reduce((sum, day) => sum + day.labelled, 0) ?? 0;
    await until("all but the last day are labelled", () => labelled() === 400 + turn * 800);
    over.abort();
    await running;
    expect(drift.board.ready).toBe(false);
  }
  const term = await stores.state.get("term.drift");
  expect(new TextDecoder().decode(term?.value)).toContain('"term":2');
});
