// The rows a version learned on, read from the files of its data manifest: Parquet with event_time, the features by name, and label.
// D1 Rows of excluded blocks are left out: they must not become reference. D2 Numbers are rounded to 32 bits, as records are (R3).
import { open } from "node:fs/promises";
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";
import { parquetScan, type AsyncBuffer } from "hyparquet";
import type { ProfileColumn } from "#kernel/domain/profile-build.ts";
import type { DataManifest } from "#kernel/domain/state.ts";
import { MeshError, messageOf } from "#kernel/fault/error.ts";

export type Rows = { columns: ProfileColumn[]; labels: Float64Array; eventMs: Float64Array };
type Feature = { name: string; type: "number" | "category" };

const COMPRESSORS = {
  ZSTD: (bytes: Uint8Array) => zstdDecompressSync(bytes),
  GZIP: (bytes: Uint8Array) => gunzipSync(bytes),
  BROTLI: (bytes: Uint8Array) => brotliDecompressSync(bytes),
};

/** All rows of the manifest, in the order of its files; DM-1004 naming the column that is missing or of another type. */
export async function readRows(manifest: DataManifest, features: readonly Feature[]): Promise<Rows> {
  const collected = {
    columns: features.map(() => [] as (number | string)[]),
    labels: [] as number[],
    eventMs: [] as number[],
  };
  for (const file of manifest.files) {
    if (file.path === undefined) throw new MeshError("DM-1004", `data file ${file.sha256} has no path in the manifest`);
    try {
      await readFile(file.path, { manifest, features, collected });
    } catch (error) {
      if (error instanceof MeshError) throw error;
      throw new MeshError("DM-1004", `data file ${file.sha256} is not Parquet that can be read: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }
  const columns = features.map(({ name, type }, i): ProfileColumn => {
    const values = collected.columns[i] ?? [];
    return type === "number"
      ? { name, kind: "number", values: Float32Array.from(values as number[]) }
      : { name, kind: "category", values: values as string[] };
  });
  return { columns, labels: Float64Array.from(collected.labels), eventMs: Float64Array.from(collected.eventMs) };
}

type Collected = { columns: (number | string)[][]; labels: number[]; eventMs: number[] };

async function readFile(
  path: string,
  { manifest, features, collected }: { manifest: DataManifest; features: readonly Feature[]; collected: Collected },
): Promise<void> {
  await using file = await localFile(path);
  const scan = await parquetScan({ file, compressors: COMPRESSORS });
  const there = new Set(scan.metadata.schema.map(({ name }) => name));
  const missing = ["event_time", ...features.map(({ name }) => name), "label"].filter((name) => !there.has(name));
  if (missing.length > 0)
    throw new MeshError("DM-1004", `the data have no column ${missing.map((name) => `"${name}"`).join(", ")}`);
  for (const { rowStart, rowEnd } of scan.ranges) {
    const read = (column: string): Promise<ArrayLike<unknown>> => scan.readColumn({ column, rowStart, rowEnd });
    const [times, labels] = [await read("event_time"), await read("label")];
    const columns: ArrayLike<unknown>[] = [];
    for (const { name } of features) columns.push(await read(name));
    for (let row = 0; row < times.length; row++) {
      const ms = timeOf(times[row]);
      if (manifest.excluded.some(({ fromMs, toMs }) => ms >= fromMs && ms < toMs)) continue;
      collected.eventMs.push(ms);
      collected.labels.push(numberOf(labels[row]));
      features.forEach(({ type }, i) => {
        const value = columns[i]?.[row];
        collected.columns[i]?.push(type === "number" ? numberOf(value) : textOf(value));
      });
    }
  }
}

function timeOf(value: unknown): number {
  const ms = value instanceof Date ? value.getTime() : Number(value ?? Number.NaN);
  if (Number.isFinite(ms)) return ms;
  throw new MeshError("DM-1004", 'column "event_time" has a value that is not Unix ms');
}

const numberOf = (value: unknown): number =>
  value === null || value === undefined || value === "" ? Number.NaN : Number(value);

function textOf(value: unknown): string {
  if (typeof value === "string") return value.slice(0, 256);
  return typeof value === "number" || typeof value === "bigint" || typeof value === "boolean" ? String(value) : "";
}

/** Read by ranges: a file may be larger than memory. */
async function localFile(path: string): Promise<AsyncBuffer & AsyncDisposable> {
  const file = await open(path, "r");
  const { size } = await file.stat();
  return {
    byteLength: size,
    async slice(start, end = size) {
      const from = start < 0 ? size + start : start;
      const bytes = new ArrayBuffer(Math.max(0, Math.min(end, size) - from));
      await file.read(new Uint8Array(bytes), 0, bytes.byteLength, from);
      return bytes;
    },
    [Symbol.asyncDispose]: () => file.close(),
  };
}
