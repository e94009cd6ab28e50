// Panes and record batches as messages: subject, id, bytes.
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { sparseCounts } from "#kernel/domain/counts.ts";
import type { Pane } from "#kernel/domain/pane.ts";
import { SUBJECTS } from "#kernel/domain/state.ts";
import { PaneSchema, RecordBatchSchema } from "#proto/driftmesh/internal/v1/telemetry_pb.ts";
import type { Column } from "../runtime/door.ts";
import type { RowBlock } from "./rows.ts";

/** One message for a stream. `lastRow` is the highest row that is safe once it is stored. */
export type Outgoing = {
  stream: "MESH_REC" | "MESH_PANE";
  subject: string;
  id: string;
  payload: Uint8Array;
  number: number;
  lastRow: number;
};

export function paneMessage(pane: Pane): Outgoing {
  const message = create(PaneSchema, {
    track: pane.track,
    boot: pane.boot,
    number: BigInt(pane.number),
    firstRow: BigInt(pane.firstRow),
    rows: BigInt(pane.rows),
    dropped: BigInt(pane.dropped),
    suppressed: BigInt(pane.suppressed),
    watermarkMs: BigInt(Math.floor(pane.watermarkMs)),
    cells: pane.cells.map((cell) => ({
      startMs: BigInt(cell.startMs),
      version: cell.version,
      rows: BigInt(cell.rows),
      features: cell.features.map(sparseCounts),
      score: sparseCounts(cell.score),
    })),
  });
  const { track, boot, number } = pane;
  return {
    stream: "MESH_PANE",
    subject: SUBJECTS.pane(track, boot),
    id: `pane/${track}/${boot}/${number}`,
    payload: toBinary(PaneSchema, message),
    number,
    lastRow: pane.firstRow + pane.rows - 1,
  };
}

export type RecordHead = {
  track: number;
  boot: number;
  batch: number;
  version: number;
  droppedTotal: number;
  numberedTotal: number;
  watermarkMs: number;
};

export function recordMessage(head: RecordHead, rows: RowBlock): Outgoing {
  const count = rows.scores.length;
  const base = Math.floor(rows.eventMs[0] ?? 0);
  const message = create(RecordBatchSchema, {
    track: head.track,
    boot: head.boot,
    version: head.version,
    rows: count,
    batch: BigInt(head.batch),
    firstRow: BigInt(rows.first),
    droppedTotal: BigInt(head.droppedTotal),
    numberedTotal: BigInt(head.numberedTotal),
    watermarkMs: BigInt(Math.floor(head.watermarkMs)),
    eventBaseMs: BigInt(base),
    eventDeltaMs: Array.from(rows.eventMs, (ms) => BigInt(Math.floor(ms) - base)),
    score: Array.from(rows.scores),
    otherVersion: rows.other?.version ?? 0,
    otherScore: rows.other === undefined ? [] : Array.from(rows.other.scores),
    columns: rows.columns.map((column) =>
      column.kind === "number" ? { numbers: Array.from(column.values) } : { texts: [...column.values] },
    ),
  });
  const { track, boot, batch } = head;
  return {
    stream: "MESH_REC",
    subject: SUBJECTS.records(track, boot),
    id: `rec/${track}/${boot}/${batch}`,
    payload: toBinary(RecordBatchSchema, message),
    number: batch,
    lastRow: rows.first + count - 1,
  };
}

/** Rows of a stored batch, and what its head said; for panes that a dead process did not come to. */
export function readRecord(
  payload: Uint8Array,
  kinds: readonly ("number" | "category")[],
): { rows: RowBlock; head: RecordHead } {
  const message = fromBinary(RecordBatchSchema, payload);
  const columns = message.columns.map((column, i): Column =>
    kinds[i] === "category"
      ? { kind: "category", values: column.texts }
      : { kind: "number", values: Float32Array.from(column.numbers) },
  );
  const base = Number(message.eventBaseMs);
  const rows = {
    first: Number(message.firstRow),
    eventMs: Float64Array.from(message.eventDeltaMs, (delta) => base + Number(delta)),
    scores: Float32Array.from(message.score),
    columns,
  };
  const head = {
    track: message.track,
    boot: message.boot,
    version: message.version,
    batch: Number(message.batch),
    droppedTotal: Number(message.droppedTotal),
    numberedTotal: Number(message.numberedTotal),
    watermarkMs: Number(message.watermarkMs),
  };
  return { rows, head };
}
