// One launcher per data folder. nats-server itself does not lock its store: two servers on one folder both acknowledge the same sequences.
// K1 The lock is the highest-numbered file `.lock.<n>`; it appears whole (link of a finished file) and its number is never given out twice.
// K2 An owner is alive when its pid exists *and* that process began when the lock says: a pid used again by another program holds nothing.
// K3 A dead owner's lock is taken over by making the next number, which only one can do.
import { execFile } from "node:child_process";
import { link, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { MeshError } from "../fault/error.ts";

export type ProcessId = { pid: number; began: string };
export type FolderLock = AsyncDisposable & { readonly dir: string };

let attempts = 0;
const NAME = /^\.lock\.(\d+)$/;

/** Takes the folder for this process; DM-6005 names the pid of whoever has it. */
export async function lockDataFolder(dir: string): Promise<FolderLock> {
  await mkdir(dir, { recursive: true });
  const began = await processBegan(process.pid);
  const mine = join(dir, `.lock-${process.pid}-${attempts++}`);
  await writeFile(mine, JSON.stringify({ pid: process.pid, began: began ?? "" }), { mode: 0o600 });
  try {
    return await take(dir, mine);
  } finally {
    await rm(mine, { force: true });
  }
}

async function take(dir: string, mine: string): Promise<FolderLock> {
  for (;;) {
    const highest = await highestLock(dir);
    const owner = await readOwner(join(dir, `.lock.${highest}`));
    if (owner !== undefined && (await isAlive(owner))) {
      throw new MeshError("DM-6005", `data folder ${dir} is in use by another mesh with pid ${owner.pid}`);
    }
    const path = join(dir, `.lock.${highest + 1}`);
    if (!(await linked(mine, path))) continue;
    // Somebody who is ahead of us may have removed numbers that we thought were the newest.
    if ((await highestLock(dir)) > highest + 1) {
      await rm(path, { force: true });
      continue;
    }
    await removeBelow(dir, highest + 1);
    return { dir, [Symbol.asyncDispose]: () => writeFile(path, "") };
  }
}

/** Whether this very process still runs (K2). */
export async function isAlive(who: ProcessId): Promise<boolean> {
  const began = await processBegan(who.pid);
  return began !== undefined && began === who.began;
}

/** When a process began, as text to compare; undefined when there is none (or only its unreaped rest). */
export async function processBegan(pid: number): Promise<string | undefined> {
  if (process.platform === "linux") {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
    // The command, in parentheses, may hold anything; fields are counted from behind it. Field 3 is the state, field 22 the start.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields.length < 20 || fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
  }
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  execFile("ps", ["-o", "lstart=", "-p", String(pid)], (error, out) =>
    resolve(error === null && out.trim() !== "" ? out.trim() : undefined),
  );
  return promise;
}

async function highestLock(dir: string): Promise<number> {
  let highest = 0;
  for (const name of await readdir(dir)) highest = Math.max(highest, Number(NAME.exec(name)?.[1] ?? 0));
  return highest;
}

async function removeBelow(dir: string, number: number): Promise<void> {
  for (const name of await readdir(dir)) {
    const found = Number(NAME.exec(name)?.[1] ?? number);
    if (found < number) await rm(join(dir, name), { force: true });
  }
}

async function readOwner(path: string): Promise<ProcessId | undefined> {
  const text = await readFile(path, "utf8").catch(() => "");
  return parseProcessId(text);
}

export function parseProcessId(text: string): ProcessId | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== "object" || value === null || !("pid" in value) || !("began" in value)) return undefined;
    return typeof value.pid === "number" && typeof value.began === "string"
      ? { pid: value.pid, began: value.began }
      : undefined;
  } catch {
    return undefined;
  }
}

async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (thrown) {
    if (thrown instanceof Error && "code" in thrown && thrown.code === "EEXIST") return false;
    throw thrown;
  }
}
