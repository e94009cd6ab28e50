// The write-ahead file: every message is on disk before it is sent, and stays until it is stored elsewhere.
// S1 A segment goes when all its messages are acknowledged and a written pane covers the rows of its records.
// S2 Each segment begins with a head that says how far panes had come, so that what is left of a dead process can be finished.
// S3 Bounded: beyond the cap records are refused (their rows count as dropped), panes never. A disk that refuses to be
//    written to costs the safety of a crash, not the message: it stays in memory, bounded too.
// File: entries of u32 length · u32 CRC-32 · body. Body: u8 kind · f64 number · f64 last row · u16 id length · id · payload.
import { closeSync, mkdirSync, openSync, readdirSync, readSync, readFileSync, unlinkSync, writeSync } from "node:fs";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { SUBJECTS } from "#kernel/domain/state.ts";
import type { Outgoing } from "./wire.ts";

export type SpoolHead = {
  track: number;
  boot: number;
  version: number;
  profileSha256: string;
  lastPane: number;
  coveredUpTo: number;
};
/** A message to send; its bytes are in memory or to be read from its segment. */
export type Entry = Omit<Outgoing, "payload"> & { bytes: number; payload(): Uint8Array };

type Segment = { path: string; fd: number; size: number; unacked: number; lastRow: number };
type Kind = 0 | 1 | 2;
const KIND = { MESH_REC: 0, MESH_PANE: 1, head: 2 } as const;

const SEGMENT_BYTES = 4 << 20;
const MEMORY_BYTES = 8 << 20;
const DISK_BYTES = 256 << 20;
const HEAD_BYTES = 8;
const BODY_BYTES = 19;

export type SpoolOptions = {
  folder: string;
  head: Omit<SpoolHead, "lastPane" | "coveredUpTo">;
  failed: (error: unknown) => void;
};

export class Spool {
  readonly #options: SpoolOptions;
  readonly #segments: Segment[] = [];
  readonly #waiting: { entry: Entry; segment: Segment | undefined }[] = [];
  readonly #sending = new Map<Entry, Segment | undefined>();
  #covered = { lastPane: 0, coveredUpTo: 0 };
  #memory = 0;
  #disk = 0;
  #segmentNumber = 0;

  constructor(options: SpoolOptions) {
    this.#options = options;
    mkdirSync(options.folder, { recursive: true, mode: 0o700 });
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get empty(): boolean {
    return this.#waiting.length === 0 && this.#sending.size === 0;
  }

  /** False when a record was refused (S3). */
  append(message: Outgoing): boolean {
    const { stream, number, lastRow, id } = message;
    const full = this.#disk >= DISK_BYTES || this.#memory >= 2 * MEMORY_BYTES;
    if (full && stream === "MESH_REC") return false;
    const bytes = encode(KIND[stream], { number, lastRow, id }, message.payload);
    const segment = this.#segmentFor(bytes.byteLength);
    const at = segment === undefined ? undefined : this.#write(segment, bytes);
    if (stream === "MESH_PANE")
      this.#covered = { lastPane: number, coveredUpTo: Math.max(lastRow, this.#covered.coveredUpTo) };
    this.#waiting.push({ entry: this.#entry(message, segment, at), segment: at === undefined ? undefined : segment });
    if (segment !== undefined && at !== undefined) {
      segment.unacked += 1;
      if (stream === "MESH_REC") segment.lastRow = Math.max(segment.lastRow, lastRow);
    }
    return true;
  }

  /** The next message to send; `acknowledge` it or `putBack` it. */
  next(): Entry | undefined {
    const next = this.#waiting.shift();
    if (next === undefined) return undefined;
    this.#sending.set(next.entry, next.segment);
    return next.entry;
  }

  acknowledge(entry: Entry): void {
    const segment = this.#sending.get(entry);
    this.#sending.delete(entry);
    this.#memory -= entry.bytes;
    if (segment !== undefined) segment.unacked -= 1;
    this.#trim(false);
  }

  /** Removes what is safe; what is not stays for the next start. */
  close(): void {
    this.#trim(this.empty);
    for (const { fd } of this.#segments) closeSync(fd);
  }

  #entry(message: Outgoing, segment: Segment | undefined, at: number | undefined): Entry {
    const { payload, ...rest } = message;
    if (segment === undefined || at === undefined || this.#memory + payload.byteLength <= MEMORY_BYTES) {
      this.#memory += payload.byteLength;
      return { ...rest, bytes: payload.byteLength, payload: () => payload };
    }
    const { path } = segment;
    return { ...rest, bytes: 0, payload: () => readPayload(path, at) };
  }

  #segmentFor(bytes: number): Segment | undefined {
    const last = this.#segments.at(-1);
    if (last !== undefined && last.size + bytes <= SEGMENT_BYTES) return last;
    try {
      const { head, folder } = this.#options;
      const name = `${head.boot}-${String(++this.#segmentNumber).padStart(8, "0")}.wal`;
      const path = join(folder, name);
      const segment: Segment = { path, fd: openSync(path, "wx", 0o600), size: 0, unacked: 0, lastRow: 0 };
      this.#segments.push(segment);
      const content = Buffer.from(JSON.stringify({ ...head, ...this.#covered }));
      this.#write(segment, encode(KIND.head, { number: 0, lastRow: 0, id: "" }, content));
      return segment;
    } catch (error) {
      this.#options.failed(error);
      return undefined;
    }
  }

  #write(segment: Segment, bytes: Uint8Array): number | undefined {
    try {
      writeSync(segment.fd, bytes, 0, bytes.byteLength, segment.size);
    } catch (error) {
      this.#options.failed(error);
      return undefined;
    }
    const at = segment.size;
    segment.size += bytes.byteLength;
    this.#disk += bytes.byteLength;
    return at;
  }

  /** S1; the newest segment only when `all`. */
  #trim(all: boolean): void {
    for (;;) {
      const oldest = this.#segments[0];
      if (oldest === undefined || oldest.unacked > 0 || oldest.lastRow > this.#covered.coveredUpTo) return;
      if (this.#segments.length === 1 && !all) return;
      this.#segments.shift();
      this.#disk -= oldest.size;
      closeSync(oldest.fd);
      unlinkSync(oldest.path);
    }
  }
}

/** What an earlier process left: heads, records and panes by boot, in the order they were written. */
export type Leftover = {
  boot: number;
  head: SpoolHead;
  paths: string[];
  /** Reads a segment at a time. */
  entries(): Generator<{ kind: "record" | "pane"; number: number; lastRow: number; id: string; payload: Uint8Array }>;
};

export function leftovers(folder: string, ownBoot: number): Leftover[] {
  const byBoot = new Map<number, string[]>();
  for (const name of readdirSync(folder).toSorted()) {
    const boot = Number(/^(\d+)-\d+\.wal$/.exec(name)?.[1] ?? Number.NaN);
    if (Number.isNaN(boot) || boot === ownBoot) continue;
    byBoot.set(boot, [...(byBoot.get(boot) ?? []), join(folder, name)]);
  }
  return [...byBoot].map(([boot, paths]) => ({
    boot,
    paths,
    head: newestHead(boot, paths),
    entries: () => entriesOf(paths),
  }));
}

/** Messages of a dead boot by the streams and subjects they were for. */
export function outgoingOf(
  head: SpoolHead,
  entry: { kind: "record" | "pane"; number: number; lastRow: number; id: string; payload: Uint8Array },
): Outgoing {
  const { kind, ...rest } = entry;
  const subject = kind === "record" ? SUBJECTS.records(head.track, head.boot) : SUBJECTS.pane(head.track, head.boot);
  return { stream: kind === "record" ? "MESH_REC" : "MESH_PANE", subject, ...rest };
}

function newestHead(boot: number, paths: readonly string[]): SpoolHead {
  const none: SpoolHead = { boot, track: 0, version: 0, profileSha256: "", lastPane: 0, coveredUpTo: 0 };
  let head = none;
  for (const path of paths) {
    for (const { kind, number, lastRow, payload } of decode(readFileSync(path))) {
      if (kind === KIND.head) head = { ...head, ...(JSON.parse(Buffer.from(payload).toString()) as SpoolHead) };
      if (kind === KIND.MESH_PANE) {
        head = { ...head, lastPane: Math.max(head.lastPane, number), coveredUpTo: Math.max(head.coveredUpTo, lastRow) };
      }
    }
  }
  return head;
}

function* entriesOf(paths: readonly string[]): ReturnType<Leftover["entries"]> {
  for (const path of paths) {
    for (const { kind, ...rest } of decode(readFileSync(path))) {
      if (kind !== KIND.head) yield { kind: kind === KIND.MESH_REC ? "record" : "pane", ...rest };
    }
  }
}

function encode(kind: Kind, entry: { number: number; lastRow: number; id: string }, payload: Uint8Array): Uint8Array {
  const id = Buffer.from(entry.id);
  const bytes = Buffer.allocUnsafe(HEAD_BYTES + BODY_BYTES + id.byteLength + payload.byteLength);
  let at = bytes.writeUInt8(kind, HEAD_BYTES);
  at = bytes.writeDoubleLE(entry.number, at);
  at = bytes.writeDoubleLE(entry.lastRow, at);
  at = bytes.writeUInt16LE(id.byteLength, at);
  bytes.set(id, at);
  bytes.set(payload, at + id.byteLength);
  bytes.writeUInt32LE(bytes.byteLength - HEAD_BYTES, 0);
  bytes.writeUInt32LE(crc32(bytes.subarray(HEAD_BYTES)), 4);
  return bytes;
}

type Decoded = { kind: Kind; number: number; lastRow: number; id: string; payload: Uint8Array };

/** Good entries up to the first torn one. */
function* decode(bytes: Buffer): Generator<Decoded> {
  for (let at = 0; at + HEAD_BYTES + BODY_BYTES <= bytes.byteLength;) {
    const end = at + HEAD_BYTES + bytes.readUInt32LE(at);
    if (end > bytes.byteLength || crc32(bytes.subarray(at + HEAD_BYTES, end)) !== bytes.readUInt32LE(at + 4)) return;
    yield body(bytes.subarray(at + HEAD_BYTES, end));
    at = end;
  }
}

function body(bytes: Buffer): Decoded {
  const idBytes = bytes.readUInt16LE(17);
  const start = BODY_BYTES + idBytes;
  return {
    kind: bytes.readUInt8(0) as Kind,
    number: bytes.readDoubleLE(1),
    lastRow: bytes.readDoubleLE(9),
    id: bytes.subarray(BODY_BYTES, start).toString(),
    payload: bytes.subarray(start),
  };
}

function readPayload(path: string, at: number): Uint8Array {
  const fd = openSync(path, "r");
  try {
    const length = Buffer.alloc(4);
    readSync(fd, length, 0, 4, at);
    const bytes = Buffer.alloc(length.readUInt32LE(0));
    readSync(fd, bytes, 0, bytes.byteLength, at + HEAD_BYTES);
    return body(bytes).payload;
  } finally {
    closeSync(fd);
  }
}
