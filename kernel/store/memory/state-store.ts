// A StateStore in memory: simulations and unit tests run on it. Deterministic, no timers, one process.
// M1 A write is one synchronous step, so a batch is never half seen.
// M2 A slow watcher holds at most two events per key, that of its snapshot and the newest: it may skip revisions, never the newest.
import { checkBatch, checkKey, checkPrefix } from "../check.ts";
import type { Entry, Guard, StateStore, WatchEvent, Write, WriteResult } from "../ports.ts";

export class MemoryStateStore implements StateStore {
  readonly #entries = new Map<string, Entry>();
  readonly #watchers = new Set<Watcher>();
  /** Revisions of the last delete of keys that do not exist. */
  readonly #deleted = new Map<string, number>();
  #revision = 0;

  get(key: string): Promise<Entry | undefined> {
    checkKey(key);
    return Promise.resolve(this.#entries.get(key));
  }

  list(prefix: string): Promise<Entry[]> {
    checkPrefix(prefix);
    return Promise.resolve(this.#under(prefix).toSorted(byKey));
  }

  write(write: Write, guard?: Guard): Promise<WriteResult> {
    return this.batch([write], guard);
  }

  async batch(writes: readonly Write[], guard?: Guard): Promise<WriteResult> {
    checkBatch(writes, guard);
    if (guard !== undefined && this.#lastRevision(guard.key) !== guard.revision) return { kind: "fenced" };
    for (const write of writes) if (!this.#expected(write)) return { kind: "stale", key: write.key };
    for (const write of writes) this.#apply(write);
    return { kind: "written", revision: this.#revision };
  }

  async *watch(prefix: string, signal: AbortSignal): AsyncGenerator<WatchEvent> {
    checkPrefix(prefix);
    const watcher = new Watcher(prefix);
    for (const entry of this.#under(prefix).toSorted((a, b) => a.revision - b.revision))
      watcher.offer({ kind: "put", entry }, "snapshot");
    watcher.offer({ kind: "synced" });
    this.#watchers.add(watcher);
    const stop = (): void => watcher.close();
    signal.addEventListener("abort", stop, { once: true });
    try {
      while (!signal.aborted) {
        const event = watcher.take();
        if (event !== undefined) yield event;
        else if (watcher.closed) return;
        else await watcher.offered();
      }
    } finally {
      signal.removeEventListener("abort", stop);
      this.#watchers.delete(watcher);
    }
  }

  close(): Promise<void> {
    for (const watcher of this.#watchers) watcher.close();
    return Promise.resolve();
  }

  /** A copy of everything, for `restore`. */
  snapshot(): { revision: number; entries: Entry[] } {
    return { revision: this.#revision, entries: [...this.#entries.values()] };
  }

  /** Puts a snapshot back, as a restored backup or a rolled-back disk does: watchers are told to resync. */
  restore(snapshot: { revision: number; entries: readonly Entry[] }): void {
    this.#revision = snapshot.revision;
    this.#entries.clear();
    this.#deleted.clear();
    for (const entry of snapshot.entries) this.#entries.set(entry.key, entry);
    for (const watcher of this.#watchers) {
      watcher.clear();
      watcher.offer({ kind: "resync" });
      for (const entry of this.#under(watcher.prefix)) watcher.offer({ kind: "put", entry }, "snapshot");
      watcher.offer({ kind: "synced" });
    }
  }

  #under(prefix: string): Entry[] {
    return [...this.#entries.values()].filter((entry) => entry.key.startsWith(prefix));
  }

  #expected(write: Write): boolean {
    if (write.kind === "put") return true;
    if (write.kind === "create") return !this.#entries.has(write.key);
    return this.#lastRevision(write.key) === write.revision;
  }

  #lastRevision(key: string): number | undefined {
    return this.#entries.get(key)?.revision ?? this.#deleted.get(key);
  }

  #apply(write: Write): void {
    const revision = ++this.#revision;
    if (write.kind === "delete") {
      this.#entries.delete(write.key);
      this.#deleted.set(write.key, revision);
      this.#tell(write.key, { kind: "delete", key: write.key, revision });
      return;
    }
    const entry: Entry = { key: write.key, value: write.value.slice(), revision };
    this.#entries.set(write.key, entry);
    this.#tell(write.key, { kind: "put", entry });
  }

  #tell(key: string, event: WatchEvent): void {
    for (const watcher of this.#watchers) if (key.startsWith(watcher.prefix)) watcher.offer(event);
  }
}

/** Events one watcher has not taken yet (M2). What belongs before `synced` stays before it. */
class Watcher {
  readonly prefix: string;
  closed = false;
  #pending = new Map<string, WatchEvent>();
  #offered = Promise.withResolvers<void>();

  constructor(prefix: string) {
    this.prefix = prefix;
  }

  offer(event: WatchEvent, part: "snapshot" | "change" = "change"): void {
    const slot = `${part} ${slotOf(event)}`;
    this.#pending.delete(slot);
    this.#pending.set(slot, event);
    this.#wake();
  }

  take(): WatchEvent | undefined {
    for (const [slot, event] of this.#pending) {
      this.#pending.delete(slot);
      return event;
    }
    return undefined;
  }

  async offered(): Promise<void> {
    await this.#offered.promise;
  }

  clear(): void {
    this.#pending.clear();
  }

  close(): void {
    this.closed = true;
    this.#wake();
  }

  #wake(): void {
    const offered = this.#offered;
    this.#offered = Promise.withResolvers<void>();
    offered.resolve();
  }
}

function slotOf(event: WatchEvent): string {
  if (event.kind === "put") return `key ${event.entry.key}`;
  return event.kind === "delete" ? `key ${event.key}` : event.kind;
}

function byKey(a: Entry, b: Entry): number {
  return a.key < b.key ? -1 : 1;
}
