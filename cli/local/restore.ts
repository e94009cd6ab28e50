// A data folder from a backup, with nothing but a nats-server of its own, which ends with it.
// R1 The whole file is read and checked before anything is made. R2 The folder appears by one rename: whole or not at all.
// R3 Sequences of MESH_PANE go on behind those of the old life: a decision is named by its sequence, and no name may come twice.
import { createReadStream } from "node:fs";
import { access, constants, mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { base32 } from "#kernel/base/bytes.ts";
import { BUCKETS, type NodeState, STREAMS } from "#kernel/domain/state.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { type BackupSummary, checkBackup, restoreBackup } from "#kernel/store/backup/restore.ts";
import { FileBlobs } from "#kernel/store/file/blobs.ts";
import { findNatsServer } from "#kernel/store/nats/find-server.ts";
import type { Context } from "../terminal/door.ts";
import { livingHost } from "./host.ts";

export type Restored = Pick<BackupSummary, "header" | "end"> & { nodes: readonly NodeState[] };

/** Makes `context.data` from the file; says what it was and which nodes it had. Throws DM-6005, 6013, 6014, 6015. */
export async function restoreFolder(context: Context, file: string): Promise<Restored> {
  const { data, rand, signal } = context;
  await refuseUsed(data);
  await access(file, constants.R_OK).catch((cause: unknown) => {
    throw new MeshError("DM-1004", `${file} cannot be read`, { cause });
  });
  const { header, end, entries } = await checkBackup(createReadStream(file), ({ key }) => key.startsWith("node."));
  const nodes = entries.map(({ value }) => JSON.parse(new TextDecoder().decode(value)) as NodeState);
  const making = `${data}.restoring-${base32(rand.bytes(5))}`;
  try {
    await mkdir(making, { recursive: true, mode: 0o700 });
    await pour(context, { file, making, lastSeq: end.sequences[STREAMS.panes.name] ?? 0 });
    signal.throwIfAborted();
    await rename(making, data).catch((cause: unknown) => {
      throw new MeshError("DM-6015", `${data} came into being in the meantime`, { cause });
    });
  } finally {
    await rm(making, { recursive: true, force: true });
  }
  return { header, end, nodes: nodes.filter(({ alive }) => alive) };
}

/** What a backup says of itself, for programs. */
export function backupFacts({ header, end }: Pick<BackupSummary, "header" | "end">): object {
  const { format, version, epoch, madeMs } = header;
  const { entries, blobs, bytes, sequences, absent } = end;
  return { format, version, epoch, madeMs, keys: entries, blobs, blobBytes: bytes, sequences, absent };
}

async function refuseUsed(data: string): Promise<void> {
  const living = await livingHost(data);
  if (living !== undefined)
    throw new MeshError("DM-6005", `a mesh runs in ${data}, whose agent has pid ${living.agent.pid}`);
  const names = await readdir(data).catch(() => []);
  if (names.length > 0)
    throw new MeshError(
      "DM-6015",
      `${data} is not empty: name a folder that does not exist yet with --data, or move this one away`,
    );
}

type Pour = { file: string; making: string; lastSeq: number };

async function pour({ clock, rand, env, root, terminal }: Context, { file, making, lastSeq }: Pour): Promise<void> {
  const say = (line: string): void => terminal.talk(`${line}\n`);
  const named = env["DRIFTMESH_NATS_SERVER"];
  const search = { cacheDir: join(root, ".cache"), env, say };
  const { binary } = await findNatsServer(named === undefined || named === "" ? search : { ...search, named });
  // Loaded only now: help and refusals need no client of NATS.
  const [{ startNatsServer }, { openNats }] = await Promise.all([
    import("#kernel/store/nats/server.ts"),
    import("#kernel/store/nats/door.ts"),
  ]);
  await using closing = new AsyncDisposableStack();
  const server = await startNatsServer({ binary, dir: join(making, "nats"), clock, rand, say });
  closing.defer(() => server.stop());
  const firstSequences = { [STREAMS.panes.name]: lastSeq + 1 };
  const { url, credentials } = server;
  const stores = closing.use(await openNats({ url, credentials, name: "restore", clock, rand, firstSequences }));
  await restoreBackup(createReadStream(file), {
    state: stores.state(BUCKETS.state),
    drift: stores.state(BUCKETS.drift),
    blobs: new FileBlobs({ dir: join(making, "blobs"), rand }),
  });
}
