// The file of a backup: gzip over lines of JSON; owns its grammar, `header (blob part*)* entry* end`.
// F1 The last line counts what came before and holds the hash of it and of itself: a file that ends earlier, or in which anything changed, is
//    refused (DM-6013).
// F2 Each blob's content is checked against its own hash before it is handed out. F3 A newer format is refused by its number (DM-6014).
// The lines can be read by people: `gunzip -c FILE | jq -c 'select(.kind == "entry")'`; values and contents are base64.
import { createHash, type Hash } from "node:crypto";
import { pipeline, Readable } from "node:stream";
import { createGunzip, createGzip } from "node:zlib";
import { MeshError } from "../../fault/error.ts";

export const BACKUP_FORMAT = 1;

export type BackupHeader = {
  kind: "header";
  format: typeof BACKUP_FORMAT;
  /** Of the mesh that was backed up. */
  version: string;
  epoch: number;
  madeMs: number;
};
export type BackupBlob = { kind: "blob"; sha256: string; content: Uint8Array };
export type BackupEntry = { kind: "entry"; bucket: string; key: string; revision: number; value: Uint8Array };
/** Where the cut was made. */
export type BackupCut = {
  kind: "end";
  /** Newest revision of each bucket, and last sequence of MESH_PANE, at the cut. */
  sequences: Readonly<Record<string, number>>;
  /** Hashes that a key names and the blobs do not have, such as segments of strict nodes. */
  absent: readonly { key: string; sha256: string }[];
};
export type BackupTotals = { entries: number; blobs: number; bytes: number };
export type BackupItem = BackupHeader | BackupBlob | BackupEntry | BackupCut;

/** Content of a blob in one line. */
const PART_BYTES = 192 * 1024;
const LINE_MAX = 2 ** 20;
const NEWLINE = 0x0a;
/** Artifacts hardly shrink; what does shrinks at the lowest level too. */
const LEVEL = 1;

/** The file of these items, in pieces. */
export async function* encodeBackup(items: AsyncIterable<BackupItem>): AsyncGenerator<Uint8Array> {
  const packing = pipeline(Readable.from(linesOf(items)), createGzip({ level: LEVEL }), () => undefined);
  try {
    for await (const piece of packing) yield piece as Buffer;
  } finally {
    packing.destroy();
  }
}

async function* linesOf(items: AsyncIterable<BackupItem>): AsyncGenerator<string> {
  const hash = createHash("sha256");
  const totals: BackupTotals = { entries: 0, blobs: 0, bytes: 0 };
  const line = (value: object): string => {
    const text = `${JSON.stringify(value)}\n`;
    hash.update(text);
    return text;
  };
  for await (const item of items) {
    count(totals, item);
    switch (item.kind) {
      case "header":
        yield line({ driftmesh: "backup", ...item });
        break;
      case "blob": {
        const { kind, sha256, content } = item;
        yield line({ kind, sha256, bytes: content.byteLength });
        for (let at = 0; at < content.byteLength; at += PART_BYTES)
          yield line({ kind: "part", base64: base64(content.subarray(at, at + PART_BYTES)) });
        break;
      }
      case "entry": {
        const { value, ...named } = item;
        yield line({ ...named, base64: base64(value) });
        break;
      }
      case "end":
        yield `${JSON.stringify(sealed({ ...item, ...totals }, hash))}\n`;
        return;
    }
  }
  throw new Error("invariant broken: a backup ends with its cut");
}

/** The last line (F1). */
function sealed<T extends object>(end: T, hash: Hash): T & { sha256: string } {
  return { ...end, sha256: hash.update(JSON.stringify(end)).digest("hex") };
}

function count(totals: BackupTotals, item: BackupItem): void {
  if (item.kind === "entry") totals.entries += 1;
  if (item.kind !== "blob") return;
  totals.blobs += 1;
  totals.bytes += item.content.byteLength;
}

/** The items of a file, each checked. Nothing is known to be whole before the end has been handed out (F1). */
export async function* decodeBackup(
  file: AsyncIterable<Uint8Array>,
): AsyncGenerator<BackupHeader | BackupBlob | BackupEntry | (BackupCut & BackupTotals)> {
  const reading = new Reading();
  for await (const line of splitLines(file)) {
    const item = reading.take(line);
    if (item !== undefined) yield item;
  }
  reading.finish();
}

type Line = Readonly<Record<string, unknown>>;

/** What was read so far, and what may come next. */
class Reading {
  readonly #hash: Hash = createHash("sha256");
  readonly #totals: BackupTotals = { entries: 0, blobs: 0, bytes: 0 };
  #begun = false;
  #ended = false;
  #blob: { sha256: string; bytes: number; parts: Uint8Array[]; have: number } | undefined;

  take(text: string): BackupHeader | BackupBlob | BackupEntry | (BackupCut & BackupTotals) | undefined {
    const line = parsed(text);
    if (!this.#begun) {
      this.#begun = true;
      this.#hash.update(text);
      return headerOf(line);
    }
    if (this.#ended) throw damaged("something follows its last line");
    const { kind } = line;
    if (kind === "end") return this.#end(line);
    this.#hash.update(text);
    if (kind === "part") return this.#part(line);
    if (this.#blob !== undefined) throw damaged("a blob is cut off");
    if (kind === "blob") return this.#begin(line);
    if (kind !== "entry") throw damaged(`a line of kind ${JSON.stringify(kind)} is in it`);
    const [bucket, key, revision] = [textOf(line, "bucket"), textOf(line, "key"), numberOf(line, "revision")];
    return this.#counted({ kind, bucket, key, revision, value: contentOf(line) });
  }

  finish(): void {
    if (!this.#begun) throw damaged("it is empty");
    if (!this.#ended) throw damaged("it ends before its last line");
  }

  #begin(line: Line): BackupBlob | undefined {
    const bytes = numberOf(line, "bytes");
    this.#blob = { sha256: textOf(line, "sha256"), bytes, parts: [], have: 0 };
    return bytes === 0 ? this.#whole(this.#blob) : undefined;
  }

  #part(line: Line): BackupBlob | undefined {
    const blob = this.#blob;
    if (blob === undefined) throw damaged("a part belongs to no blob");
    const content = contentOf(line);
    blob.parts.push(content);
    blob.have += content.byteLength;
    if (blob.have > blob.bytes) throw damaged(`blob ${blob.sha256} is longer than was said`);
    return blob.have === blob.bytes ? this.#whole(blob) : undefined;
  }

  /** F2. */
  #whole({ sha256, parts }: { sha256: string; parts: Uint8Array[] }): BackupBlob {
    this.#blob = undefined;
    const content = new Uint8Array(Buffer.concat(parts));
    if (createHash("sha256").update(content).digest("hex") !== sha256)
      throw damaged(`the content of blob ${sha256} has another hash`);
    return this.#counted({ kind: "blob", sha256, content });
  }

  #counted<T extends BackupItem>(item: T): T {
    count(this.#totals, item);
    return item;
  }

  #end(line: Line): BackupCut & BackupTotals {
    if (this.#blob !== undefined) throw damaged("a blob is cut off");
    const { entries, blobs, bytes } = this.#totals;
    if (line["entries"] !== entries || line["blobs"] !== blobs || line["bytes"] !== bytes)
      throw damaged(
        `it has ${entries} keys and ${blobs} blobs, its last line counts ${String(line["entries"])} and ${String(line["blobs"])}`,
      );
    const { sha256, ...end } = line;
    if (sealed(end, this.#hash).sha256 !== sha256) throw damaged("its lines have another hash than its last line says");
    this.#ended = true;
    return end as BackupCut & BackupTotals;
  }
}

/** F3. */
function headerOf(line: Line): BackupHeader {
  if (line["driftmesh"] !== "backup") throw damaged("it is no backup of a mesh");
  const format = numberOf(line, "format");
  const version = textOf(line, "version");
  if (format > BACKUP_FORMAT)
    throw new MeshError(
      "DM-6014",
      `the backup has format ${format}, made by driftmesh ${version}; this one reads format ${BACKUP_FORMAT}`,
    );
  return { kind: "header", format: 1, version, epoch: numberOf(line, "epoch"), madeMs: numberOf(line, "madeMs") };
}

/** Lines with their ends; what follows the last end is a line too. */
async function* splitLines(file: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const unpacking = pipeline(Readable.from(file), createGunzip(), () => undefined);
  const open: Buffer[] = [];
  let openBytes = 0;
  const close = (last: Buffer): string => {
    const line = Buffer.concat([...open.splice(0), last]).toString("utf8");
    openBytes = 0;
    return line;
  };
  try {
    for await (const piece of unpacking as AsyncIterable<Buffer>) {
      let from = 0;
      for (let at = piece.indexOf(NEWLINE); at >= 0; at = piece.indexOf(NEWLINE, from)) {
        yield close(piece.subarray(from, at + 1));
        from = at + 1;
      }
      open.push(piece.subarray(from));
      openBytes += piece.length - from;
      if (openBytes > LINE_MAX) throw damaged("a line has no end");
    }
  } catch (thrown) {
    if (isUnpacking(thrown))
      throw damaged(thrown.code === "Z_BUF_ERROR" ? "it ends too early" : thrown.message, thrown);
    throw thrown;
  } finally {
    unpacking.destroy();
  }
  if (openBytes > 0) yield close(Buffer.alloc(0));
}

function isUnpacking(thrown: unknown): thrown is Error & { code: string } {
  return thrown instanceof Error && "code" in thrown && typeof thrown.code === "string" && thrown.code.startsWith("Z_");
}

function parsed(text: string): Line {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null) return value as Line;
  } catch {
    // Said below.
  }
  throw damaged("a line is no JSON object");
}

function textOf(line: Line, field: string): string {
  const value = line[field];
  if (typeof value !== "string") throw damaged(`a line lacks its ${field}`);
  return value;
}

function numberOf(line: Line, field: string): number {
  const value = line[field];
  if (typeof value !== "number" || !Number.isSafeInteger(value)) throw damaged(`a line lacks its ${field}`);
  return value;
}

const contentOf = (line: Line): Uint8Array => new Uint8Array(Buffer.from(textOf(line, "base64"), "base64"));
const base64 = (content: Uint8Array): string =>
  Buffer.from(content.buffer, content.byteOffset, content.byteLength).toString("base64");

function damaged(how: string, cause?: unknown): MeshError {
  return new MeshError("DM-6013", `the backup is not whole: ${how}`, cause === undefined ? {} : { cause });
}
