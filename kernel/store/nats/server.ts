// A nats-server of our own on loopback: for the launcher on a laptop, and for tests. Owns its folder: configuration, credentials, store, log.
// V1 It outlives the process that started it; a later start on the same folder finds it by pid and start time and adopts it, never a second one.
// V2 It listens on 127.0.0.1 only, wants generated credentials, and flushes every write to disk before it answers (`sync_interval: always`).
// V3 It is ready when JetStream answers, not when the port does: after a crash the store may take a while.
// The caller holds the folder's lock (lock.ts); without it two starts at the same instant could race.
import { spawn } from "node:child_process";
import { chmod, mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { base32 } from "../../base/bytes.ts";
import type { Clock } from "../../base/clock.ts";
import type { Rand } from "../../base/rand.ts";
import { MeshError, messageOf } from "../../fault/error.ts";
import { JetStreamApi, object, text } from "./api.ts";
import { type NatsCredentials, openLink } from "./link.ts";
import { isAlive, parseProcessId, processBegan, type ProcessId } from "../lock.ts";

export type ServerOptions = {
  binary: string;
  /** Everything of the server lies here; made when missing. */
  dir: string;
  /** 0 or nothing: any free port. */
  port?: number;
  clock: Clock;
  rand: Rand;
  say?: (line: string) => void;
};

export type NatsServer = {
  readonly url: string;
  readonly port: number;
  readonly credentials: NatsCredentials;
  readonly pid: number;
  readonly adopted: boolean;
  /** SIGTERM, after 10 s SIGKILL; resolves when the process is gone. Safe twice. */
  stop(): Promise<void>;
};

const READY_MS = 60_000;
const STOP_MS = 10_000;
const POLL_MS = 10;

/** Starts or adopts; throws DM-6004 when the port is taken, DM-6001 when JetStream does not answer in 60 s. */
export async function startNatsServer(options: ServerOptions): Promise<NatsServer> {
  await mkdir(options.dir, { recursive: true, mode: 0o700 });
  const credentials = await ownCredentials(options);
  const alive = await livingServer(options.dir);
  if (alive !== undefined) return ready(options, alive.process, alive.port, credentials, true);
  await writeFile(join(options.dir, "nats-server.conf"), configuration(options, credentials), { mode: 0o600 });
  await rm(portsDir(options.dir), { recursive: true, force: true });
  await mkdir(portsDir(options.dir));
  const process = await launch(options);
  try {
    const port = await listeningPort(options, process);
    const living = { ...process, port };
    await writeWhole(join(options.dir, "nats-server.json"), JSON.stringify(living));
    return await ready(options, process, port, credentials, false);
  } catch (thrown) {
    await stop(process, options.clock);
    throw thrown;
  }
}

/** The server of this folder that runs at the moment, whoever started it. */
async function livingServer(dir: string): Promise<{ process: ProcessId; port: number } | undefined> {
  const written = await readFile(join(dir, "nats-server.json"), "utf8").catch(() => "");
  const process = parseProcessId(written);
  if (process === undefined || !(await isAlive(process))) return undefined;
  const port = object(JSON.parse(written))["port"];
  return typeof port === "number" ? { process, port } : undefined;
}

async function ready(
  options: ServerOptions,
  process: ProcessId,
  port: number,
  credentials: NatsCredentials,
  adopted: boolean,
): Promise<NatsServer> {
  const url = `nats://127.0.0.1:${port}`;
  const { clock, rand } = options;
  const link = await openLink({ url, credentials, name: "launcher", clock, rand, connectMs: READY_MS });
  try {
    const answer = await new JetStreamApi({ link, clock, rand }).call("INFO");
    if (answer.kind === "error")
      throw new MeshError("DM-6001", `nats-server runs but JetStream does not: ${answer.error.description}`);
  } catch (thrown) {
    throw new MeshError(
      "DM-6001",
      `nats-server did not become ready: ${messageOf(thrown)}; its log is ${logPath(options.dir)}`,
      { cause: thrown },
    );
  } finally {
    await link.close();
  }
  return { url, port, credentials, pid: process.pid, adopted, stop: () => stop(process, clock) };
}

async function launch(options: ServerOptions): Promise<ProcessId> {
  const log = await open(logPath(options.dir), "a", 0o600);
  try {
    const child = spawn(options.binary, ["-c", join(options.dir, "nats-server.conf")], {
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
    });
    const failed = Promise.withResolvers<never>();
    child.once("error", (error) =>
      failed.reject(new MeshError("DM-6003", `${options.binary} does not start: ${error.message}`, { cause: error })),
    );
    const spawned = new Promise<void>((resolve) => child.once("spawn", resolve));
    await Promise.race([spawned, failed.promise]);
    child.unref();
    const pid = child.pid ?? 0;
    return { pid, began: (await processBegan(pid)) ?? "" };
  } finally {
    await log.close();
  }
}

/** The port from the file that nats-server writes once it listens. */
async function listeningPort(options: ServerOptions, process: ProcessId): Promise<number> {
  const { clock } = options;
  const untilMs = clock.monotonicMs() + READY_MS;
  let saidMs = clock.monotonicMs() + 3_000;
  const file = join(portsDir(options.dir), `nats-server_${process.pid}.ports`);
  while (clock.monotonicMs() < untilMs) {
    const port = portOf(await readFile(file, "utf8").catch(() => ""));
    if (port !== undefined) return port;
    if (!(await isAlive(process))) throw await died(options);
    if (clock.monotonicMs() > saidMs) {
      options.say?.("nats-server is still reading its store");
      saidMs += 10_000;
    }
    await clock.sleep(POLL_MS);
  }
  throw new MeshError("DM-6001", `nats-server did not listen within 60 s; its log is ${logPath(options.dir)}`);
}

function portOf(written: string): number | undefined {
  const match = /nats:\/\/[^"]*:(\d+)/.exec(written);
  return match === null ? undefined : Number(match[1]);
}

async function died(options: ServerOptions): Promise<MeshError> {
  const log = (await readFile(logPath(options.dir), "utf8").catch(() => "")).trim().split("\n").slice(-20);
  if (log.some((line) => line.includes("address already in use"))) {
    return new MeshError("DM-6004", `port ${options.port ?? 0} of nats-server is taken by another program`);
  }
  return new MeshError(
    "DM-6001",
    `nats-server ended at once: ${log.at(-1) ?? "it said nothing"}; its log is ${logPath(options.dir)}`,
  );
}

async function stop(process_: ProcessId, clock: Clock): Promise<void> {
  const untilMs = clock.monotonicMs() + STOP_MS;
  if (!(await isAlive(process_))) return;
  signalTo(process_.pid, "SIGTERM");
  for (let killed = false; await isAlive(process_); await clock.sleep(POLL_MS)) {
    if (killed || clock.monotonicMs() < untilMs) continue;
    signalTo(process_.pid, "SIGKILL");
    killed = true;
  }
}

function signalTo(pid: number, signal: "SIGTERM" | "SIGKILL"): void {
  try {
    process.kill(pid, signal);
  } catch {
    // Gone in the meantime, which is what we want.
  }
}

/** One user with a random password, made once for the folder. */
async function ownCredentials(options: ServerOptions): Promise<{ user: string; password: string }> {
  const path = join(options.dir, "credentials.json");
  const written = await readFile(path, "utf8").catch(() => "");
  if (written !== "") {
    const fields = object(JSON.parse(written));
    return { user: text(fields["user"]), password: text(fields["password"]) };
  }
  const credentials = { user: "driftmesh", password: base32(options.rand.bytes(20)) };
  await writeWhole(path, JSON.stringify(credentials));
  return credentials;
}

function configuration(options: ServerOptions, credentials: { user: string; password: string }): string {
  const quoted = (value: string): string => JSON.stringify(value);
  return [
    "# Written by driftmesh at each start.",
    `listen: ${quoted(`127.0.0.1:${options.port === undefined || options.port === 0 ? -1 : options.port}`)}`,
    "server_name: driftmesh",
    `pid_file: ${quoted(join(options.dir, "nats-server.pid"))}`,
    `ports_file_dir: ${quoted(portsDir(options.dir))}`,
    "max_payload: 1MB",
    "jetstream {",
    `  store_dir: ${quoted(join(options.dir, "store"))}`,
    "  # Every acknowledged write is on disk; the default flushes every two minutes.",
    "  sync_interval: always",
    "  # Streams carry their own limits; this only bounds their sum.",
    "  max_file_store: 1TB",
    "}",
    `authorization { user: ${quoted(credentials.user)}, password: ${quoted(credentials.password)} }`,
    "",
  ].join("\n");
}

/** A private file that is there whole or not at all. */
async function writeWhole(path: string, content: string): Promise<void> {
  await writeFile(`${path}.new`, content, { mode: 0o600 });
  await chmod(`${path}.new`, 0o600);
  await rename(`${path}.new`, path);
}

const logPath = (dir: string): string => join(dir, "nats-server.log");
const portsDir = (dir: string): string => join(dir, "ports");
