// Owns the training table: what its columns are, and reading it from the files of a data manifest.
// T1 Numbers are FP32, as the model will be sent them: a split learned on more digits would answer differently when served.
// T2 What cannot be learned from is refused with file, column and row: NaN, infinity, a missing value, a label other than 0 and 1.
// T3 Rows are in order of event time (stable), whatever the order of the files; rows of excluded blocks are left out.
import { readFile } from "node:fs/promises";
import { zstdDecompressSync } from "node:zlib";
import { parquetScan } from "hyparquet";

export type Column =
  | { name: string; type: "number"; values: Float32Array }
  | { name: string; type: "category"; values: readonly string[] };

/** Columns of equal length; `label` holds 0 and 1. */
export type Table = { rows: number; eventMs: Float64Array; columns: readonly Column[]; label: Uint8Array };

/** What is read of the manifest the mesh hands over (path in DRIFTMESH_DATA_MANIFEST). */
export type Manifest = {
  features: readonly { name: string; type: "number" | "category" }[];
  files: readonly { path: string }[];
  /** [fromMs, toMs) */
  excluded: readonly { fromMs: number; toMs: number }[];
  /** Event time (Unix ms) at which the change began that caused the run; 0 when there was none. */
  changeMs: number;
};

/** Reads and checks the manifest itself. */
export async function readManifest(path: string): Promise<Manifest> {
  const manifest = JSON.parse(await readFile(path, "utf8")) as Partial<Manifest> & { format?: unknown };
  if (manifest.format !== 1) throw new Error(`${path}: format must be 1, not ${JSON.stringify(manifest.format)}`);
  const { features = [], files = [], excluded = [], changeMs = 0 } = manifest;
  if (features.length === 0) throw new Error(`${path}: no features`);
  if (files.length === 0) throw new Error(`${path}: no files`);
  const pathless = files.findIndex((file) => typeof file.path !== "string");
  if (pathless !== -1) throw new Error(`${path}: file ${pathless} has no path`);
  return { features, files, excluded, changeMs };
}

/** All rows of the manifest's files that are not excluded (T1-T3). */
export async function readTable(manifest: Manifest): Promise<Table> {
  const parts = [];
  for (const { path } of manifest.files) parts.push(await readPart(path, manifest.features));
  const whole = joined(parts);
  const kept = [...whole.eventMs.keys()].filter((row) => {
    const at = whole.eventMs[row] ?? 0;
    return !manifest.excluded.some(({ fromMs, toMs }) => at >= fromMs && at < toMs);
  });
  kept.sort((a, b) => (whole.eventMs[a] ?? 0) - (whole.eventMs[b] ?? 0) || a - b);
  return taken(whole, kept);
}

/** The rows named by `rows`, in that order. */
export function taken(table: Table, rows: readonly number[] | Uint32Array): Table {
  return {
    rows: rows.length,
    eventMs: Float64Array.from(rows, (row) => table.eventMs[row] ?? 0),
    columns: table.columns.map((column) =>
      column.type === "number"
        ? { ...column, values: Float32Array.from(rows, (row) => column.values[row] ?? 0) }
        : { ...column, values: Array.from(rows, (row) => column.values[row] ?? "") },
    ),
    label: Uint8Array.from(rows, (row) => table.label[row] ?? 0),
  };
}

/** Tables with the same columns, one after the other. */
export function joined(parts: readonly Table[]): Table {
  const [first, ...others] = parts;
  if (first === undefined || others.length === 0)
    return first ?? { rows: 0, eventMs: new Float64Array(), columns: [], label: new Uint8Array() };
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const whole: Table = {
    rows,
    eventMs: new Float64Array(rows),
    label: new Uint8Array(rows),
    columns: first.columns.map((column, at) =>
      column.type === "number"
        ? { ...column, values: new Float32Array(rows) }
        : { ...column, values: parts.flatMap((part) => textsOf(part.columns[at])) },
    ),
  };
  let start = 0;
  for (const part of parts) {
    whole.eventMs.set(part.eventMs, start);
    whole.label.set(part.label, start);
    whole.columns.forEach((column, at) => {
      const source = part.columns[at];
      if (column.type === "number" && source?.type === "number") column.values.set(source.values, start);
    });
    start += part.rows;
  }
  return whole;
}

const textsOf = (column: Column | undefined): readonly string[] => (column?.type === "category" ? column.values : []);

async function readPart(path: string, features: Manifest["features"]): Promise<Table> {
  const bytes = await readFile(path);
  // A Buffer need not begin at its ArrayBuffer's first byte.
  const whole = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const scan = await parquetScan({
    file: { byteLength: whole.byteLength, slice: (start, end) => whole.slice(start, end) },
    compressors: { ZSTD: (packed) => zstdDecompressSync(packed) },
    parsers: {
      timestampFromMilliseconds: Number,
      timestampFromMicroseconds: (micros: bigint) => Number(micros / 1000n),
    },
  });
  const present = new Set(scan.metadata.schema.slice(1).map((element) => element.name));
  const read = async (column: string): Promise<unknown[]> => {
    if (!present.has(column))
      throw new Error(`${path}: column ${column} is missing; there are ${[...present].join(", ")}`);
    const values: unknown[] = [];
    for (const { rowStart, rowEnd } of scan.ranges) {
      for (const value of await scan.readColumn({ column, rowStart, rowEnd })) values.push(value);
    }
    return values;
  };
  const where = (column: string) => (row: number) => `${path}: column ${column}, row ${row}`;
  const eventMs = Float64Array.from(await read("event_time"), finite(where("event_time")));
  const columns: Column[] = [];
  for (const { name, type } of features) {
    const values = await read(name);
    columns.push(
      type === "number"
        ? { name, type, values: Float32Array.from(values, finite(where(name))) }
        : { name, type, values: values.map(text(where(name))) },
    );
  }
  return {
    rows: eventMs.length,
    eventMs,
    columns,
    label: Uint8Array.from(await read("label"), zeroOrOne(where("label"))),
  };
}

type Where = (row: number) => string;

const finite =
  (where: Where) =>
  (value: unknown, row: number): number => {
    const number = typeof value === "bigint" || typeof value === "boolean" ? Number(value) : value;
    if (typeof number === "number" && Number.isFinite(Math.fround(number))) return number;
    throw new Error(`${where(row)}: expected a finite number, found ${String(value)}`);
  };
const text =
  (where: Where) =>
  (value: unknown, row: number): string => {
    if (typeof value === "string") return value;
    throw new Error(`${where(row)}: expected text, found ${String(value)}`);
  };
const zeroOrOne =
  (where: Where) =>
  (value: unknown, row: number): number => {
    const number = Number(value);
    if (value !== null && (number === 0 || number === 1)) return number;
    throw new Error(`${where(row)}: expected 0 or 1, found ${String(value)}`);
  };
