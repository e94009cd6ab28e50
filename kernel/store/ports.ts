// The three ports below every service, and the words their answers use.
// P1 A `stale` answer changed nothing.      P2 Revisions and sequences grow, and mean nothing across epochs.
// P3 A publish with an id that the log still remembers is answered with the first sequence and stored once.
// P4 A read by sequence sees every message of the filter in order; what expired unread is reported as a gap.

/** One key's value at a revision. `revision` is the bucket-wide sequence of its last write. */
export type Entry = { key: string; value: Uint8Array; revision: number };

/** What a write expects of a key: that it does not exist, or that its last write, which may be a delete, has this revision. */
export type Write =
  | { kind: "create"; key: string; value: Uint8Array }
  | { kind: "update"; key: string; value: Uint8Array; revision: number }
  | { kind: "put"; key: string; value: Uint8Array }
  | { kind: "delete"; key: string; revision: number };

export type WriteResult = { kind: "written"; revision: number } | { kind: "stale"; key: string } | { kind: "fenced" };

/** Fence of the leader: the write holds only while `key` is still at `revision`. */
export type Guard = { key: string; revision: number };

export type WatchEvent =
  | { kind: "put"; entry: Entry }
  | { kind: "delete"; key: string; revision: number }
  /** Everything that existed when the watch began has been delivered. */
  | { kind: "synced" }
  /** The store was rolled back or replaced: forget everything; a new snapshot follows, ending in `synced`. */
  | { kind: "resync" };

/** A small, strongly consistent map. Values are at most 64 KiB. Keys are dot-separated tokens `[A-Za-z0-9_-]+`. */
export interface StateStore {
  /** The newest acknowledged value (never a stale replica's). */
  get(key: string, signal?: AbortSignal): Promise<Entry | undefined>;
  /** All entries whose key starts with `prefix`, in key order. Without a prefix they are as they were at one moment between two batches. */
  list(prefix: string, signal?: AbortSignal): Promise<Entry[]>;
  write(write: Write, guard?: Guard): Promise<WriteResult>;
  /**
   * All or nothing, at most 1,000 writes (999 with a guard) of different keys; `guard` is checked in the same transaction and must not be among them.
   * `revision` is that of the last write; the others have the revisions just below it, in order.
   */
  batch(writes: readonly Write[], guard?: Guard): Promise<WriteResult>;
  /** A snapshot of `prefix` (in order of revision), `synced`, then changes; a slow reader may miss revisions of a key, never its newest; survives reconnects, never goes silently stale (W1). */
  watch(prefix: string, signal: AbortSignal): AsyncIterable<WatchEvent>;
  close(): Promise<void>;
}

export type LogMessage = {
  seq: number;
  subject: string;
  payload: Uint8Array;
  headers: Readonly<Record<string, string>>;
  /** When the log stored it, Unix ms. */
  timeMs: number;
};

export type LogEvent =
  | { kind: "message"; message: LogMessage }
  /** Messages before `firstSeq` are gone unread. */
  | { kind: "gap"; wantedSeq: number; firstSeq: number }
  /** The log was rolled back or replaced; reading starts again at its first message. */
  | { kind: "resync" };

export type Publication = {
  subject: string;
  payload: Uint8Array;
  /** Unique for ever; what makes a repeat harmless. */
  id: string;
  headers?: Readonly<Record<string, string>>;
};

/** One durable log of many subjects (a stream). */
export interface EventLog {
  /** Resolves when stored durably; rejects after the deadline, and then the effect is unknown: repeat with the same id. */
  publish(publication: Publication, signal?: AbortSignal): Promise<{ seq: number; duplicate: boolean }>;
  /** Messages from `fromSeq` (inclusive) whose subject matches `filter` (NATS wildcards), for ever. */
  read(options: { filter: string; fromSeq: number }, signal: AbortSignal): AsyncIterable<LogEvent>;
  /** First and last sequence (of the filter when given; `lastSeq` 0 and `firstSeq` 1 when empty) and the log's incarnation. */
  info(filter?: string, signal?: AbortSignal): Promise<{ firstSeq: number; lastSeq: number; createdMs: number }>;
  close(): Promise<void>;
}

/** Immutable content by its lower-case hex SHA-256. */
export interface Blobs {
  /** Stores and returns the hash; the same content twice is stored once. */
  put(content: Uint8Array): Promise<string>;
  /** The content, its hash verified; undefined when absent. */
  get(sha256: string, signal?: AbortSignal): Promise<Uint8Array | undefined>;
  has(sha256: string): Promise<boolean>;
  remove(sha256: string): Promise<void>;
  close(): Promise<void>;
}

/** Leadership by compare-and-set on `lease.<role>` and `term.<role>`; see kernel/store/lease.ts. */
export type Leadership = {
  readonly term: number;
  /** Fence for guarded writes; its revision changes only at takeover. */
  readonly guard: Guard;
  /** False as soon as the lease may have lapsed on this process's monotonic clock. */
  valid(): boolean;
  /** Aborts when leadership is lost. */
  readonly lost: AbortSignal;
  release(): Promise<void>;
};
