// The tree blob: the files of a run's code, each a blob of its own, unpacked into a folder.
// T1 Paths are relative, without `..`, and stay inside. T2 At most MAX_FILES files.
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { MeshError } from "#kernel/fault/error.ts";
import type { Blobs } from "#kernel/store/ports.ts";

const MAX_FILES = 1000;

export type TreeFile = { path: string; sha256: string; mode: number };

/** Reads `{"format":1,"files":[{path, sha256, mode}]}`; throws DM-1004 naming the file at fault (T1, T2). */
export function parseTree(content: Uint8Array | string): TreeFile[] {
  const text = typeof content === "string" ? content : Buffer.from(content).toString("utf8");
  const value = parsed(text);
  if (value.format !== 1 || !Array.isArray(value.files)) throw wrong("it is not a tree of format 1");
  const files: readonly unknown[] = value.files;
  if (files.length > MAX_FILES) throw wrong(`it has ${files.length} files, at most ${MAX_FILES} are taken`);
  const seen = new Set<string>();
  return files.map((file) => {
    const { path, sha256, mode = 0o644 } = (file ?? {}) as Partial<TreeFile>;
    if (typeof path !== "string" || !staysInside(path))
      throw wrong(`the path ${JSON.stringify(path)} is not inside the folder`);
    if (typeof sha256 !== "string" || !/^[0-9a-f]{64}$/.test(sha256)) throw wrong(`${path} has no SHA-256`);
    if (seen.has(path)) throw wrong(`${path} is there twice`);
    seen.add(path);
    return { path, sha256, mode: (Number(mode) & 0o100) === 0 ? 0o644 : 0o755 };
  });
}

/** Writes every file of the tree below `folder`. */
export async function unpackTree(files: readonly TreeFile[], blobs: Blobs, folder: string): Promise<void> {
  for (const { path, sha256, mode } of files) {
    const content = await blobs.get(sha256);
    if (content === undefined)
      throw new MeshError("DM-2011", `the content of ${path} (${sha256}) is not among the blobs`);
    const target = join(folder, path);
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, content, { mode });
  }
}

function staysInside(path: string): boolean {
  const parts = path.split("/");
  const plain = path !== "" && !path.includes("\\") && !path.includes("\0") && Buffer.byteLength(path) <= 512;
  return plain && parts[0] !== "node_modules" && parts.every((part) => part !== "" && part !== "." && part !== "..");
}

function parsed(text: string): { format?: unknown; files?: unknown } {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    throw wrong("it is not JSON");
  }
}

const wrong = (why: string): MeshError => new MeshError("DM-1004", `the tree of the train code cannot be read: ${why}`);
