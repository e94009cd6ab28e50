// `driftmesh backup FILE`: a copy of a running mesh in one file.
// B1 The file appears under its name only when it has been read back whole. B2 A file that is there is never written over.
import { createReadStream } from "node:fs";
import { open, rename, rm, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { MeshError } from "#kernel/fault/error.ts";
import { checkBackup } from "#kernel/store/backup/restore.ts";
import { Mesh } from "#proto/driftmesh/v1/mesh_pb.ts";
import { backupFacts } from "../local/door.ts";
import { bytes, type Command, type Context, printObject, UsageError } from "../terminal/door.ts";

export function describe(command: Command): void {
  command
    .argument("<file>", "file to write; it must not exist yet")
    .addHelpText("after", "\nExample:\n  driftmesh backup mesh-monday.backup\nPut it back with `driftmesh restore`.");
}

export async function run(context: Context, command: Command): Promise<number> {
  const file = resolve(context.cwd, command.args[0] ?? "");
  if ((await stat(file).catch(() => undefined)) !== undefined)
    throw new UsageError(`${file} is there already`, "name a file that does not exist yet");
  const partial = `${file}.partial`;
  try {
    await fetchTo(context, partial);
    const { header, end } = await checkBackup(createReadStream(partial));
    const { size } = await stat(partial);
    await rename(partial, file);
    await flushFolder(dirname(file));
    const absent = end.absent.length === 0 ? "" : `\n${absentSentence(end.absent)}`;
    const what = `${end.entries} keys and ${end.blobs} blobs (${bytes(end.bytes)})`;
    await printObject(context, {
      text: `backed up ${what} of epoch ${header.epoch} to ${file} (${bytes(size)})${absent}`,
      json: { file, fileBytes: size, ...backupFacts({ header, end }) },
      name: file,
    });
    return 0;
  } finally {
    await rm(partial, { force: true });
  }
}

async function fetchTo(context: Context, path: string): Promise<void> {
  const mesh = await context.connect(Mesh);
  // It holds the keys of the mesh's ids.
  await using file = await open(path, "w", 0o600).catch((cause: unknown) => {
    throw new MeshError("DM-1004", `${path} cannot be written`, { cause });
  });
  for await (const { content } of mesh.backup({}, { signal: context.signal })) await file.write(content);
  await file.datasync();
}

async function flushFolder(path: string): Promise<void> {
  await using folder = await open(path, "r");
  await folder.sync();
}

function absentSentence(absent: readonly { key: string }[]): string {
  const keys = [...new Set(absent.map(({ key }) => key))];
  const some = keys.slice(0, 3).join(", ") + (keys.length > 3 ? ` and ${keys.length - 3} more` : "");
  return `not among the blobs, so not in it: ${absent.length} named by ${some} (what strict nodes keep never leaves them)`;
}
