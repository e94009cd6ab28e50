// What every Blobs promises (ports.ts), as tests that each implementation runs.
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { sha256Hex } from "../../base/bytes.ts";
import { seededRand } from "../../base/rand.ts";
import type { Blobs } from "../ports.ts";
import { bytes } from "./wait.ts";

export function blobsContract(name: string, open: () => Promise<Blobs>): void {
  describe(`Blobs contract: ${name}`, () => {
    let blobs: Blobs;
    beforeEach(async () => {
      blobs = await open();
    });
    afterEach(async () => {
      await blobs.close();
    });

    it("names content by its SHA-256 and gives it back", async () => {
      const content = bytes("a model");
      const sha256 = await blobs.put(content);
      expect(sha256).toBe(sha256Hex(content));
      expect(await blobs.has(sha256)).toBe(true);
      expect(Buffer.compare((await blobs.get(sha256)) ?? bytes(""), content)).toBe(0);
    });

    it("keeps content of every size, over the edges of chunks", async () => {
      const rand = seededRand(1);
      for (const size of [0, 1, 512 * 1024, 512 * 1024 + 1, 3_000_000]) {
        const content = rand.bytes(size);
        const back = await blobs.get(await blobs.put(content));
        expect(back?.byteLength).toBe(size);
        expect(Buffer.compare(back ?? bytes(""), content)).toBe(0);
      }
    });

    it("knows nothing of a hash that was never put", async () => {
      const sha256 = sha256Hex("nobody");
      expect(await blobs.has(sha256)).toBe(false);
      expect(await blobs.get(sha256)).toBeUndefined();
      await blobs.remove(sha256);
    });

    it("takes the same content many times, at the same time too", async () => {
      const content = seededRand(2).bytes(1_500_000);
      const hashes = await Promise.all(Array.from({ length: 5 }, () => blobs.put(content)));
      expect(new Set(hashes).size).toBe(1);
      expect(await blobs.put(content)).toBe(hashes[0]);
    });

    it("forgets what is removed, and takes it again", async () => {
      const content = bytes("come and gone");
      const sha256 = await blobs.put(content);
      await blobs.remove(sha256);
      expect(await blobs.has(sha256)).toBe(false);
      expect(await blobs.get(sha256)).toBeUndefined();
      await blobs.put(content);
      expect(await blobs.has(sha256)).toBe(true);
    });

    it("refuses what is not a hash", async () => {
      await expect(async () => blobs.get("../../etc/passwd")).rejects.toThrow("SHA-256");
      await expect(async () => blobs.has("ABC")).rejects.toThrow("SHA-256");
    });
  });
}
