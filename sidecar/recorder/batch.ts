// Consecutive rows into record batches. Pure: time comes as an argument.
// B1 A batch holds consecutive rows with one other version: a gap or another arm ends it.
// B2 It leaves with 1,024 rows, about 64 KiB, or 100 ms after its first row.
import type { Column } from "../runtime/door.ts";
import type { RowBlock } from "./rows.ts";
import { sliceBlock } from "./rows.ts";

const BATCH_ROWS = 1_024;
const BATCH_BYTES = 64 * 1024;
export const BATCH_MS = 100;

export class RecordBatcher {
  readonly #emit: (rows: RowBlock) => void;
  #blocks: RowBlock[] = [];
  #rows = 0;
  #bytes = 0;
  #sinceMs = 0;

  constructor(emit: (rows: RowBlock) => void) {
    this.#emit = emit;
  }

  /** When the batch must leave; undefined while it is empty. */
  get dueMs(): number | undefined {
    return this.#rows === 0 ? undefined : this.#sinceMs + BATCH_MS;
  }

  add(block: RowBlock, nowMs: number): void {
    const last = this.#blocks.at(-1);
    if (last !== undefined) {
      const consecutive = last.first + last.scores.length === block.first;
      if (!consecutive || last.other?.version !== block.other?.version) this.flush();
    }
    const perRow = Math.max(1, weight(block) / Math.max(1, block.scores.length));
    for (let from = 0; from < block.scores.length;) {
      const byBytes = Math.max(1, Math.floor((BATCH_BYTES - this.#bytes) / perRow));
      const take = Math.min(block.scores.length - from, BATCH_ROWS - this.#rows, byBytes);
      if (this.#rows === 0) this.#sinceMs = nowMs;
      this.#blocks.push(from === 0 && take === block.scores.length ? block : sliceBlock(block, from, from + take));
      this.#rows += take;
      this.#bytes += take * perRow;
      from += take;
      if (this.#rows >= BATCH_ROWS || this.#bytes >= BATCH_BYTES) this.flush();
    }
  }

  flush(): void {
    if (this.#rows === 0) return;
    const blocks = this.#blocks;
    this.#blocks = [];
    this.#rows = 0;
    this.#bytes = 0;
    this.#emit(merged(blocks));
  }
}

function weight(block: RowBlock): number {
  const rows = block.scores.length;
  return block.columns.reduce(
    (sum, column) => sum + (column.kind === "number" ? rows * 4 : textBytes(column.values)),
    rows * 16,
  );
}

const textBytes = (texts: readonly string[]): number => texts.reduce((sum, text) => sum + text.length + 2, 0);

function merged(blocks: readonly RowBlock[]): RowBlock {
  const first = blocks[0];
  if (first === undefined || blocks.length === 1)
    return first ?? { first: 0, eventMs: new Float64Array(), scores: new Float32Array(), columns: [] };
  const columns = first.columns.map((column, i): Column => {
    if (column.kind === "category") {
      return {
        kind: "category",
        values: blocks.flatMap((block) => (block.columns[i]?.values as string[] | undefined) ?? []),
      };
    }
    return {
      kind: "number",
      values: floats(
        blocks.map((block) => (block.columns[i]?.values as Float32Array | undefined) ?? new Float32Array()),
      ),
    };
  });
  const rows = blocks.reduce((sum, block) => sum + block.scores.length, 0);
  const eventMs = new Float64Array(rows);
  blocks.reduce((at, block) => (eventMs.set(block.eventMs, at), at + block.eventMs.length), 0);
  const one = { first: first.first, eventMs, scores: floats(blocks.map(({ scores }) => scores)), columns };
  if (first.other === undefined) return one;
  const other = floats(
    blocks.map((block) => block.other?.scores ?? new Float32Array(block.scores.length).fill(Number.NaN)),
  );
  return { ...one, other: { version: first.other.version, scores: other } };
}

function floats(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (all.set(part, at), at + part.length), 0);
  return all;
}
