// Rows, records, facts and bins for the tests of drift.
import { create, toBinary } from "@bufbuild/protobuf";
import { probabilityEdges, HOUR_MS } from "#kernel/domain/profile.ts";
import type { Profile } from "#kernel/domain/profile.ts";
import type { TrackFact } from "#kernel/domain/state.ts";
import { LabelBatchSchema, RecordBatchSchema } from "#proto/driftmesh/internal/v1/telemetry_pb.ts";
import type { JoinRow, LabelOfRow, Records } from "../intake.ts";

export const START_MS = 978_307_200_000;

export const profile: Profile = {
  format: 1,
  kind: "trained",
  labelShift: 0,
  labelScale: 1,
  blocks: [],
  features: [
    {
      name: "hour",
      kind: "number",
      edges: [6, 12, 18],
    },
    {
      name: "origin",
      kind: "category",
      categories: ["A", "B"],
    },
  ],
  score: {
    kind: "probability",
    edges: probabilityEdges(),
  },
};

export function fact(track: number, more: Partial<TrackFact> = {}): TrackFact {
  return {
    kind: "track",
    track,
    revision: 1,
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
    ...more,
  };
}

export function row(boot: number, number: number, hours: number, more: Partial<JoinRow> = {}): JoinRow {
  const eventMs = START_MS + Math.round(hours * HOUR_MS);
  return {
    boot,
    number,
    eventMs,
    version: 1,
    score: 0.25,
    other: 0,
    otherScore: Number.NaN,
    values: [hours % 24, number % 2 === 0 ? "A" : "B"],
    label: Number.NaN,
    corrected: 0,
    ...more,
  };
}

/** A message of one boot: its watermark is given in hours since the start. */
export function records(
  track: number,
  batch: number,
  watermarkHours: number,
  rows: JoinRow[],
  boot = rows[0]?.boot ?? 1,
): Records {
  const watermarkMs = START_MS + Math.round(watermarkHours * HOUR_MS);
  return { track, boot, batch, version: rows[0]?.version ?? 1, watermarkMs, rows };
}

export function recordBytes({ track, boot, batch, version, watermarkMs, rows }: Records): Uint8Array {
  const message = create(RecordBatchSchema, {
    track,
    boot,
    version,
    rows: rows.length,
    batch: BigInt(batch),
    firstRow: BigInt(rows[0]?.number ?? 0),
    watermarkMs: BigInt(watermarkMs),
    eventBaseMs: BigInt(START_MS),
    eventDeltaMs: rows.map(({ eventMs }) => BigInt(eventMs - START_MS)),
    score: rows.map(({ score }) => score),
    otherVersion: rows.find(({ other }) => other !== 0)?.other ?? 0,
    otherScore: rows.some(({ other }) => other !== 0) ? rows.map(({ otherScore }) => otherScore) : [],
    columns: (rows[0]?.values ?? []).map((value, i) =>
      typeof value === "number"
        ? { numbers: rows.map(({ values }) => Number(values[i])) }
        : { texts: rows.map(({ values }) => String(values[i])) },
    ),
  });
  return toBinary(RecordBatchSchema, message);
}

export function labelBytes(track: number, labels: readonly LabelOfRow[]): Uint8Array {
  const rows = labels.map(({ boot, number, value }) => ({ boot, number: BigInt(number), value }));
  return toBinary(LabelBatchSchema, create(LabelBatchSchema, { track, labels: rows }));
}
