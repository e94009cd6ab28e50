// Owns the labelled rows of an event day as a Parquet file: event_time (int64 Unix ms), the features by name, label (double).
// G1 The same rows give the same bytes, whatever the order they came in. G2 Rows that do not fit the features are left out and counted.
import { parquetWriteBuffer, type ColumnSource } from "hyparquet-writer";
import type { FeatureBins } from "#kernel/domain/profile.ts";
import type { JoinRow } from "./intake.ts";

/** The file's bytes and what is in it. */
export function writeSegment(
  rows: readonly JoinRow[],
  features: readonly FeatureBins[],
): { content: Uint8Array; rows: number; unfit: number } {
  const fit = rows
    .filter(({ values }) => values.length === features.length)
    .sort((a, b) => a.eventMs - b.eventMs || a.boot - b.boot || a.number - b.number);
  const columnData: ColumnSource[] = [
    {
      name: "event_time",
      data: BigInt64Array.from(fit, ({ eventMs }) => BigInt(eventMs)),
      type: "INT64",
      nullable: false,
    },
    ...features.map((feature, f): ColumnSource => columnOf(feature, fit, f)),
    { name: "label", data: Float64Array.from(fit, ({ label }) => label), type: "DOUBLE", nullable: false },
  ];
  const content = new Uint8Array(parquetWriteBuffer({ columnData, createdBy: "driftmesh" }));
  return { content, rows: fit.length, unfit: rows.length - fit.length };
}

function columnOf({ name, kind }: FeatureBins, rows: readonly JoinRow[], f: number): ColumnSource {
  if (kind === "number") {
    const number = (value: unknown): number => (typeof value === "number" ? value : Number.NaN);
    return { name, data: Float64Array.from(rows, ({ values }) => number(values[f])), type: "DOUBLE", nullable: false };
  }
  const text = (value: unknown): string => (typeof value === "string" ? value : "");
  return { name, data: rows.map(({ values }) => text(values[f])), type: "STRING", nullable: false };
}
