// What of a replica lies on disk: the mark of each start, and the folder of its write-ahead files.
// P1 A mark is made once per (id, boot); it holds the last row number the replica reported, for an agent that comes later.
// P2 Write-ahead files of a replica that has ended go to the next replica of the same track on the node, which sends them under their own boot.
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";

export type Start = { id: string; boot: number; node: string; scope: string; track: number };

const TRACK_FILE = "track.json";

export class Places {
  readonly #nodes: string;

  constructor(nodes: string) {
    this.#nodes = nodes;
  }

  /** Folder of the replica's write-ahead files. */
  work({ node, id }: Start): string {
    return join(this.#nodes, node, "replicas", id);
  }

  /** Undefined for the first start of this (id, boot); else the last number its replica reported (P1). */
  async begin(start: Start): Promise<bigint | undefined> {
    const mark = this.#mark(start);
    await mkdir(join(mark, ".."), { recursive: true, mode: 0o700 });
    try {
      await writeFile(mark, "0", { flag: "wx", mode: 0o600 });
    } catch (thrown) {
      if (!(thrown instanceof Error && "code" in thrown && thrown.code === "EEXIST")) throw thrown;
      const number = await readFile(mark, "utf8");
      return BigInt(/^\d+$/.test(number) ? number : 0);
    }
    await mkdir(this.work(start), { recursive: true, mode: 0o700 });
    await writeFile(join(this.work(start), TRACK_FILE), trackOf(start));
    return undefined;
  }

  async note(start: Start, lastNumber: bigint): Promise<void> {
    await writeFile(this.#mark(start), String(lastNumber));
  }

  /** Takes over what ended replicas of the track left unsent; `inUse` are ids of living ones (P2). */
  async inherit(start: Start, inUse: ReadonlySet<string>): Promise<number> {
    const folder = join(this.#nodes, start.node, "replicas");
    let files = 0;
    for (const id of await readdir(folder)) {
      if (id === start.id || inUse.has(id)) continue;
      const from = join(folder, id);
      if ((await readFile(join(from, TRACK_FILE), "utf8").catch(() => "")) !== trackOf(start)) continue;
      for (const name of await unsent(from)) {
        await rename(join(from, name), join(this.work(start), name));
        files += 1;
      }
      await rm(from, { recursive: true, force: true });
    }
    return files;
  }

  /** Forgets a start that is wanted no more; its folder goes unless something is unsent. */
  async forget(start: Start): Promise<void> {
    await rm(this.#mark(start), { force: true });
    if ((await unsent(this.work(start))).length === 0) await rm(this.work(start), { recursive: true, force: true });
  }

  /** Removes marks of starts that nobody wants any more: called with the first wanted set. */
  async prune(wanted: readonly Start[]): Promise<void> {
    const keep = new Set(wanted.map((start) => this.#mark(start)));
    for (const node of await readdir(this.#nodes).catch(() => [])) {
      const folder = join(this.#nodes, node, "boots");
      for (const name of await readdir(folder).catch(() => []))
        if (!keep.has(join(folder, name))) await rm(join(folder, name), { force: true });
    }
  }

  #mark({ node, id, boot }: Start): string {
    return join(this.#nodes, node, "boots", `${id}.${boot}`);
  }
}

const trackOf = ({ scope, track }: Start): string => JSON.stringify({ scope, track });

async function unsent(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.filter((name) => name.endsWith(".wal"));
}
