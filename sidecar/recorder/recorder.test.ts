// The recorder's pure parts, without threads: ring, rows, folding, batching, pipeline, write-ahead file, recovery.
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { systemClock } from "#kernel/base/clock.ts";
import { systemRand } from "#kernel/base/rand.ts";
import { DAY_MS, HOUR_MS, type Profile } from "#kernel/domain/profile.ts";
import { PaneSchema, RecordBatchSchema } from "#proto/driftmesh/internal/v1/telemetry_pb.ts";
import { RecordBatcher } from "./batch.ts";
import { PaneFold } from "./fold.ts";
import { Pipeline } from "./pipeline.ts";
import { recover } from "./recovery.ts";
import { Ring } from "./ring.ts";
import { decodeBlock, encodeBlock, type RowBlock } from "./rows.ts";
import { leftovers, Spool } from "./spool.ts";
import type { Outgoing } from "./wire.ts";

const DAY0 = Date.UTC(2001, 0, 1);
const PROFILE: Pick<Profile, "features" | "score"> = {
  features: [
    { name: "a", kind: "number", edges: [0, 1] },
    { name: "c", kind: "category", categories: ["red"] },
  ],
  score: { kind: "probability", edges: [0.5] },
};
const IDENTITY = { track: 5, boot: 9, version: 2, strict: false };

function block(first: number, rows: number, eventMs = DAY0): RowBlock {
  return {
    first,
    eventMs: new Float64Array(rows).fill(eventMs),
    scores: Float32Array.from({ length: rows }, (_, i) => (i % 2 === 0 ? 0.25 : 0.75)),
    columns: [
      { kind: "number", values: Float32Array.from({ length: rows }, (_, i) => (i % 3 === 0 ? Number.NaN : i)) },
      { kind: "category", values: Array.from({ length: rows }, (_, i) => ["red", "blü", ""][i % 3] ?? "") },
    ],
  };
}

test("what the ring takes comes out whole and in order, and what it has no room for is refused", () => {
  const messages = fc.array(fc.uint8Array({ minLength: 0, maxLength: 200 }), { maxLength: 60 });
  fc.assert(
    fc.property(messages, fc.array(fc.boolean(), { maxLength: 120 }), (sent, turns) => {
      const ring = Ring.ofBytes(1024);
      const queue = [...sent];
      const inside: Uint8Array[] = [];
      for (const offer of turns) {
        const next = queue[0];
        if (offer && next !== undefined) {
          if (ring.offer(next)) inside.push(next);
          else expect(inside.length).toBeGreaterThan(0);
          queue.shift();
        } else expect(ring.take()).toEqual(inside.shift());
      }
      for (const left of inside) expect(ring.take()).toEqual(left);
      expect(ring.take()).toBeUndefined();
    }),
    { numRuns: 200 },
  );
});

test("the largest message fits into an empty ring at any position", () => {
  const ring = Ring.ofBytes(256);
  for (let i = 0; i < 40; i++) {
    expect(ring.offer(new Uint8Array(ring.largest))).toBe(true);
    expect(ring.take()?.byteLength).toBe(ring.largest);
    ring.offer(new Uint8Array(i));
    ring.take();
  }
});

test("rows cross the ring as they are, with and without another arm", () => {
  const plain = block(7, 5);
  expect(decodeBlock(encodeBlock(plain) as Uint8Array<ArrayBuffer>)).toEqual(plain);
  const both = { ...block(1, 3), other: { version: 4, scores: Float32Array.of(0.5, Number.NaN, 1) } };
  expect(decodeBlock(encodeBlock(both) as Uint8Array<ArrayBuffer>)).toEqual(both);
});

test("every row is counted once, in its hour, in the profile's bins", () => {
  const fold = new PaneFold({ ...IDENTITY, profile: PROFILE });
  fold.add(block(1, 6), 0);
  fold.add(block(7, 3, DAY0 + HOUR_MS), 0);
  const pane = fold.flush(0, true);
  expect(pane).toMatchObject({ number: 1, firstRow: 1, rows: 9, dropped: 0, watermarkMs: DAY0 + HOUR_MS });
  expect(pane.cells.map(({ startMs, rows }) => [startMs, rows])).toEqual([
    [DAY0, 6],
    [DAY0 + HOUR_MS, 3],
  ]);
  expect(pane.cells[0]).toMatchObject({
    version: 2,
    features: [
      [0, 0, 4, 2],
      [2, 2, 2],
    ],
    score: [3, 3, 0],
  });
});

test("rows answered are rows in panes and gaps, whatever is dropped and whenever panes leave", () => {
  const step = fc.record({
    rows: fc.integer({ min: 1, max: 300 }),
    lost: fc.boolean(),
    hours: fc.integer({ min: 0, max: 5 }),
    waitMs: fc.integer({ min: 0, max: 1500 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.boolean(), (steps, strict) => {
      const out: Outgoing[] = [];
      const pipeline = new Pipeline({ ...IDENTITY, strict }, PROFILE, (message) => out.push(message) > 0);
      let [last, nowMs, eventMs, lost] = [0, 0, DAY0, 0];
      for (const { rows, lost: gone, hours, waitMs } of steps) {
        nowMs += waitMs;
        eventMs += hours * HOUR_MS;
        if (gone) lost += rows;
        else pipeline.take(block(last + 1, rows, eventMs), nowMs);
        pipeline.tick(nowMs);
        last += rows;
      }
      pipeline.finish(last, nowMs);
      const panes = out
        .filter(({ stream }) => stream === "MESH_PANE")
        .map(({ payload }) => fromBinary(PaneSchema, payload));
      const records = out
        .filter(({ stream }) => stream === "MESH_REC")
        .map(({ payload }) => fromBinary(RecordBatchSchema, payload));
      const cells = panes.flatMap((pane) => pane.cells.map((cell) => Number(cell.rows)));
      const sum = (numbers: number[]): number => numbers.reduce((a, b) => a + b, 0);
      expect(sum(panes.map((pane) => Number(pane.rows)))).toBe(last);
      expect(sum(panes.map((pane) => Number(pane.dropped)))).toBe(lost);
      expect(sum(cells) + sum(panes.map((pane) => Number(pane.suppressed)))).toBe(last - lost);
      expect(sum(records.map((record) => record.rows))).toBe(last - lost);
      if (strict) expect(cells.every((rows) => rows >= 100)).toBe(true);
      let next = 1;
      for (const pane of panes) {
        expect(Number(pane.firstRow)).toBe(next);
        next += Number(pane.rows);
      }
      const watermarks = panes.map((pane) => Number(pane.watermarkMs));
      expect(watermarks).toEqual(watermarks.toSorted((a, b) => a - b));
    }),
    { numRuns: 150 },
  );
});

test("the records of a pane's rows are handed over before the pane", () => {
  const order: string[] = [];
  const pipeline = new Pipeline(IDENTITY, PROFILE, ({ stream }) => order.push(stream) > 0);
  pipeline.take(block(1, 10), 0);
  pipeline.tick(2_000);
  expect(order).toEqual(["MESH_REC", "MESH_PANE"]);
});

test("a batch that there is no room for leaves no hole in the numbers, and its rows count as dropped records", () => {
  const out: Outgoing[] = [];
  let room = false;
  const pipeline = new Pipeline(
    IDENTITY,
    PROFILE,
    (message) => (room || message.stream === "MESH_PANE") && out.push(message) > 0,
  );
  pipeline.take(block(1, 1_024), 0);
  room = true;
  pipeline.take(block(1_025, 1_024), 0);
  const records = out
    .filter(({ stream }) => stream === "MESH_REC")
    .map(({ payload }) => fromBinary(RecordBatchSchema, payload));
  expect(records).toMatchObject([{ batch: 1n, firstRow: 1_025n, droppedTotal: 1_024n, numberedTotal: 2_048n }]);
});

test("at rest everything is out within a quarter of a second, the watermark included", () => {
  const panes: Outgoing[] = [];
  const pipeline = new Pipeline(
    IDENTITY,
    PROFILE,
    (message) => (message.stream === "MESH_PANE" ? panes.push(message) : 1) > 0,
  );
  pipeline.take(block(1, 10, DAY0 + DAY_MS), 5_000);
  for (let nowMs = 5_000; nowMs <= 5_250; nowMs += pipeline.idleMs(nowMs)) pipeline.tick(nowMs);
  const watermarks = panes.map(({ payload }) => Number(fromBinary(PaneSchema, payload).watermarkMs));
  expect(watermarks.at(-1)).toBe(DAY0 + DAY_MS);
});

test("a batch leaves with 1,024 rows, with another arm, or at a gap", () => {
  const out: RowBlock[] = [];
  const batcher = new RecordBatcher((rows) => out.push(rows));
  batcher.add(block(1, 1_000), 0);
  batcher.add(block(1_001, 100), 0);
  expect(out.map(({ scores }) => scores.length)).toEqual([1_024]);
  batcher.add({ ...block(1_101, 2), other: { version: 3, scores: Float32Array.of(0, 1) } }, 0);
  batcher.add(block(2_000, 1), 0);
  expect(out.map(({ first, scores, other }) => [first, scores.length, other?.version])).toEqual([
    [1, 1_024, undefined],
    [1_025, 76, undefined],
    [1_101, 2, 3],
  ]);
  expect(batcher.dueMs).toBe(100);
});

const HEAD = { ...IDENTITY, profileSha256: "p" };
const never = (error: unknown): never => {
  throw error instanceof Error ? error : new Error(String(error));
};

function spoolWith(folder: string, rows: number[], paneUpTo: number): Spool {
  const spool = new Spool({ folder, head: HEAD, failed: never });
  const pipeline = new Pipeline(IDENTITY, PROFILE, (message) => spool.append(message));
  let last = 0;
  for (const count of rows) {
    pipeline.take(block(last + 1, count, DAY0 + last * 60_000), last);
    last += count;
    if (last === paneUpTo) pipeline.tick(last + 5_000);
  }
  pipeline.tick(Number.MAX_SAFE_INTEGER / 2 - 1);
  return spool;
}

test("the file is gone when everything in it is acknowledged, and stays when not", () => {
  const folder = mkdtempSync(join(tmpdir(), "dm-wal-"));
  const spool = spoolWith(folder, [10, 20], 30);
  const first = spool.next();
  for (let entry = spool.next(); entry !== undefined; entry = spool.next()) spool.acknowledge(entry);
  expect(readdirSync(folder)).toHaveLength(1);
  if (first !== undefined) spool.acknowledge(first);
  spool.close();
  expect(readdirSync(folder)).toEqual([]);
});

test("a torn tail is left out, what is before it is read", () => {
  const folder = mkdtempSync(join(tmpdir(), "dm-wal-"));
  spoolWith(folder, [10], 10).close();
  const path = join(folder, readdirSync(folder)[0] ?? "");
  const whole = [...(leftovers(folder, 1)[0]?.entries() ?? [])].length;
  appendFileSync(path, Buffer.from([9, 0, 0, 0, 1, 2, 3]));
  expect([...(leftovers(folder, 1)[0]?.entries() ?? [])]).toHaveLength(whole);
  truncateSync(path, readFileSync(path).byteLength - 12);
  expect([...(leftovers(folder, 1)[0]?.entries() ?? [])]).toHaveLength(whole - 1);
});

test("a leftover is sent under its own ids, and rows that no pane covers get one more pane", async () => {
  const folder = mkdtempSync(join(tmpdir(), "dm-wal-"));
  const spool = new Spool({ folder, head: HEAD, failed: never });
  const pipeline = new Pipeline(IDENTITY, PROFILE, (message) => spool.append(message));
  pipeline.take(block(1, 10), 0);
  pipeline.tick(2_000);
  pipeline.take(block(14, 20), 2_001);
  pipeline.tick(2_102);
  pipeline.take(block(34, 5), 2_103);
  spool.close();
  const sent: Outgoing[] = [];
  const deps = {
    sink: {
      window: () => 2,
      publish: (message: Outgoing) => Promise.resolve(void sent.push(message)),
    },
    clock: systemClock,
    rand: systemRand,
    failed: never,
  };
  const news: unknown[] = [];
  const options = {
    folder,
    boot: 10,
    strict: false,
    profileOf: () => Promise.resolve(PROFILE),
    recovered: (said: unknown) => news.push(said),
  };
  await recover(options, deps, new AbortController().signal);
  const panes = sent
    .filter(({ stream }) => stream === "MESH_PANE")
    .map(({ id, payload }) => ({ id, pane: fromBinary(PaneSchema, payload) }));
  expect(new Set(sent.map(({ id }) => id)).size).toBe(sent.length);
  expect(panes.map(({ id }) => id).at(-1)).toBe(`pane/5/9/${panes.length}`);
  const rows = panes.flatMap(({ pane }) => pane.cells).reduce((sum, cell) => sum + Number(cell.rows), 0);
  const dropped = panes.reduce((sum, { pane }) => sum + Number(pane.dropped), 0);
  const recorded = sent
    .filter(({ stream }) => stream === "MESH_REC")
    .reduce((sum, { payload }) => sum + fromBinary(RecordBatchSchema, payload).rows, 0);
  expect([recorded, rows, dropped]).toEqual([30, 30, 3]);
  expect(readdirSync(folder)).toEqual([]);
  expect(news).toHaveLength(1);
});
