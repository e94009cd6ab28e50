// Consecutive rows with one version, as they cross the ring. Hot path: one buffer per block, arrays copied whole.
// Layout, little endian: u32 rows · u32 columns · f64 first number · u32 other version · u32 0 · f64 event times · f32 scores · f32 other
// scores when there is another version · columns: u32 kind · f32 numbers, or u32 lengths and the texts together, padded to 4 bytes.
import type { Column } from "../runtime/door.ts";

export type RowBlock = {
  /** Number of the first row in this boot. */
  first: number;
  /** Unix ms, a row each. */
  eventMs: Float64Array;
  /** NaN where the call failed. */
  scores: Float32Array;
  /** What the other arm said, NaN where it was not asked. */
  other?: { version: number; scores: Float32Array };
  columns: readonly Column[];
};

const HEAD_BYTES = 24;

export function encodeBlock(block: RowBlock): Uint8Array {
  const rows = block.scores.length;
  const texts = block.columns.map((column) => (column.kind === "category" ? joined(column.values) : undefined));
  const size = block.columns.reduce(
    (sum, _, i) => sum + 4 + rows * 4 + padded(texts[i]?.byteLength ?? 0),
    HEAD_BYTES + rows * 8 + rows * 4 * (block.other === undefined ? 1 : 2),
  );
  const buffer = new ArrayBuffer(size);
  const head = new DataView(buffer);
  head.setUint32(0, rows, true);
  head.setUint32(4, block.columns.length, true);
  head.setFloat64(8, block.first, true);
  head.setUint32(16, block.other?.version ?? 0, true);
  new Float64Array(buffer, HEAD_BYTES, rows).set(block.eventMs);
  let at = HEAD_BYTES + rows * 8;
  const floats = (values: Float32Array): void => {
    new Float32Array(buffer, at, rows).set(values);
    at += rows * 4;
  };
  floats(block.scores);
  if (block.other !== undefined) floats(block.other.scores);
  block.columns.forEach((column, i) => {
    head.setUint32(at, column.kind === "number" ? 0 : 1, true);
    at += 4;
    if (column.kind === "number") return floats(column.values);
    new Uint32Array(buffer, at, rows).set(column.values.map((value) => Buffer.byteLength(value)));
    at += rows * 4;
    const bytes = texts[i];
    if (bytes !== undefined) new Uint8Array(buffer, at, bytes.byteLength).set(bytes);
    at += padded(bytes?.byteLength ?? 0);
  });
  return new Uint8Array(buffer);
}

/** `bytes` must be a buffer of its own: the arrays are views on it. */
export function decodeBlock(bytes: Uint8Array<ArrayBuffer>): RowBlock {
  const { buffer } = bytes;
  const head = new DataView(buffer);
  const rows = head.getUint32(0, true);
  const otherVersion = head.getUint32(16, true);
  const eventMs = new Float64Array(buffer, HEAD_BYTES, rows);
  let at = HEAD_BYTES + rows * 8;
  const floats = (): Float32Array => {
    const values = new Float32Array(buffer, at, rows);
    at += rows * 4;
    return values;
  };
  const scores = floats();
  const other = otherVersion === 0 ? undefined : { version: otherVersion, scores: floats() };
  const columns = Array.from({ length: head.getUint32(4, true) }, (): Column => {
    const kind = head.getUint32(at, true);
    at += 4;
    if (kind === 0) return { kind: "number", values: floats() };
    const lengths = new Uint32Array(buffer, at, rows);
    at += rows * 4;
    const start = at;
    const values = Array.from(lengths, (length) => {
      at += length;
      return Buffer.from(buffer, at - length, length).toString("utf8");
    });
    at = start + padded(at - start);
    return { kind: "category", values };
  });
  const block = { first: head.getFloat64(8, true), eventMs, scores, columns };
  return other === undefined ? block : { ...block, other };
}

/** Some of the rows, as a block of its own. */
export function sliceBlock(block: RowBlock, from: number, to: number): RowBlock {
  const columns = block.columns.map((column): Column =>
    column.kind === "number"
      ? { kind: "number", values: column.values.subarray(from, to) }
      : { kind: "category", values: column.values.slice(from, to) },
  );
  const part = {
    first: block.first + from,
    eventMs: block.eventMs.subarray(from, to),
    scores: block.scores.subarray(from, to),
    columns,
  };
  if (block.other === undefined) return part;
  return { ...part, other: { version: block.other.version, scores: block.other.scores.subarray(from, to) } };
}

const padded = (bytes: number): number => (bytes + 3) & ~3;
const joined = (texts: readonly string[]): Uint8Array => Buffer.from(texts.join(""));
