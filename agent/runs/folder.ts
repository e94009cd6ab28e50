// The folder of one attempt: code, data, out, tmp, and the result that outlives the agent.
// F1 A folder that exists was begun: its attempt is never started again.
import { access, mkdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import type { DataManifest } from "#kernel/domain/state.ts";
import { MeshError } from "#kernel/fault/error.ts";
import type { Blobs } from "#kernel/store/ports.ts";
import { parseTree, unpackTree } from "./tree.ts";

export type RunFolder = {
  root: string;
  code: string;
  data: string;
  out: string;
  check: string;
  log: string;
  manifest: string;
  hyperparameters: string;
};

export function runFolder(root: string): RunFolder {
  const at = (name: string): string => join(root, name);
  return {
    root,
    code: at("code"),
    data: at("data"),
    out: at("out"),
    check: at("check"),
    log: at("run.log"),
    manifest: at("data/manifest.json"),
    hyperparameters: at("data/hyperparameters.json"),
  };
}

/** Makes the folder; false when the attempt was begun before (F1). */
export async function beginFolder({ root, code, data, out, check }: RunFolder): Promise<boolean> {
  await mkdir(dirname(root), { recursive: true, mode: 0o700 });
  try {
    await mkdir(root, { mode: 0o700 });
  } catch (thrown) {
    if (thrown instanceof Error && "code" in thrown && thrown.code === "EEXIST") return false;
    throw thrown;
  }
  for (const folder of [code, data, out, check, join(root, "tmp")]) await mkdir(folder);
  return true;
}

/** Unpacks the code; what it imports (hyparquet) is found in the mesh's own node_modules. */
export async function placeCode(folder: RunFolder, treeSha256: string, blobs: Blobs, modules: string): Promise<void> {
  const tree = await blobs.get(treeSha256);
  if (tree === undefined) throw new MeshError("DM-2011", `the train code (${treeSha256}) is not among the blobs`);
  await unpackTree(parseTree(tree), blobs, folder.code);
  await symlink(modules, join(folder.code, "node_modules"), "dir");
}

/** Writes the manifest with each file's local path; returns its path, or "" when there is none. */
export async function placeManifest(
  folder: RunFolder,
  sha256: string,
  blobs: Blobs,
  blobPath: (sha256: string) => string,
): Promise<string> {
  if (sha256 === "") return "";
  const content = await blobs.get(sha256);
  if (content === undefined) throw new MeshError("DM-2011", `the data manifest (${sha256}) is not among the blobs`);
  const manifest = JSON.parse(Buffer.from(content).toString("utf8")) as DataManifest;
  const files = [];
  for (const file of manifest.files) {
    const path = blobPath(file.sha256);
    await access(path).catch((cause: unknown) => {
      throw new MeshError("DM-2011", `a data file of the run (${file.sha256}) is not among the blobs`, { cause });
    });
    files.push({ ...file, path });
  }
  await writeFile(folder.manifest, JSON.stringify({ ...manifest, files }));
  return folder.manifest;
}

/** The environment of train code: our Node first on the PATH, the run's folder as home, the three paths of the contract. */
export function trainEnvironment(folder: RunFolder, path: string): Record<string, string> {
  return {
    PATH: [dirname(process.execPath), path].join(delimiter),
    HOME: folder.root,
    TMPDIR: join(folder.root, "tmp"),
    LANG: "C.UTF-8",
    DRIFTMESH_DATA_MANIFEST: folder.manifest,
    DRIFTMESH_HYPERPARAMETERS: folder.hyperparameters,
    DRIFTMESH_OUTPUT: folder.out,
  };
}

/** Keeps the log and the result, drops the rest. */
export async function slimFolder({ root, code, data, out, check }: RunFolder): Promise<void> {
  for (const folder of [code, data, out, check, join(root, "tmp")]) await rm(folder, { recursive: true, force: true });
}

const resultPath = ({ root }: RunFolder): string => join(root, "result.json");

export async function writeResult(folder: RunFolder, result: string): Promise<void> {
  await writeFile(`${resultPath(folder)}.new`, result);
  await rename(`${resultPath(folder)}.new`, resultPath(folder));
}

/** What the attempt ended with, when it ended under an earlier agent. */
export async function readResult(folder: RunFolder): Promise<string | undefined> {
  return readFile(resultPath(folder), "utf8").catch(() => undefined);
}
