// Files and folders of a description become blobs of the mesh.
// U1 A folder becomes a tree blob: canonical JSON of relative paths and hashes; the same folder gives the same hash.
// U2 At most 1,000 files and 64 MiB; node_modules, hidden files, Python caches and Parquet data are left out.
// U3 A hash that the description states is the hash of the file, or nothing is registered.
import type { Client } from "@connectrpc/connect";
import { open, readFile, readdir, stat } from "node:fs/promises";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { canonicalJson } from "#kernel/base/bytes.ts";
import { MeshError } from "#kernel/fault/error.ts";
import type { ModelDescription } from "#proto/driftmesh/v1/model_pb.ts";
import type { Registry } from "#proto/driftmesh/v1/registry_pb.ts";

type RegistryClient = Client<typeof Registry>;

const CHUNK_BYTES = 1 << 20;
const TREE_BYTES_MAX = 64 << 20;
const TREE_FILES_MAX = 1000;

/** Uploads what the description names by path (relative to its own file) and fills in the hashes. */
export async function uploadParts(
  registry: RegistryClient,
  description: ModelDescription,
  file: string,
): Promise<void> {
  const folder = dirname(resolve(file));
  const code = description.trainCode;
  if (code !== undefined && code.folder !== "") {
    const tree = await uploadTree(registry, inside(folder, code.folder, "train_code.folder"));
    code.treeSha256 = agreed(code.treeSha256, tree, "train_code.tree_sha256");
    code.folder = basename(resolve(folder, code.folder));
  }
  const training = description.trainingData;
  if (training !== undefined && training.file !== "") {
    const path = inside(folder, training.file, "training_data.file");
    const sha256 = await uploadFile(registry, path, "training_data.file");
    training.sha256 = agreed(training.sha256, sha256, "training_data.sha256");
    training.file = basename(training.file);
  }
  const inference = description.inference;
  if (inference !== undefined && inference.artifact !== "") {
    const path = inside(folder, inference.artifact, "inference.artifact");
    const sha256 = await uploadFile(registry, path, "inference.artifact");
    inference.artifactSha256 = agreed(inference.artifactSha256, sha256, "inference.artifact_sha256");
    inference.artifact = basename(inference.artifact);
  }
}

/** The hash of what was uploaded; a description that states another was written for another file (U3). */
function agreed(stated: string, found: string, field: string): string {
  if (stated === "" || stated === found) return found;
  const description = `the file has ${found}, the description says ${stated}`;
  throw new MeshError("DM-1001", `${field}: ${description}`, { violations: [{ field, description }] });
}

/** Streams a file into the mesh; its hash. */
async function uploadFile(registry: RegistryClient, path: string, field: string): Promise<string> {
  const found = await stat(path).catch(() => undefined);
  if (found?.isFile() !== true) {
    const description = `a file that exists, not ${path}`;
    throw new MeshError("DM-1004", `${field}: ${description}`, { violations: [{ field, description }] });
  }
  const response = await registry.uploadBlob(chunksOf(path));
  return response.sha256;
}

async function* chunksOf(path: string): AsyncGenerator<{ chunk: Uint8Array<ArrayBuffer> }> {
  await using file = await open(path, "r");
  for (;;) {
    const buffer = new Uint8Array(CHUNK_BYTES);
    const { bytesRead } = await file.read(buffer, 0, CHUNK_BYTES);
    if (bytesRead === 0) return;
    yield { chunk: buffer.subarray(0, bytesRead) };
  }
}

async function uploadBytes(registry: RegistryClient, content: Uint8Array<ArrayBuffer>): Promise<string> {
  const chunks = (async function* () {
    for (let at = 0; at < Math.max(1, content.length); at += CHUNK_BYTES)
      yield { chunk: content.subarray(at, at + CHUNK_BYTES) };
  })();
  return (await registry.uploadBlob(chunks)).sha256;
}

async function uploadTree(registry: RegistryClient, folder: string): Promise<string> {
  const paths = await treePaths(folder);
  if (paths.length === 0) throw new MeshError("DM-1004", `train_code.folder: ${folder} holds no file`);
  let bytes = 0;
  const files: { path: string; sha256: string; mode: number }[] = [];
  for (const path of paths) {
    const content = await readFile(path);
    bytes += content.length;
    if (bytes > TREE_BYTES_MAX) throw new MeshError("DM-1004", `train_code.folder: ${folder} holds more than 64 MiB`);
    const mode = ((await stat(path)).mode & 0o111) === 0 ? 0o644 : 0o755;
    const sha256 = await uploadBytes(registry, new Uint8Array(content));
    files.push({ path: relative(folder, path).split(sep).join("/"), sha256, mode });
  }
  return uploadBytes(registry, new TextEncoder().encode(canonicalJson({ format: 1, files })));
}

const LEFT_OUT = /^(\.|node_modules$|__pycache__$)|\.(pyc|parquet)$|\.test\.ts$/;

async function treePaths(folder: string): Promise<string[]> {
  const paths: string[] = [];
  const folders = [folder];
  for (let next = folders.pop(); next !== undefined; next = folders.pop()) {
    const entries = await readdir(next, { withFileTypes: true }).catch((cause: unknown) => {
      throw new MeshError("DM-1004", `train_code.folder: ${folder} cannot be read as a folder`, { cause });
    });
    for (const entry of entries) {
      if (LEFT_OUT.test(entry.name)) continue;
      const path = join(next, entry.name);
      if (entry.isDirectory()) folders.push(path);
      else if (entry.isFile()) paths.push(path);
      if (paths.length > TREE_FILES_MAX)
        throw new MeshError("DM-1004", `train_code.folder: ${folder} holds more than ${TREE_FILES_MAX} files`);
    }
  }
  return paths.sort();
}

function inside(folder: string, path: string, field: string): string {
  if (path.includes("\0")) throw new MeshError("DM-1004", `${field}: a path without NUL`);
  return resolve(folder, path);
}
