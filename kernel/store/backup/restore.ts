// Puts a backup into a store without a mesh. Owns what is left out, and that nothing is written over.
// R1 Only into empty buckets. R2 Leases stay behind: they belong to processes of the old life. Terms come along, so that they go on growing.
// R3 The epoch is not written here: the first leader sees streams that are not those of the old epoch, and begins the next one.
import { BUCKETS } from "../../domain/state.ts";
import { MeshError } from "../../fault/error.ts";
import type { Blobs, StateStore, Write } from "../ports.ts";
import { type BackupEntry, decodeBackup, type BackupCut, type BackupHeader, type BackupTotals } from "./format.ts";

export type RestoreTarget = { state: StateStore; drift: StateStore; blobs: Blobs };
export type BackupSummary = { header: BackupHeader; end: BackupCut & BackupTotals; entries: readonly BackupEntry[] };

const BATCH_WRITES = 500;
const BATCH_BYTES = 2 ** 20;

/** Reads a file to its end and throws where it is not whole; `wanted` keys are kept for the caller. */
export async function checkBackup(
  file: AsyncIterable<Uint8Array>,
  wanted: (entry: BackupEntry) => boolean = () => false,
): Promise<BackupSummary> {
  let header: BackupHeader | undefined;
  let end: (BackupCut & BackupTotals) | undefined;
  const entries: BackupEntry[] = [];
  for await (const item of decodeBackup(file)) {
    if (item.kind === "header") header = item;
    else if (item.kind === "end") end = item;
    else if (item.kind === "entry" && wanted(item)) entries.push(item);
  }
  if (header === undefined || end === undefined) throw new Error("invariant broken: a whole backup has both ends");
  return { header, end, entries };
}

/** Writes what the file has; throws before anything is written where something is there already (R1). */
export async function restoreBackup(
  file: AsyncIterable<Uint8Array>,
  { state, drift, blobs }: RestoreTarget,
): Promise<void> {
  const buckets = new Map<string, Pouring>([
    [BUCKETS.state, new Pouring(state)],
    [BUCKETS.drift, new Pouring(drift)],
  ]);
  for (const [name, { store }] of buckets) await refuseContent(name, store);
  for await (const item of decodeBackup(file)) {
    if (item.kind === "blob") await blobs.put(item.content);
    if (item.kind !== "entry" || item.key.startsWith("lease.")) continue;
    const bucket = buckets.get(item.bucket);
    if (bucket === undefined)
      throw new MeshError("DM-6014", `the backup has a bucket ${item.bucket} that is unknown here`);
    await bucket.add({ kind: "create", key: item.key, value: item.value });
  }
  for (const bucket of buckets.values()) await bucket.flush();
}

async function refuseContent(name: string, store: StateStore): Promise<void> {
  const { length } = await store.list("");
  if (length === 0) return;
  throw new MeshError(
    "DM-6015",
    `bucket ${name} has ${length} keys: a backup goes into an empty store only; name a folder that does not exist yet with --data`,
  );
}

/** Writes in batches of a size that the store takes. */
class Pouring {
  readonly store: StateStore;
  #writes: Write[] = [];
  #bytes = 0;

  constructor(store: StateStore) {
    this.store = store;
  }

  async add(write: Extract<Write, { kind: "create" }>): Promise<void> {
    this.#writes.push(write);
    this.#bytes += write.value.byteLength;
    if (this.#writes.length >= BATCH_WRITES || this.#bytes >= BATCH_BYTES) await this.flush();
  }

  async flush(): Promise<void> {
    const writes = this.#writes.splice(0);
    this.#bytes = 0;
    if (writes.length === 0) return;
    const result = await this.store.batch(writes);
    if (result.kind !== "written")
      throw new MeshError("DM-2012", "somebody else writes into the store that is restored");
  }
}
