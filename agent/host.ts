// The data folder: its files, its record of processes (agent.json), and the rest of an agent that died.
// D1 agent.json is whole or the old one: written beside and renamed. D2 Writes are in order; the newest state is what remains.
import { createHash } from "node:crypto";
import { mkdir, readFile, rename, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HOST_FILE, type HostFile, parseHostFile } from "#kernel/domain/host.ts";
import { MeshError } from "#kernel/fault/error.ts";

/** Longest socket path that every system takes (macOS allows 104 bytes with the final zero). */
const SOCKET_BYTES = 100;

export type Folders = { data: string; nats: string; blobs: string; logs: string; nodes: string };

export async function makeFolders(data: string): Promise<Folders> {
  const at = (name: string): string => join(data, name);
  const folders = { data, nats: at("nats"), blobs: at("blobs"), logs: at("logs"), nodes: at("nodes") };
  for (const folder of Object.values(folders)) await mkdir(folder, { recursive: true, mode: 0o700 });
  return folders;
}

/** Where the socket goes: into the data folder, or under a short name when its path is too long for a socket. */
export async function socketPath(data: string): Promise<string> {
  const near = join(data, "agent.sock");
  if (Buffer.byteLength(near) <= SOCKET_BYTES) return near;
  const name = createHash("sha256").update(data).digest("hex").slice(0, 12);
  const folder = join(Buffer.byteLength(tmpdir()) <= 60 ? tmpdir() : "/tmp", `driftmesh-${name}`);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  return join(folder, "agent.sock");
}

export async function readHostFile(data: string): Promise<HostFile | undefined> {
  return parseHostFile(await readFile(join(data, HOST_FILE), "utf8").catch(() => ""));
}

/** Keeps agent.json (D1, D2). */
export class HostRecord {
  readonly #path: string;
  #writing: Promise<void> = Promise.resolve();
  #next: HostFile | undefined;

  constructor(data: string) {
    this.#path = join(data, HOST_FILE);
  }

  /** Resolves when this state or a newer one is on disk. */
  write(file: HostFile): Promise<void> {
    this.#next = file;
    this.#writing = this.#writing.then(async () => {
      const newest = this.#next;
      if (newest === undefined) return;
      this.#next = undefined;
      await writeFile(`${this.#path}.new`, `${JSON.stringify(newest)}\n`, { mode: 0o600 });
      await rename(`${this.#path}.new`, this.#path);
    });
    return this.#writing;
  }

  /** Resolves when everything that was written so far is on disk. */
  settled(): Promise<void> {
    return this.#writing;
  }
}

/** The wanted port if it is free on loopback, else a free one; undefined wants any. */
export async function freePort(wanted: number | undefined): Promise<number> {
  return (wanted === undefined ? undefined : await tryPort(wanted)) ?? (await tryPort(0)) ?? 0;
}

/** The port the user named; DM-6004 when it is taken. */
export async function wantedPort(port: number): Promise<number> {
  if ((await tryPort(port)) !== undefined) return port;
  throw new MeshError("DM-6004", `port ${port} on 127.0.0.1 is taken by another program`);
}

/** Binds, closes and returns the port; undefined when it is taken. */
async function tryPort(port: number): Promise<number | undefined> {
  const { promise, resolve } = Promise.withResolvers<number | undefined>();
  const server = createServer();
  server.once("error", () => resolve(undefined));
  server.listen({ host: "127.0.0.1", port, exclusive: true }, () => {
    const bound = server.address();
    server.close(() => resolve(typeof bound === "object" && bound !== null ? bound.port : undefined));
  });
  return await promise;
}
