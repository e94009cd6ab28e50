// Owns the client's archive: the flights of days 0-27 with features and truths, as the Parquet file the first run trains on.
// Y1 Same flights and story, same bytes. Y2 Nothing is injected before day 28; flights whose truth never came are not in it.
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parquetWriteBuffer, type ColumnSource } from "hyparquet-writer";
import { readFlights, type Flights } from "./dataset.ts";
import { isLate, NO_STORY, pushBacks, toColumns, truthIsLost, type Asked, type Row } from "./features.ts";
import type { Table } from "./table.ts";

/** The first run trains on days 0 to 27; the live replay begins with day 28. */
export const HISTORY_DAYS = 28;

/** Features and truths of the flights asked about, none of them changed by a story. `flights` are all, not thinned. */
export function historyTable(flights: Flights, asked: Asked): Table {
  const rows: Row[] = [];
  const kept: number[] = [];
  for (const { row, features } of pushBacks(flights, asked, NO_STORY)) {
    if (truthIsLost(flights.index[row] ?? 0)) continue;
    rows.push(features);
    kept.push(row);
  }
  return {
    rows: rows.length,
    eventMs: Float64Array.from(kept, (row) => flights.dateMs[row] ?? 0),
    columns: toColumns(rows),
    label: Uint8Array.from(kept, (row) => (isLate(flights, row, NO_STORY) ? 1 : 0)),
  };
}

/** `event_time` (int64, Unix ms), the features by name, `label` (double): what the mesh expects of training data. */
export function toParquet(table: Table): Uint8Array {
  const columnData: ColumnSource[] = [
    { name: "event_time", type: "INT64", nullable: false, data: BigInt64Array.from(table.eventMs, BigInt) },
    ...table.columns.map((column): ColumnSource =>
      column.type === "number"
        ? { name: column.name, type: "DOUBLE", nullable: false, data: Float64Array.from(column.values) }
        : { name: column.name, type: "STRING", nullable: false, data: [...column.values] },
    ),
    { name: "label", type: "DOUBLE", nullable: false, data: Float64Array.from(table.label) },
  ];
  return new Uint8Array(parquetWriteBuffer({ columnData, createdBy: "driftmesh examples/flights" }));
}

/** Writes days 0-27 of the flights asked about to `file` and says how many rows there are. */
export async function writeHistory(file: string, asked: Asked): Promise<number> {
  const table = historyTable(await readFlights({ every: 1, offset: 0, toDay: HISTORY_DAYS }), asked);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, toParquet(table));
  return table.rows;
}

if (import.meta.main) {
  const [every = "10", offset = "0"] = process.argv.slice(2);
  const file = new URL(".cache/history.parquet", import.meta.url).pathname;
  const rows = await writeHistory(file, { every: Number(every), offset: Number(offset) });
  process.stdout.write(`${rows} flights of days 0-27 in ${file}\n`);
}
