// A backup of stores on a real nats-server, beside a writer, into another one.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { FileBlobs } from "../file/blobs.ts";
import { openNats } from "../nats/door.ts";
import { clock, rand, testServer } from "../testing/nats-fixture.ts";
import { bytes, textOf } from "../testing/wait.ts";
import { encodeBackup } from "./format.ts";
import { checkBackup, restoreBackup } from "./restore.ts";
import { takeBackup } from "./take.ts";

const KEYS = 120;

async function* one(file: Uint8Array): AsyncGenerator<Uint8Array> {
  yield file;
}

test("a backup beside a writer holds whole batches with their blobs, and MESH_PANE goes on behind the old sequences", async () => {
  const dir = await mkdtemp(join(tmpdir(), "driftmesh-backup-"));
  await using made = new AsyncDisposableStack();
  made.defer(() => rm(dir, { recursive: true, force: true }));
  const blobs = new FileBlobs({ dir: join(dir, "old"), rand });
  const old = made.use(await made.use(await testServer()).open());
  const [state, drift, panes] = [old.state("mesh_state"), old.state("mesh_drift"), old.log("MESH_PANE")];
  for (const id of ["1", "2", "3"]) await panes.publish({ subject: "mesh.fact.1.1", payload: bytes(id), id });

  // As drift does it: the next blob, then the batch that names it, then the former blob goes.
  let writing = true;
  const write = async (turn: number, before: string): Promise<string> => {
    const sha256 = await blobs.put(bytes(`ledger ${turn}`));
    const value = bytes(JSON.stringify({ turn, sha256 }));
    const batch = Array.from({ length: KEYS }, (_, i) => ({ kind: "put" as const, key: `join.${i}`, value }));
    await drift.batch(batch);
    if (before !== "") await blobs.remove(before);
    return sha256;
  };
  let newest = await write(0, "");
  const writer = (async () => {
    for (let turn = 1; writing; turn += 1) {
      newest = await write(turn, newest);
      await clock.sleep(20);
    }
  })();
  await state.write({ kind: "create", key: "model.a", value: bytes("{}") });
  const pieces: Uint8Array[] = [];
  const sources = { state, drift, panes, blobs, clock, version: "0.0.0" };
  for await (const piece of encodeBackup(takeBackup(sources, new AbortController().signal))) pieces.push(piece);
  writing = false;
  await writer;

  const file = Buffer.concat(pieces);
  const { end } = await checkBackup(one(file));
  expect(end).toMatchObject({ entries: KEYS + 1, sequences: { MESH_PANE: 3 }, absent: [] });
  const { url, credentials } = made.use(await testServer()).server();
  const firstSequences = { MESH_PANE: (end.sequences["MESH_PANE"] ?? 0) + 1 };
  const link = { url, credentials, name: "restore", clock, rand, storageGib: 1 };
  const stores = made.use(await openNats({ ...link, firstSequences }));
  const target = { state: stores.state("mesh_state"), drift: stores.state("mesh_drift") };
  const restored = new FileBlobs({ dir: join(dir, "new"), rand });
  await restoreBackup(one(file), { ...target, blobs: restored });

  const values = new Set((await target.drift.list("join.")).map(({ value }) => textOf(value) ?? ""));
  expect(values.size).toBe(1);
  const { turn, sha256 } = JSON.parse([...values][0] ?? "") as { turn: number; sha256: string };
  expect(textOf(await restored.get(sha256))).toBe(`ledger ${turn}`);
  expect(textOf((await target.state.get("model.a"))?.value)).toBe("{}");
  const again = stores.log("MESH_PANE");
  expect(await again.publish({ subject: "mesh.fact.1.1", payload: bytes("4"), id: "4" })).toMatchObject({ seq: 4 });
  // A later start compares settings: where the sequences began is none of them.
  await (await openNats(link))[Symbol.asyncDispose]();
});
