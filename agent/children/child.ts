// One child process: detached in a session of its own, its output appended to a log file.
// C1 A child inherits no environment and no descriptor but its log. C2 Logs keep at most two files of LOG_BYTES.
import { spawn } from "node:child_process";
import { copyFile, mkdir, open, readdir, rm, stat, truncate } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import type { Clock } from "#kernel/base/clock.ts";
import type { ProcessMark } from "#kernel/domain/host.ts";
import { markOf, signalGroup } from "./processes.ts";

const LOG_BYTES = 8 * 1024 * 1024;
const REPLICA_LOGS_KEPT = 50;

export type ChildSpec = {
  name: string;
  /** Entry file, run by this very Node. */
  entry: string;
  /** Flags of Node itself. */
  flags?: readonly string[];
  env: Readonly<Record<string, string>>;
  cwd: string;
  log: string;
};

/** Code and signal of a process that ended. */
export type Exit = { code: number | null; signal: NodeJS.Signals | null };

export type Child = {
  readonly name: string;
  readonly mark: ProcessMark;
  /** Settles once, when the process is gone. */
  readonly exit: Promise<Exit>;
  /** The exit when it has happened. */
  ended(): Exit | undefined;
  /** Waits `graceMs` for the exit, then kills the whole group. */
  endWithin(graceMs: number, clock: Clock): Promise<void>;
};

/** Starts it; resolves once the process exists. */
export async function startChild(spec: ChildSpec): Promise<Child> {
  await mkdir(dirname(spec.log), { recursive: true });
  const log = await open(spec.log, "a", 0o600);
  try {
    const child = spawn(process.execPath, [...(spec.flags ?? []), spec.entry], {
      cwd: spec.cwd,
      env: { ...spec.env },
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
    });
    let ended: Exit | undefined;
    const { promise: exit, resolve } = Promise.withResolvers<Exit>();
    child.once("exit", (code, signal) => resolve((ended = { code, signal })));
    child.once("error", () => resolve((ended ??= { code: 127, signal: null })));
    const mark = await markOf(child.pid ?? 0);
    const endWithin = async (graceMs: number, clock: Clock): Promise<void> => {
      const timer = new AbortController();
      await Promise.race([exit, clock.sleep(graceMs, timer.signal).catch(() => undefined)]);
      timer.abort();
      if (ended === undefined && mark.pid > 0) signalGroup(mark.pid, "SIGKILL");
      await exit;
    };
    return { name: spec.name, mark, exit, ended: () => ended, endWithin };
  } finally {
    await log.close();
  }
}

/** What every child of ours gets from the agent's environment: enough to run, nothing else. */
export function baseEnvironment(env: Readonly<Record<string, string | undefined>>): Record<string, string> {
  const kept = ["HOME", "LANG", "TZ", "TMPDIR", "NODE_COMPILE_CACHE", "DRIFTMESH_LOG_LEVEL", "DRIFTMESH_OTLP_ENDPOINT"];
  const out: Record<string, string> = {
    PATH: [dirname(process.execPath), env["PATH"] ?? "/usr/bin:/bin"].join(delimiter),
  };
  for (const name of kept) {
    const value = env[name];
    if (value !== undefined && value !== "") out[name] = value;
  }
  return out;
}

/** How a process ended, as a sentence's second half: "exited with 3", "was ended by SIGKILL". */
export function exitSentence(exit: Exit): string {
  return exit.signal === null ? `exited with ${exit.code ?? "no code"}` : `was ended by ${exit.signal}`;
}

/** Keeps the logs of a folder bounded (C2): a file over the limit is copied to `.1` and emptied; children append, so they go on. */
export async function boundLogs(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter((n) => n.endsWith(".log"))) {
    const path = join(folder, name);
    const size = (await stat(path).catch(() => undefined))?.size ?? 0;
    if (size < LOG_BYTES) continue;
    await copyFile(path, `${path}.1`);
    await truncate(path, 0);
  }
  const old = await byAge(
    names.filter((n) => n.startsWith("replica-") && n.endsWith(".log")).map((n) => join(folder, n)),
  );
  for (const path of old.slice(REPLICA_LOGS_KEPT)) await rm(path, { force: true });
}

async function byAge(paths: readonly string[]): Promise<string[]> {
  const dated = await Promise.all(paths.map(async (path) => ({ path, ms: (await stat(path)).mtimeMs })));
  return dated.toSorted((a, b) => b.ms - a.ms).map((file) => file.path);
}
