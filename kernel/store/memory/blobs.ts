// Blobs in memory. Content goes in and out as copies, so nobody can change what a hash names.
import { sha256Hex } from "../../base/bytes.ts";
import { checkSha256 } from "../check.ts";
import type { Blobs } from "../ports.ts";

export class MemoryBlobs implements Blobs {
  readonly #contents = new Map<string, Uint8Array>();

  put(content: Uint8Array): Promise<string> {
    const sha256 = sha256Hex(content);
    if (!this.#contents.has(sha256)) this.#contents.set(sha256, content.slice());
    return Promise.resolve(sha256);
  }

  async get(sha256: string): Promise<Uint8Array | undefined> {
    checkSha256(sha256);
    return this.#contents.get(sha256)?.slice();
  }

  async has(sha256: string): Promise<boolean> {
    checkSha256(sha256);
    return this.#contents.has(sha256);
  }

  async remove(sha256: string): Promise<void> {
    checkSha256(sha256);
    this.#contents.delete(sha256);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
