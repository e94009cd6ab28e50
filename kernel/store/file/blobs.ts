// Blobs as files: `<dir>/ab/cdef...` by hash.
// B1 A name appears by one rename of a flushed file, so it always has its whole content. B2 What is read is hashed; other content is DM-5003.
import { mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { base32, sha256Hex } from "../../base/bytes.ts";
import type { Rand } from "../../base/rand.ts";
import { MeshError } from "../../fault/error.ts";
import { checkSha256 } from "../check.ts";
import type { Blobs } from "../ports.ts";

export class FileBlobs implements Blobs {
  readonly #dir: string;
  readonly #rand: Rand;

  constructor(options: { dir: string; rand: Rand }) {
    this.#dir = options.dir;
    this.#rand = options.rand;
  }

  async put(content: Uint8Array): Promise<string> {
    const sha256 = sha256Hex(content);
    const path = this.pathOf(sha256);
    const there = await stat(path).catch(() => undefined);
    if (there?.size === content.byteLength) return sha256;
    const folder = join(this.#dir, sha256.slice(0, 2));
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const temporary = join(folder, `.${base32(this.#rand.bytes(10))}.new`);
    try {
      await writeFlushed(temporary, content);
      await rename(temporary, path);
    } finally {
      await rm(temporary, { force: true });
    }
    await flushFolder(folder);
    return sha256;
  }

  async get(sha256: string, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    const path = this.pathOf(sha256);
    let content: Uint8Array;
    try {
      content = await readFile(path, signal === undefined ? {} : { signal });
    } catch (thrown) {
      if (isAbsent(thrown)) return undefined;
      throw thrown;
    }
    if (sha256Hex(content) !== sha256) throw new MeshError("DM-5003", `blob ${sha256} is damaged on disk: ${path}`);
    return content;
  }

  async has(sha256: string): Promise<boolean> {
    return (await stat(this.pathOf(sha256)).catch(() => undefined)) !== undefined;
  }

  async remove(sha256: string): Promise<void> {
    await rm(this.pathOf(sha256), { force: true });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Where the content lies, for processes that read it as a file; not verified. */
  pathOf(sha256: string): string {
    checkSha256(sha256);
    return join(this.#dir, sha256.slice(0, 2), sha256.slice(2));
  }
}

async function writeFlushed(path: string, content: Uint8Array): Promise<void> {
  await using file = await open(path, "wx", 0o600);
  await file.writeFile(content);
  await file.datasync();
}

async function flushFolder(dir: string): Promise<void> {
  await using folder = await open(dir, "r");
  await folder.sync();
}

function isAbsent(thrown: unknown): boolean {
  return thrown instanceof Error && "code" in thrown && thrown.code === "ENOENT";
}
