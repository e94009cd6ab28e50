// Runs somebody else's program within limits: wall time, memory of its whole process tree, size of its log.
// L1 When this resolves, every process of the tree has ended. L2 The program gets no environment and no descriptor of ours.
import { spawn } from "node:child_process";
import { open, type FileHandle } from "node:fs/promises";
import type { Readable } from "node:stream";
import type { Clock } from "#kernel/base/clock.ts";
import type { ProcessMark } from "#kernel/domain/host.ts";
import { exitSentence, isAlive, markOf, signalGroup, treeOf } from "../children/door.ts";

const POLL_MS = 100;
const LOG_BYTES = 4 * 1024 * 1024;

export type LimitedSpec = {
  command: readonly string[];
  cwd: string;
  env: Readonly<Record<string, string>>;
  log: string;
  timeoutMs: number;
  memoryBytes: number;
  /** Told the process as soon as it exists, so that a later agent can end it. */
  started?: (mark: ProcessMark) => void;
};

/** How it ended. */
export type Ended =
  | { kind: "exited"; code: number }
  | { kind: "signalled"; signal: string }
  | { kind: "timed-out" }
  | { kind: "out-of-memory" }
  | { kind: "cancelled" }
  | { kind: "not-started"; why: string };

/** Runs the program to its end or to a limit. */
export async function runLimited(spec: LimitedSpec, clock: Clock, signal: AbortSignal): Promise<Ended> {
  if (signal.aborted) return { kind: "cancelled" };
  const [program = "", ...args] = spec.command;
  await using log = await open(spec.log, "a", 0o600);
  const child = spawn(program, args, {
    cwd: spec.cwd,
    env: { ...spec.env },
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const exit = Promise.withResolvers<Ended>();
  child.once("error", (error) => exit.resolve({ kind: "not-started", why: error.message }));
  child.once("exit", (code, killedBy) =>
    exit.resolve(killedBy === null ? { kind: "exited", code: code ?? 1 } : { kind: "signalled", signal: killedBy }),
  );
  const budget = { left: LOG_BYTES };
  const copying = [child.stdout, child.stderr].map((stream) => copyBounded(stream, log, budget));
  const tree = new Map<number, ProcessMark>();
  try {
    if (child.pid === undefined) return await exit.promise;
    const root = await markOf(child.pid);
    tree.set(root.pid, root);
    spec.started?.(root);
    const done = new AbortController();
    const ended = exit.promise.finally(() => done.abort());
    const stopped = await guard(spec, { root: root.pid, tree, clock }, AbortSignal.any([done.signal, signal]));
    if (stopped !== undefined) signalGroup(root.pid, "SIGKILL");
    const how = await ended;
    if (stopped !== undefined) return stopped;
    return signal.aborted ? { kind: "cancelled" } : how;
  } finally {
    await endTree(child.pid, tree, clock);
    child.stdout.destroy();
    child.stderr.destroy();
    await Promise.allSettled(copying);
  }
}

/** Watches the limits until the program ends; says which one was passed. */
async function guard(
  spec: LimitedSpec,
  { root, tree, clock }: { root: number; tree: Map<number, ProcessMark>; clock: Clock },
  signal: AbortSignal,
): Promise<Ended | undefined> {
  const untilMs = clock.monotonicMs() + spec.timeoutMs;
  while (!signal.aborted) {
    const rows = await treeOf(root);
    for (const { pid } of rows) if (!tree.has(pid)) tree.set(pid, await markOf(pid));
    const rssBytes = rows.reduce((sum, row) => sum + row.rssBytes, 0);
    if (rssBytes > spec.memoryBytes) return { kind: "out-of-memory" };
    if (clock.monotonicMs() >= untilMs) return { kind: "timed-out" };
    await clock.sleep(Math.min(POLL_MS, Math.max(1, untilMs - clock.monotonicMs())), signal).catch(() => undefined);
  }
  const reason: unknown = signal.reason;
  return reason instanceof DOMException && reason.message === CANCELLED ? { kind: "cancelled" } : undefined;
}

const CANCELLED = "the run is not wanted any more";
/** The reason to abort a run's signal with. */
export const cancelled = (): DOMException => new DOMException(CANCELLED, "AbortError");

/** Kills what is left of the tree, also what moved to a session of its own (L1). */
async function endTree(root: number | undefined, tree: Map<number, ProcessMark>, clock: Clock): Promise<void> {
  if (root === undefined) return;
  for (let round = 0; round < 100; round++) {
    for (const { pid } of await treeOf(root)) if (!tree.has(pid)) tree.set(pid, await markOf(pid));
    signalGroup(root, "SIGKILL");
    const alive: ProcessMark[] = [];
    for (const mark of tree.values()) if (mark.began !== "" && (await isAlive(mark))) alive.push(mark);
    if (alive.length === 0) return;
    for (const { pid } of alive) kill(pid);
    await clock.sleep(10);
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // Gone in the meantime.
  }
}

async function copyBounded(from: Readable, to: FileHandle, budget: { left: number }): Promise<void> {
  for await (const chunk of from as AsyncIterable<Buffer>) {
    if (budget.left <= 0) continue;
    const part = chunk.subarray(0, budget.left);
    budget.left -= part.length;
    await to.appendFile(part);
    if (budget.left <= 0) await to.appendFile("\n... the log is full: what follows is left out\n");
  }
}

/** The sentence of an end that is no success; undefined for exit code 0. */
export function endSentence(
  ended: Ended,
  who: string,
  limits: { timeoutMs: number; memoryBytes: number },
): string | undefined {
  switch (ended.kind) {
    case "exited":
      return ended.code === 0 ? undefined : `${who} ${exitSentence({ code: ended.code, signal: null })}`;
    case "signalled":
      return `${who} was ended by ${ended.signal}`;
    case "timed-out":
      return `${who} was stopped after ${Math.round(limits.timeoutMs / 100) / 10} s`;
    case "out-of-memory":
      return `${who} used more than ${Math.round(limits.memoryBytes / 1024 ** 2)} MiB`;
    case "cancelled":
      return CANCELLED;
    case "not-started":
      return `${who} could not be started: ${ended.why}`;
  }
}
