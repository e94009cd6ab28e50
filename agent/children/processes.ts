// What the operating system knows of processes: groups, trees, memory. Linux reads /proc, other systems ask ps.
// P1 A process is signalled only while pid and start moment both match.
import { execFile } from "node:child_process";
import { readFile, readdir } from "node:fs/promises";
import type { Clock } from "#kernel/base/clock.ts";
import type { ProcessMark } from "#kernel/domain/host.ts";
import { isAlive, processBegan } from "#kernel/store/lock.ts";

export { isAlive };

/** The mark of a running process; `began` is empty when it has gone already. */
export async function markOf(pid: number): Promise<ProcessMark> {
  return { pid, began: (await processBegan(pid)) ?? "" };
}

/** Signals a process and its group; silent when it has gone. */
export function signalGroup(pid: number, signal: NodeJS.Signals): void {
  for (const target of [-pid, pid]) {
    try {
      process.kill(target, signal);
    } catch {
      // Gone, which is what the signal was for.
    }
  }
}

/** SIGTERM, SIGKILL after `graceMs`; resolves when every marked process is gone (P1). */
export async function endAll(marks: readonly ProcessMark[], graceMs: number, clock: Clock): Promise<void> {
  await Promise.all(
    marks.map(async (mark) => {
      if (!(await isAlive(mark))) return;
      signalGroup(mark.pid, "SIGTERM");
      const killAtMs = clock.monotonicMs() + graceMs;
      for (let killed = false; await isAlive(mark); await clock.sleep(20)) {
        if (killed || clock.monotonicMs() < killAtMs) continue;
        signalGroup(mark.pid, "SIGKILL");
        killed = true;
      }
    }),
  );
}

type Row = { pid: number; parent: number; session: number; rssBytes: number };

/** Processes below `root`: its session and every descendant, with their resident memory. */
export async function treeOf(root: number): Promise<readonly { pid: number; rssBytes: number }[]> {
  const rows = process.platform === "linux" ? await linuxRows() : await psRows();
  const inside = new Set(rows.filter((row) => row.session === root || row.pid === root).map((row) => row.pid));
  for (let grew = true; grew;) {
    grew = false;
    for (const row of rows) {
      if (inside.has(row.pid) || !inside.has(row.parent)) continue;
      inside.add(row.pid);
      grew = true;
    }
  }
  return rows.filter((row) => inside.has(row.pid));
}

// statm and stat count pages; every Linux this runs on (x64, arm64 with the usual kernels) has 4 KiB ones.
const PAGE_BYTES = 4096;

async function linuxRows(): Promise<Row[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const rows = await Promise.all(
    pids.map(async (pid): Promise<Row | undefined> => {
      const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (fields.length < 22) return undefined;
      const [, parent, , session] = fields.map(Number);
      return {
        pid: Number(pid),
        parent: parent ?? 0,
        session: session ?? 0,
        rssBytes: Number(fields[21]) * PAGE_BYTES,
      };
    }),
  );
  return rows.filter((row) => row !== undefined);
}

async function psRows(): Promise<Row[]> {
  const { promise, resolve } = Promise.withResolvers<string>();
  execFile("ps", ["-A", "-o", "pid=,ppid=,pgid=,rss="], (error, out) => resolve(error === null ? out : ""));
  return (await promise).split("\n").flatMap((line) => {
    const [pid, parent, session, rss] = line.trim().split(/\s+/).map(Number);
    return pid === undefined || rss === undefined
      ? []
      : [{ pid, parent: parent ?? 0, session: session ?? 0, rssBytes: rss * 1024 }];
  });
}
