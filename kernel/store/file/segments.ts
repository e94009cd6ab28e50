// Segment files of one log: names, reading record by record, cutting a torn tail.
// G1 A segment is named by its first sequence, 16 digits, so that names sort as sequences do.
// G2 Only the last segment can have a torn tail; it is cut when the log is opened, and what was cut is kept beside it as `.cut`.
import { type FileHandle, open, readdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MeshError } from "../../fault/error.ts";
import { decodeRecord, type StoredRecord } from "./record.ts";

export type Segment = { firstSeq: number; path: string };

const NAME = /^(\d{16})\.log$/;
const READ_BYTES = 256 * 1024;

export function segmentPath(dir: string, firstSeq: number): string {
  return join(dir, `${String(firstSeq).padStart(16, "0")}.log`);
}

/** The folder's segments, oldest first. */
export async function listSegments(dir: string): Promise<Segment[]> {
  const names = (await readdir(dir)).filter((name) => NAME.test(name)).toSorted();
  return names.map((name) => ({ firstSeq: Number(NAME.exec(name)?.[1]), path: join(dir, name) }));
}

/** All good records of the last segment; its file is cut after them (G2). */
export async function recover(segment: Segment): Promise<{ records: StoredRecord[]; bytes: number }> {
  const content = await readFile(segment.path);
  const records: StoredRecord[] = [];
  let at = 0;
  while (at < content.byteLength) {
    const decoded = decodeRecord(content, at);
    if (decoded === "bad" || decoded === "more") break;
    if (decoded.record.message.seq !== segment.firstSeq + records.length) break;
    records.push(decoded.record);
    at = decoded.next;
  }
  if (at < content.byteLength) {
    await writeFile(`${segment.path}.cut`, content.subarray(at));
    await truncate(segment.path, at);
    await using file = await open(segment.path, "r+");
    await file.datasync();
  }
  return { records, bytes: at };
}

/** Reads one segment forwards; knows how far it has come, so that it can go on when the file has grown. */
export class SegmentReader implements AsyncDisposable {
  readonly segment: Segment;
  readonly #file: FileHandle;
  #buffer: Buffer = Buffer.alloc(0);
  #at = 0;
  #readTo = 0;

  private constructor(segment: Segment, file: FileHandle) {
    this.segment = segment;
    this.#file = file;
  }

  /** Undefined when the file is gone (trimmed). */
  static async open(segment: Segment): Promise<SegmentReader | undefined> {
    try {
      return new SegmentReader(segment, await open(segment.path, "r"));
    } catch (thrown) {
      if (thrown instanceof Error && "code" in thrown && thrown.code === "ENOENT") return undefined;
      throw thrown;
    }
  }

  /** The next record that ends at or before `limit` (bytes of the file known to be durable), or undefined. */
  async next(limit: number): Promise<StoredRecord | undefined> {
    for (;;) {
      const decoded = decodeRecord(this.#buffer, this.#at);
      if (decoded === "bad") throw this.#damaged();
      if (decoded !== "more") {
        this.#at = decoded.next;
        return decoded.record;
      }
      if (!(await this.#fill(limit))) return undefined;
    }
  }

  /** Whether everything up to `limit` has been handed out; a rest that is no record is damage. */
  atEnd(limit: number): boolean {
    if (this.#readTo < limit) return false;
    if (this.#at < this.#buffer.byteLength) throw this.#damaged();
    return true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
  }

  async #fill(limit: number): Promise<boolean> {
    const want = Math.min(READ_BYTES, limit - this.#readTo);
    if (want <= 0) return false;
    const fresh = Buffer.allocUnsafe(want);
    const { bytesRead } = await this.#file.read(fresh, 0, want, this.#readTo);
    if (bytesRead === 0) return false;
    this.#readTo += bytesRead;
    this.#buffer = Buffer.concat([this.#buffer.subarray(this.#at), fresh.subarray(0, bytesRead)]);
    this.#at = 0;
    return true;
  }

  #damaged(): MeshError {
    return new MeshError(
      "DM-6010",
      `log file ${this.segment.path} is damaged after byte ${this.#readTo - this.#buffer.byteLength + this.#at}`,
    );
  }
}
