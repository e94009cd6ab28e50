import { gunzipSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { sha256Hex } from "../../base/bytes.ts";
import { VirtualClock } from "../../base/clock.ts";
import { MeshError } from "../../fault/error.ts";
import { MemoryBlobs } from "../memory/blobs.ts";
import { MemoryEventLog } from "../memory/event-log.ts";
import { MemoryStateStore } from "../memory/state-store.ts";
import { bytes, textOf } from "../testing/wait.ts";
import { type BackupItem, decodeBackup, encodeBackup } from "./format.ts";
import { checkBackup, restoreBackup } from "./restore.ts";
import { takeBackup } from "./take.ts";

const never = new AbortController().signal;
const header: BackupItem = { kind: "header", format: 1, version: "1.2.3", epoch: 4, madeMs: 5 };
const cut: BackupItem = { kind: "end", sequences: { mesh_state: 9 }, absent: [] };
const blobOf = (content: Uint8Array): BackupItem => ({ kind: "blob", sha256: sha256Hex(content), content });
const entry: BackupItem = { kind: "entry", bucket: "mesh_state", key: "model.ä", revision: 7, value: bytes("größe\n") };

async function* from<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items;
}
async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const out: T[] = [];
  for await (const item of items) out.push(item);
  return out;
}
const fileOf = async (items: readonly BackupItem[]): Promise<Buffer> =>
  Buffer.concat(await all(encodeBackup(from(items))));

/** Why a file is refused: its code and sentence. */
async function refusal(file: Uint8Array): Promise<string> {
  try {
    await all(decodeBackup(from([file])));
  } catch (thrown) {
    if (thrown instanceof MeshError) return `${thrown.fault} ${thrown.message}`;
    throw thrown;
  }
  return "taken";
}

test("what was written is read back, in whatever pieces the file arrives", async () => {
  const large = new Uint8Array(700_000).map((_, i) => (i * 7) % 251);
  const items = [header, blobOf(large), blobOf(new Uint8Array(0)), entry, cut];
  const file = await fileOf(items);
  const pieces = Array.from({ length: Math.ceil(file.length / 777) }, (_, i) => file.subarray(i * 777, i * 777 + 777));
  const read = await all(decodeBackup(from(pieces)));
  expect(read.slice(0, 4)).toEqual(items.slice(0, 4));
  expect(read[4]).toMatchObject({ ...cut, entries: 1, blobs: 2, bytes: 700_000 });
});

test("a file that is cut off anywhere is refused", async () => {
  const file = await fileOf([header, blobOf(bytes("artifact")), entry, entry, cut]);
  await fc.assert(
    fc.asyncProperty(fc.nat(file.length - 1), async (length) => {
      expect(await refusal(file.subarray(0, length))).toMatch(/^DM-6013 the backup is not whole/);
    }),
    { numRuns: 60, seed: 1 },
  );
});

test("a file whose lines end early is refused, although it unpacks", async () => {
  const lines = gunzipSync(await fileOf([header, blobOf(bytes("artifact")), entry, cut]))
    .toString()
    .split(/(?<=\n)/);
  for (let kept = 0; kept < lines.length; kept += 1)
    expect(await refusal(gzipSync(lines.slice(0, kept).join("")))).toMatch(/^DM-6013/);
  const without = (skipped: number): string => lines.filter((_, i) => i !== skipped).join("");
  for (let skipped = 0; skipped < lines.length; skipped += 1)
    expect(await refusal(gzipSync(without(skipped)))).toMatch(/^DM-6013/);
  expect(await refusal(gzipSync(`${lines.join("")}{}\n`))).toMatch(/DM-6013 .* something follows its last line/);
});

test("a file in which anything was changed is refused", async () => {
  const text = gunzipSync(await fileOf([header, blobOf(bytes("artifact")), entry, cut])).toString();
  await fc.assert(
    fc.asyncProperty(fc.nat(text.length - 2), fc.constantFrom("0", "A", "}", '"'), async (at, char) => {
      fc.pre(text[at] !== char);
      expect(await refusal(gzipSync(text.slice(0, at) + char + text.slice(at + 1)))).toMatch(/^DM-601[34]/);
    }),
    { numRuns: 300, seed: 1 },
  );
});

test("a blob with another content than its hash says is refused by name", async () => {
  const sha256 = sha256Hex("artifact");
  const file = await fileOf([header, { kind: "blob", sha256, content: bytes("artefact") }, cut]);
  expect(await refusal(file)).toBe(`DM-6013 the backup is not whole: the content of blob ${sha256} has another hash`);
});

test("a newer format is refused by its number and its driftmesh, anything else as no backup", async () => {
  const line = JSON.stringify({
    driftmesh: "backup",
    kind: "header",
    format: 2,
    version: "3.0.0",
    epoch: 1,
    madeMs: 1,
  });
  expect(await refusal(gzipSync(`${line}\n{"kind":"something new"}\n`))).toBe(
    "DM-6014 the backup has format 2, made by driftmesh 3.0.0; this one reads format 1",
  );
  expect(await refusal(gzipSync("{}\n"))).toMatch("it is no backup of a mesh");
  expect(await refusal(Buffer.from("PK\u0003\u0004 a zip"))).toMatch(/^DM-6013/);
});

// ---- taking and restoring

function sources() {
  const clock = new VirtualClock();
  const state = new MemoryStateStore();
  const drift = new MemoryStateStore();
  const panes = new MemoryEventLog(clock);
  const blobs = new MemoryBlobs();
  const put = (store: MemoryStateStore, key: string, value: unknown) =>
    store.write({ kind: "put", key, value: bytes(JSON.stringify(value)) });
  return { clock, state, drift, panes, blobs, version: "1.2.3", put };
}
const contentOf = async (store: MemoryStateStore): Promise<[string, string | undefined][]> =>
  (await store.list("")).map(({ key, value }) => [key, textOf(value)]);

test("keys of both buckets and every blob they name, through manifests too, come back; leases do not, and the epoch stays for the leader", async () => {
  const mesh = sources();
  const { put, state, drift, blobs } = mesh;
  const data = await blobs.put(bytes("parquet"));
  const manifest = await blobs.put(bytes(JSON.stringify({ files: [{ sha256: data }] })));
  const forgotten = await blobs.put(bytes("nobody names it"));
  await put(state, "meta.epoch", { epoch: 3, streamCreatedMs: 1 });
  await put(state, "lease.leader", { holder: "old" });
  await put(state, "term.leader", { term: 8 });
  await put(state, "run.a", { manifestSha256: manifest });
  await put(drift, "lease.drift", { holder: "old" });
  await put(drift, "segment.1.day", { sha256: "f".repeat(64) });
  await mesh.panes.publish({ subject: "mesh.fact.1.1", payload: bytes("x"), id: "1" });
  const file = Buffer.concat(await all(encodeBackup(takeBackup(mesh, never))));

  const { header: said, end } = await checkBackup(from([file]));
  expect(said).toMatchObject({ epoch: 3, version: "1.2.3" });
  expect(end).toMatchObject({
    blobs: 2,
    sequences: { mesh_state: 4, mesh_drift: 2, MESH_PANE: 1 },
    absent: [{ key: "segment.1.day", sha256: "f".repeat(64) }],
  });
  const fresh = sources();
  await restoreBackup(from([file]), fresh);
  const kept = (entries: [string, unknown][]) => entries.filter(([key]) => !key.startsWith("lease."));
  expect(await contentOf(fresh.state)).toEqual(kept(await contentOf(state)));
  expect(await contentOf(fresh.drift)).toEqual(kept(await contentOf(drift)));
  expect(textOf(await fresh.blobs.get(data))).toBe("parquet");
  expect([await fresh.blobs.has(manifest), await fresh.blobs.has(forgotten)]).toEqual([true, false]);
});

test("a store that has keys is refused with what to do, and not touched", async () => {
  const mesh = sources();
  await mesh.put(mesh.state, "model.a", {});
  const file = Buffer.concat(await all(encodeBackup(takeBackup(mesh, never))));
  const used = sources();
  await used.put(used.drift, "snap.1", {});
  await expect(restoreBackup(from([file]), used)).rejects.toMatchObject({
    fault: "DM-6015",
    message:
      "bucket mesh_drift has 1 keys: a backup goes into an empty store only; name a folder that does not exist yet with --data",
  });
  expect(await contentOf(used.state)).toEqual([]);
});

test("a snapshot whose blob was replaced while it was copied is cut again, with the blob that it names now", async () => {
  const mesh = sources();
  const [before, after] = [await mesh.blobs.put(bytes("ledger 1")), sha256Hex("ledger 2")];
  await mesh.put(mesh.drift, "join.1", { sha256: before });
  let moved = false;
  const blobs = Object.assign(Object.create(mesh.blobs) as MemoryBlobs, {
    async get(sha256: string): Promise<Uint8Array | undefined> {
      if (!moved) {
        // Drift saves the next ledger at this very moment.
        moved = true;
        await mesh.blobs.put(bytes("ledger 2"));
        await mesh.put(mesh.drift, "join.1", { sha256: after });
        await mesh.blobs.remove(before);
      }
      return await mesh.blobs.get(sha256);
    },
  });
  const items = await all(takeBackup({ ...mesh, blobs }, never));
  expect(items.flatMap((item) => (item.kind === "blob" ? [item.sha256] : []))).toEqual([after]);
  expect(items.flatMap((item) => (item.kind === "entry" ? [textOf(item.value)] : []))).toEqual([
    JSON.stringify({ sha256: after }),
  ]);
  expect(items.at(-1)).toMatchObject({ kind: "end", absent: [] });
});
