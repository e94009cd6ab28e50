// Rows into panes: integer counts by event hour (open) or event day (strict), in the profile's bins.
// Pure: time comes as an argument.
// P1 Every numbered row is in exactly one pane's range: as counted, dropped or (strict, at the end) suppressed.
// P2 In strict mode a cell leaves only with at least 100 rows. The newest 100 are held until their day is over, so that what
//    comes last in a day still has company; a day with fewer never leaves and counts as suppressed.
// P3 The watermark is the highest accepted event time of a tenth of a second ago, so that calls that overtook each other on the
//    way do not fall behind it, at any speed of replay; at rest it catches up. A row may still come below it: it counts where it
//    belongs, and readers that have closed that day say that it was late.
import { invariant } from "#kernel/base/assert.ts";
import type { Pane, PaneCell } from "#kernel/domain/pane.ts";
import { categoryBinner, cellsOf, DAY_MS, HOUR_MS, numericBin, type Profile } from "#kernel/domain/profile.ts";
import type { Column } from "../runtime/door.ts";
import type { RowBlock } from "./rows.ts";

const STRICT_ROWS = 100;
const WAITING_CELLS = 64;
const CELL_ARRAYS = 16_384;
const ROWS_MAX = 4_096;
export const SETTLE_MS = 100;

export type FoldOptions = {
  track: number;
  boot: number;
  version: number;
  strict: boolean;
  profile: Pick<Profile, "features" | "score">;
  /** Where an earlier process of this boot had come to. */
  lastPane?: number;
  coveredUpTo?: number;
};
type Cell = { startMs: number; held: PaneCell; fresh: PaneCell };

export class PaneFold {
  readonly #options: FoldOptions;
  readonly #binners: ((column: Column, row: number) => number)[];
  readonly #cells = new Map<number, Cell>();
  readonly #settle = new Settling();
  #number: number;
  #firstRow: number;
  #rows = 0;
  #dropped = 0;
  #suppressed = 0;
  #sentWatermarkMs = 0;

  constructor(options: FoldOptions) {
    this.#options = options;
    this.#number = options.lastPane ?? 0;
    this.#firstRow = (options.coveredUpTo ?? 0) + 1;
    this.#binners = options.profile.features.map((bins) => {
      if (bins.kind === "number")
        return (column, row) =>
          numericBin(bins.edges, column.kind === "number" ? (column.values[row] ?? Number.NaN) : Number.NaN);
      const binOf = categoryBinner(bins.categories);
      return (column, row) => binOf(column.kind === "category" ? (column.values[row] ?? "") : "");
    });
  }

  /** Number of the first row that is in no pane yet and not pending. */
  get nextRow(): number {
    return this.#firstRow + this.#rows;
  }

  /** True when a pane should leave now: enough rows or many cells. */
  get full(): boolean {
    return this.#rows >= ROWS_MAX || this.#cells.size * (this.#binners.length + 1) >= CELL_ARRAYS;
  }

  /** True when there is something a pane would say. */
  pending(nowMs: number): boolean {
    return this.#rows > 0 || this.#settle.at(nowMs) > this.#sentWatermarkMs;
  }

  /** True when the watermark has come into an event day that no pane has told of. */
  dayTurned(nowMs: number): boolean {
    return Math.floor(this.#settle.at(nowMs) / DAY_MS) > Math.floor(this.#sentWatermarkMs / DAY_MS);
  }

  /** Rows that were numbered and never came: up to, not including, `next`. */
  gapUpTo(next: number): number {
    const gap = next - this.nextRow;
    invariant(gap >= 0, "row numbers grow");
    this.#rows += gap;
    this.#dropped += gap;
    return gap;
  }

  add(block: RowBlock, nowMs: number): void {
    invariant(block.first === this.nextRow, "blocks are consecutive");
    const { profile } = this.#options;
    for (let row = 0; row < block.scores.length; row++) {
      const eventMs = block.eventMs[row] ?? 0;
      const cell = this.#cellOf(eventMs).fresh;
      cell.rows += 1;
      for (let f = 0; f < this.#binners.length; f++) {
        const column = block.columns[f];
        const bin = column === undefined ? 0 : (this.#binners[f]?.(column, row) ?? 0);
        count(cell.features[f], bin);
      }
      count(cell.score, numericBin(profile.score.edges, block.scores[row] ?? Number.NaN));
      this.#settle.note(eventMs, nowMs);
    }
    this.#rows += block.scores.length;
  }

  /** The pane of everything pending. `final` settles the watermark at once and lets nothing wait. */
  flush(nowMs: number, final = false): Pane {
    const watermarkMs = Math.max(this.#sentWatermarkMs, final ? this.#settle.highestMs : this.#settle.at(nowMs));
    const { track, boot, strict } = this.#options;
    const cells = strict ? this.#leaving(watermarkMs, final) : [...this.#cells.values()].map(({ fresh }) => fresh);
    if (!strict) this.#cells.clear();
    const pane: Pane = {
      track,
      boot,
      number: ++this.#number,
      firstRow: this.#firstRow,
      rows: this.#rows,
      watermarkMs,
      dropped: this.#dropped,
      suppressed: this.#suppressed,
      cells: cells.sort((a, b) => a.startMs - b.startMs),
    };
    this.#firstRow += this.#rows;
    this.#rows = 0;
    this.#dropped = 0;
    this.#suppressed = 0;
    this.#sentWatermarkMs = watermarkMs;
    return pane;
  }

  #cellOf(eventMs: number): Cell {
    const size = this.#options.strict ? DAY_MS : HOUR_MS;
    const startMs = Math.floor(eventMs / size) * size;
    let cell = this.#cells.get(startMs);
    if (cell === undefined) {
      if (this.#options.strict && this.#cells.size >= WAITING_CELLS) this.#suppressOldest();
      this.#cells.set(startMs, (cell = { startMs, held: this.#empty(startMs), fresh: this.#empty(startMs) }));
    }
    return cell;
  }

  #empty(startMs: number): PaneCell {
    const { profile, version } = this.#options;
    const features = profile.features.map((bins) => new Array<number>(cellsOf(bins)).fill(0));
    return { startMs, version, rows: 0, features, score: new Array<number>(profile.score.edges.length + 2).fill(0) };
  }

  /** P2. */
  #leaving(watermarkMs: number, final: boolean): PaneCell[] {
    const leaving: PaneCell[] = [];
    for (const [startMs, cell] of this.#cells) {
      if (final || startMs + DAY_MS <= watermarkMs) {
        const all = added(cell.held, cell.fresh);
        if (all.rows >= STRICT_ROWS) leaving.push(all);
        else if (final) this.#suppressed += all.rows;
        if (final || all.rows >= STRICT_ROWS) this.#cells.delete(startMs);
      } else if (cell.fresh.rows >= STRICT_ROWS) {
        if (cell.held.rows > 0) leaving.push(cell.held);
        cell.held = cell.fresh;
        cell.fresh = this.#empty(startMs);
      }
    }
    return leaving;
  }

  #suppressOldest(): void {
    const oldest = Math.min(...this.#cells.keys());
    const cell = this.#cells.get(oldest);
    this.#suppressed += (cell?.held.rows ?? 0) + (cell?.fresh.rows ?? 0);
    this.#cells.delete(oldest);
  }
}

/** The highest event time of `SETTLE_MS` ago (P3). */
class Settling {
  highestMs = 0;
  #settledMs = 0;
  readonly #samples: { atMs: number; highestMs: number }[] = [];

  note(eventMs: number, nowMs: number): void {
    if (eventMs <= this.highestMs) return;
    this.highestMs = eventMs;
    const last = this.#samples.at(-1);
    if (last !== undefined && nowMs - last.atMs < 25) last.highestMs = eventMs;
    else this.#samples.push({ atMs: nowMs, highestMs: eventMs });
  }

  at(nowMs: number): number {
    while (this.#samples[0] !== undefined && this.#samples[0].atMs + SETTLE_MS <= nowMs) {
      this.#settledMs = this.#samples.shift()?.highestMs ?? this.#settledMs;
    }
    return this.#settledMs;
  }
}

function added(a: PaneCell, b: PaneCell): PaneCell {
  const sum = (x: readonly number[], y: readonly number[]): number[] => x.map((value, i) => value + (y[i] ?? 0));
  return {
    ...a,
    rows: a.rows + b.rows,
    score: sum(a.score, b.score),
    features: a.features.map((f, i) => sum(f, b.features[i] ?? [])),
  };
}

function count(cells: number[] | undefined, bin: number): void {
  if (cells !== undefined) cells[bin] = (cells[bin] ?? 0) + 1;
}
