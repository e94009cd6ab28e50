// Owns the wire forms of records and labels, checked and turned into rows.
// I1 Arrays that do not fit the number of rows make the whole message undefined. I2 What is not finite is NaN: a snapshot keeps it.
import { fromBinary } from "@bufbuild/protobuf";
import { LabelBatchSchema, RecordBatchSchema, type RecordBatch } from "#proto/driftmesh/internal/v1/telemetry_pb.ts";

export type Cellular = number | string;
/** One row and, once it is known, its truth. NaN: no score, no label. */
export type JoinRow = {
  boot: number;
  number: number;
  eventMs: number;
  version: number;
  score: number;
  /** The other arm's version (0: none) and score. */
  other: number;
  otherScore: number;
  /** In the order of the version's features. */
  values: Cellular[];
  label: number;
  /** Labels that contradicted the one before. */
  corrected: number;
};

export type Records = {
  track: number;
  boot: number;
  batch: number;
  version: number;
  watermarkMs: number;
  rows: JoinRow[];
};
export type LabelOfRow = { boot: number; number: number; value: number };

/** The rows of a message of MESH_REC, or undefined when it contradicts itself (I1). */
export function decodeRecords(payload: Uint8Array): Records | undefined {
  const wire = decoded(() => fromBinary(RecordBatchSchema, payload));
  if (wire === undefined || !fits(wire)) return undefined;
  const { track, boot, version, otherVersion } = wire;
  const base = Number(wire.eventBaseMs);
  const first = Number(wire.firstRow);
  const rows = wire.score.map((score, i): JoinRow => {
    const otherScore = finite(wire.otherScore[i]);
    return {
      boot,
      number: first + i,
      eventMs: base + Number(wire.eventDeltaMs[i] ?? 0n),
      version,
      score: finite(score),
      other: Number.isNaN(otherScore) ? 0 : otherVersion,
      otherScore,
      values: wire.columns.map(({ numbers, texts }) => (texts.length > 0 ? (texts[i] ?? "") : finite(numbers[i]))),
      label: Number.NaN,
      corrected: 0,
    };
  });
  return { track, boot, version, batch: Number(wire.batch), watermarkMs: Number(wire.watermarkMs), rows };
}

function fits({ rows, score, eventDeltaMs, otherScore, columns }: RecordBatch): boolean {
  const whole = score.length === rows && eventDeltaMs.length === rows;
  const other = otherScore.length === 0 || otherScore.length === rows;
  return whole && other && columns.every(({ numbers, texts }) => numbers.length + texts.length === rows);
}

/** The labels of a message of MESH_FB, or undefined. */
export function decodeLabels(payload: Uint8Array): { track: number; labels: LabelOfRow[] } | undefined {
  const wire = decoded(() => fromBinary(LabelBatchSchema, payload));
  if (wire === undefined) return undefined;
  return {
    track: wire.track,
    labels: wire.labels.map(({ boot, number, value }) => ({ boot, number: Number(number), value: finite(value) })),
  };
}

/** `-0` and what JSON cannot hold are made plain (I2). */
const finite = (value: number | undefined): number =>
  value !== undefined && Number.isFinite(value) ? value + 0 : Number.NaN;

function decoded<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
