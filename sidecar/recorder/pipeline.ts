// Blocks of rows to messages: record batches and panes, in the order in which they must become safe.
// Pure: time comes as an argument, messages leave through `append`.
// L1 The records of a pane's rows are appended before the pane. L2 Numbers are dense: what is missing between two blocks was dropped, and is counted.
// L3 Under traffic a pane leaves each second; with 4,096 rows, a new event day, or a tenth of a second of rest, at once.
import type { Profile } from "#kernel/domain/profile.ts";
import { BATCH_MS, RecordBatcher } from "./batch.ts";
import { PaneFold, SETTLE_MS } from "./fold.ts";
import type { RowBlock } from "./rows.ts";
import { paneMessage, recordMessage, type Outgoing } from "./wire.ts";

export type Identity = { track: number; boot: number; version: number; strict: boolean };
export type PipelineStats = { rows: number; dropped: number; batches: number; panes: number };

const PANE_MS = 1_000;
const REST_MS = SETTLE_MS + 10;

export class Pipeline {
  readonly stats: PipelineStats = { rows: 0, dropped: 0, batches: 0, panes: 0 };
  readonly #identity: Identity;
  readonly #append: (message: Outgoing) => boolean;
  readonly #fold: PaneFold;
  readonly #batcher: RecordBatcher;
  #highestMs = 0;
  #numbered = 0;
  #lostRecords = 0;
  #blockMs = 0;
  #paneMs = 0;

  /** `append` says false when there is no room for a batch: its rows are then counted as dropped. */
  constructor(
    identity: Identity,
    profile: Pick<Profile, "features" | "score">,
    append: (message: Outgoing) => boolean,
  ) {
    this.#identity = identity;
    this.#append = append;
    this.#fold = new PaneFold({ ...identity, profile });
    this.#batcher = new RecordBatcher((rows) => this.#record(rows));
  }

  take(block: RowBlock, nowMs: number): void {
    this.#blockMs = nowMs;
    this.#gap(block.first);
    this.#numbered = block.first + block.scores.length - 1;
    this.stats.rows += block.scores.length;
    this.#batcher.add(block, nowMs);
    this.#fold.add(block, nowMs);
    this.tick(nowMs);
  }

  /** Lets everything leave that is due. */
  tick(nowMs: number): void {
    if ((this.#batcher.dueMs ?? Infinity) <= nowMs) this.#batcher.flush();
    const due = nowMs - this.#paneMs >= PANE_MS || nowMs - this.#blockMs >= REST_MS;
    if (this.#fold.full || this.#fold.dayTurned(nowMs) || (due && this.#fold.pending(nowMs))) this.#pane(nowMs, false);
  }

  /** Milliseconds until `tick` may have something to do. */
  idleMs(nowMs: number): number {
    if (this.#batcher.dueMs === undefined && !this.#fold.pending(nowMs + SETTLE_MS)) return PANE_MS;
    return Math.max(1, Math.min(BATCH_MS, this.#blockMs + REST_MS - nowMs));
  }

  /** Counts the tail up to the last number given, and lets everything go. */
  finish(lastNumber: number, nowMs: number): void {
    this.#gap(lastNumber + 1);
    this.#numbered = Math.max(this.#numbered, lastNumber);
    if (this.#numbered > 0) this.#pane(nowMs, true);
  }

  #gap(next: number): void {
    const gap = this.#fold.gapUpTo(next);
    if (gap === 0) return;
    this.#batcher.flush();
    this.stats.dropped += gap;
  }

  #pane(nowMs: number, final: boolean): void {
    this.#batcher.flush();
    this.#paneMs = nowMs;
    this.stats.panes += 1;
    this.#append(paneMessage(this.#fold.flush(nowMs, final)));
  }

  #record(rows: RowBlock): void {
    for (const ms of rows.eventMs) this.#highestMs = Math.max(this.#highestMs, ms);
    const message = recordMessage(
      {
        ...this.#identity,
        batch: this.stats.batches + 1,
        droppedTotal: this.stats.dropped + this.#lostRecords,
        numberedTotal: this.#numbered,
        watermarkMs: this.#highestMs,
      },
      rows,
    );
    // A refused batch uses up no number: its rows stay in the pane and are missing among the records.
    if (this.#append(message)) this.stats.batches += 1;
    else this.#lostRecords += rows.scores.length;
  }
}
