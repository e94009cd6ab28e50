// An EventLog in files: what a node keeps for itself (strict records and labels, the write-ahead of a sidecar). One process writes and reads it.
// E1 A publish resolves after its bytes are on disk; all that wait share one flush (group commit).
// E2 A record that was flushed is never changed. A torn tail, which only unflushed records can be, is cut when the log is opened.
// E3 Ids of at least the newest ID_MEMORY messages are remembered, also over a restart.
// E4 Sequences start at 1 and have no holes; `trimBefore` and `maxBytes` drop whole segments from the old end, and readers behind are told.
import { type FileHandle, mkdir, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { invariant, present } from "../../base/assert.ts";
import type { Clock } from "../../base/clock.ts";
import { Cell } from "../../base/queue.ts";
import { MeshError } from "../../fault/error.ts";
import { checkPayload } from "../check.ts";
import { type FolderLock, lockDataFolder } from "../lock.ts";
import type { EventLog, LogEvent, Publication } from "../ports.ts";
import { checkSubject, subjectMatcher } from "../subject.ts";
import { encodeRecord, type StoredRecord } from "./record.ts";
import { listSegments, recover, type Segment, segmentPath, SegmentReader } from "./segments.ts";

export type FileLogOptions = {
  dir: string;
  clock: Clock;
  /** A new file is begun beyond this (8 MiB by default). */
  segmentBytes?: number;
  /** The oldest files are dropped beyond this (nothing is dropped by default). */
  maxBytes?: number;
  /** How many ids are remembered at least (100,000 by default). */
  idMemory?: number;
};

/** A live segment and how many of its bytes are durable. */
type Live = Segment & { bytes: number };
type Waiting = { record: StoredRecord; resolve: () => void; reject: (why: unknown) => void };

/** Opens or makes the log of a folder; DM-6005 when another process has it. */
export async function openFileLog(options: FileLogOptions): Promise<FileEventLog> {
  const lock = await lockDataFolder(options.dir);
  try {
    const createdMs = await incarnation(options.dir, options.clock);
    const segments: Live[] = [];
    for (const segment of await listSegments(options.dir)) {
      segments.push({ ...segment, bytes: (await stat(segment.path)).size });
    }
    const recent: StoredRecord[][] = [];
    const last = segments.at(-1);
    if (last !== undefined) {
      const recovered = await recover(last);
      last.bytes = recovered.bytes;
      recent.push(recovered.records);
    }
    let known = recent[0]?.length ?? 0;
    for (const segment of segments.slice(0, -1).toReversed()) {
      if (known >= (options.idMemory ?? 100_000)) break;
      const records = await allOf(segment);
      recent.unshift(records);
      known += records.length;
    }
    return new FileEventLog(options, lock, createdMs, segments, recent.flat());
  } catch (thrown) {
    await lock[Symbol.asyncDispose]();
    throw thrown;
  }
}

export class FileEventLog implements EventLog {
  readonly #options: FileLogOptions;
  readonly #lock: FolderLock;
  readonly #createdMs: number;
  readonly #segments: Live[];
  readonly #ids = new Map<string, number>();
  readonly #unflushed = new Map<string, Promise<void>>();
  readonly #grown = new Cell(0);
  readonly #closed = new AbortController();
  #file: FileHandle | undefined;
  #waiting: Waiting[] = [];
  #flushing: Promise<void> | undefined;
  /** Sequence of the next record to be accepted, and of the last durable one. */
  #nextSeq: number;
  #durableSeq: number;
  #broken: MeshError | undefined;

  constructor(options: FileLogOptions, lock: FolderLock, createdMs: number, segments: Live[], recent: StoredRecord[]) {
    this.#options = options;
    this.#lock = lock;
    this.#createdMs = createdMs;
    this.#segments = segments;
    this.#durableSeq = recent.at(-1)?.message.seq ?? (segments.at(-1)?.firstSeq ?? 1) - 1;
    this.#nextSeq = this.#durableSeq + 1;
    for (const record of recent) this.#remember(record.id, record.message.seq);
  }

  async publish(publication: Publication, signal?: AbortSignal): Promise<{ seq: number; duplicate: boolean }> {
    signal?.throwIfAborted();
    checkSubject(publication.subject);
    checkPayload(publication.subject, publication.payload);
    if (this.#closed.signal.aborted) throw new MeshError("DM-6001", "the log is closed");
    if (this.#broken !== undefined) throw this.#broken;
    const known = this.#ids.get(publication.id);
    if (known !== undefined) {
      await this.#unflushed.get(publication.id);
      return { seq: known, duplicate: true };
    }
    const seq = this.#nextSeq++;
    this.#remember(publication.id, seq);
    const { subject, payload, headers, id } = publication;
    const message = { seq, subject, payload, headers: headers ?? {}, timeMs: this.#options.clock.wallMs() };
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push({ record: { message, id }, resolve, reject });
    this.#unflushed.set(id, promise);
    this.#flushing ??= this.#flushAll();
    await promise;
    return { seq, duplicate: false };
  }

  async *read(options: { filter: string; fromSeq: number }, signal: AbortSignal): AsyncGenerator<LogEvent> {
    const matches = subjectMatcher(options.filter);
    const end = AbortSignal.any([signal, this.#closed.signal]);
    let next = Math.max(1, options.fromSeq);
    if (next > this.#durableSeq + 1) {
      yield { kind: "resync" };
      next = this.#firstSeq();
    }
    while (!end.aborted) {
      if (next < this.#firstSeq()) {
        yield { kind: "gap", wantedSeq: next, firstSeq: this.#firstSeq() };
        next = this.#firstSeq();
      }
      const { version } = this.#grown.get();
      const segment = this.#segments.findLast((candidate) => candidate.firstSeq <= next);
      await using reader = segment === undefined ? undefined : await SegmentReader.open(segment);
      if (segment === undefined || reader === undefined || next > this.#durableSeq) {
        await this.#grown.changed(version, end);
        continue;
      }
      for await (const record of this.#records(reader, segment, end)) {
        if (record.message.seq < next) continue;
        next = record.message.seq + 1;
        if (matches(record.message.subject)) yield { kind: "message", message: record.message };
      }
    }
  }

  async info(filter = ">"): Promise<{ firstSeq: number; lastSeq: number; createdMs: number }> {
    const found = { firstSeq: this.#firstSeq(), lastSeq: this.#durableSeq, createdMs: this.#createdMs };
    if (filter === ">") return found;
    const matches = subjectMatcher(filter);
    const seqs: number[] = [];
    for (const segment of this.#segments.slice()) {
      for (const { message } of await allOf(segment)) if (matches(message.subject)) seqs.push(message.seq);
    }
    return { ...found, firstSeq: seqs[0] ?? 1, lastSeq: seqs.at(-1) ?? 0 };
  }

  /** Drops whole segments whose every message is below `seq`. */
  async trimBefore(seq: number): Promise<void> {
    for (let second = this.#segments[1]; second !== undefined && second.firstSeq <= seq; second = this.#segments[1]) {
      const oldest = present(this.#segments.shift(), "oldest segment");
      await rm(oldest.path, { force: true });
    }
  }

  /** Finishes what was accepted, then lets go of the folder. Safe twice. */
  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    await this.#flushing;
    await this.#file?.close();
    await this.#lock[Symbol.asyncDispose]();
  }

  /** Records of a segment as they become durable, until a newer segment exists and this one is read out, or the signal aborts. */
  async *#records(reader: SegmentReader, segment: Live, end: AbortSignal): AsyncGenerator<StoredRecord> {
    while (!end.aborted) {
      const { version } = this.#grown.get();
      const limit = segment.bytes;
      const sealed = this.#segments.at(-1) !== segment;
      const record = await reader.next(limit);
      if (record !== undefined) {
        yield record;
      } else {
        if (reader.atEnd(limit) && sealed && limit === segment.bytes) return;
        await this.#grown.changed(version, end);
      }
    }
  }

  #firstSeq(): number {
    return this.#segments[0]?.firstSeq ?? 1;
  }

  #remember(id: string, seq: number): void {
    this.#ids.set(id, seq);
    if (this.#ids.size <= 2 * (this.#options.idMemory ?? 100_000)) return;
    for (const old of this.#ids.keys()) {
      if (this.#ids.size <= (this.#options.idMemory ?? 100_000)) return;
      this.#ids.delete(old);
    }
  }

  /** Takes whatever waits, writes it, flushes once, answers all; again until nothing waits. */
  async #flushAll(): Promise<void> {
    // One turn of the loop lets everybody of this instant into the first flush.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const group = this.#waiting;
      this.#waiting = [];
      try {
        if (this.#broken !== undefined) throw this.#broken;
        await this.#append(group.map((waiting) => waiting.record));
        for (const waiting of group) waiting.resolve();
      } catch (thrown) {
        this.#broken ??= new MeshError(
          "DM-6001",
          `the log in ${this.#options.dir} cannot be written; its last messages may be stored`,
          { cause: thrown },
        );
        for (const waiting of group) waiting.reject(this.#broken);
      }
      for (const { record } of group) this.#unflushed.delete(record.id);
    }
    this.#flushing = undefined;
  }

  async #append(records: StoredRecord[]): Promise<void> {
    const first = present(records[0], "first record of a group");
    const segment = await this.#segmentFor(first.message.seq);
    const file = present(this.#file, "open segment");
    const content = Buffer.concat(records.map(encodeRecord));
    const { bytesWritten } = await file.write(content, 0, content.byteLength, segment.bytes);
    invariant(bytesWritten === content.byteLength, "a group is written whole");
    await file.datasync();
    segment.bytes += content.byteLength;
    this.#durableSeq = records.at(-1)?.message.seq ?? this.#durableSeq;
    this.#grown.set(this.#durableSeq);
    await this.#dropOld();
  }

  async #segmentFor(seq: number): Promise<Live> {
    const last = this.#segments.at(-1);
    if (last !== undefined && last.bytes < (this.#options.segmentBytes ?? 8 * 1024 * 1024)) {
      this.#file ??= await open(last.path, "r+");
      return last;
    }
    await this.#file?.close();
    const segment = { firstSeq: seq, path: segmentPath(this.#options.dir, seq), bytes: 0 };
    this.#file = await open(segment.path, "wx", 0o600);
    await flushFolder(this.#options.dir);
    this.#segments.push(segment);
    return segment;
  }

  async #dropOld(): Promise<void> {
    const most = this.#options.maxBytes ?? Number.POSITIVE_INFINITY;
    let total = this.#segments.reduce((sum, segment) => sum + segment.bytes, 0);
    while (total > most && this.#segments.length > 1) {
      total -= this.#segments[0]?.bytes ?? 0;
      await this.trimBefore(this.#segments[1]?.firstSeq ?? 0);
    }
  }
}

async function allOf(segment: Live): Promise<StoredRecord[]> {
  const records: StoredRecord[] = [];
  await using reader = await SegmentReader.open(segment);
  for (let record = await reader?.next(segment.bytes); record !== undefined; record = await reader?.next(segment.bytes))
    records.push(record);
  reader?.atEnd(segment.bytes);
  return records;
}

/** When the log of this folder was made; written whole before the first segment. */
async function incarnation(dir: string, clock: Clock): Promise<number> {
  const path = join(dir, "log.json");
  const written = await readFile(path, "utf8").catch(() => "");
  if (written !== "") {
    const value: unknown = JSON.parse(written);
    const createdMs = typeof value === "object" && value !== null && "createdMs" in value ? value.createdMs : undefined;
    if (typeof createdMs === "number") return createdMs;
    throw new MeshError("DM-6010", `${path} is damaged`);
  }
  const createdMs = clock.wallMs();
  await mkdir(dir, { recursive: true });
  await writeFile(`${path}.new`, JSON.stringify({ format: 1, createdMs }));
  await rename(`${path}.new`, path);
  await flushFolder(dir);
  return createdMs;
}

async function flushFolder(dir: string): Promise<void> {
  await using folder = await open(dir, "r");
  await folder.sync();
}
