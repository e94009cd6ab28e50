// The control plane's view of both buckets, in memory: rebuilt from the watch, read by everybody, written by nobody but the followers.
// W1 A key's revision never goes back, except in a resync, which replaces the whole prefix at once.
// W2 Own writes are applied as soon as they are acknowledged, so that an instance reads what it has written.
// W3 `seen` tells how far the watch of mesh_state has come: whoever decides waits until it has seen what was written before.
import { Cell } from "#kernel/base/queue.ts";
import type { Entry, Write } from "#kernel/store/ports.ts";
import { type GroupedName, groupOf, TABLE_NAMES, type TableName, type Tables, tableOf } from "./tables.ts";

/** One key's value. */
export type Held<T> = { readonly key: string; readonly value: T; readonly revision: number };

/** Reads; implemented by the world and by a draft on top of it. */
export interface View {
  get<K extends TableName>(table: K, key: string): Held<Tables[K]> | undefined;
  all<K extends TableName>(table: K): Held<Tables[K]>[];
  /** Entries of one group: replicas of a workload, runs of a model (see GROUPINGS). */
  of<K extends GroupedName>(table: K, group: string): Held<Tables[K]>[];
  /** Grows with each change of the table: what was computed from it holds while this stays. */
  stamp(table: TableName): number;
  /** What a draft lies on. */
  readonly base?: View;
}

type Maps = { [K in TableName]: Map<string, Held<Tables[K]>> };

export class World implements View {
  /** Counts changes; readers wait on it. */
  readonly changes = new Cell(0);
  readonly #maps: Maps;
  readonly #groups = new Map<string, Map<string, Held<unknown>>>();
  readonly #stamps = new Map<TableName, number>();
  #unsynced = new Set<string>();
  #seen = 0;
  #lease: { holder: string; term: number; seenMs: number } | undefined;

  constructor() {
    const maps: Record<string, Map<string, unknown>> = {};
    for (const name of TABLE_NAMES) maps[name] = new Map();
    this.#maps = maps as Maps;
  }

  get<K extends TableName>(table: K, key: string): Held<Tables[K]> | undefined {
    return this.#maps[table].get(key);
  }

  all<K extends TableName>(table: K): Held<Tables[K]>[] {
    return [...this.#maps[table].values()];
  }

  of<K extends GroupedName>(table: K, group: string): Held<Tables[K]>[] {
    return [...(this.#groups.get(`${table} ${group}`)?.values() ?? [])] as Held<Tables[K]>[];
  }

  stamp(table: TableName): number {
    return this.#stamps.get(table) ?? 0;
  }

  /** True when every followed prefix has been seen whole. */
  get synced(): boolean {
    return this.#unsynced.size === 0;
  }

  /** Every change of mesh_state up to this revision has been seen; 0 while a snapshot is being read (W3). */
  get seen(): number {
    return this.#seen;
  }

  sawUpTo(revision: number): void {
    this.#seen = revision;
    this.#changed();
  }

  markUnsynced(prefix: string): void {
    this.#unsynced.add(prefix);
  }

  markSynced(prefix: string): void {
    this.#unsynced.delete(prefix);
    this.#changed();
  }

  /** Who holds the lease as last seen; `seenMs` is this process's monotonic time of the last heartbeat. */
  get lease(): { holder: string; term: number; seenMs: number } | undefined {
    return this.#lease;
  }

  sawLease(value: Uint8Array, nowMs: number): void {
    const { holder = "", term = 0 } = parse(value) as { holder?: string; term?: number };
    const changed = this.#lease?.holder !== holder;
    this.#lease = { holder, term, seenMs: nowMs };
    if (changed) this.#changed();
  }

  /** Takes an entry of the store; older revisions than the known one are ignored unless `reset`. */
  put(entry: Entry, reset = false): void {
    const table = tableOf(entry.key);
    if (table === undefined) return;
    const map: Map<string, Held<unknown>> = this.#maps[table];
    const known = map.get(entry.key);
    if (!reset && known !== undefined && known.revision >= entry.revision) return;
    this.#set(table, { key: entry.key, value: parse(entry.value), revision: entry.revision });
    this.#changed();
  }

  delete(key: string, revision: number): void {
    const table = tableOf(key);
    if (table === undefined) return;
    const known = this.#maps[table].get(key);
    if (known === undefined || known.revision > revision) return;
    this.#remove(table, key);
    this.#changed();
  }

  /** Forgets every key of `prefix` that is not in `keep`: the end of a snapshot. */
  retain(prefix: string, keep: ReadonlySet<string>, tables: readonly TableName[]): void {
    for (const table of tables)
      for (const key of this.#maps[table].keys())
        if (key.startsWith(prefix) && !keep.has(key)) this.#remove(table, key);
    this.#changed();
  }

  /** Applies a batch that was written; `last` is the revision of its last write (W2). */
  applyWritten(writes: readonly Write[], last: number): void {
    writes.forEach((write, i) => {
      const revision = last - (writes.length - 1 - i);
      if (write.kind === "delete") this.delete(write.key, revision);
      else this.put({ key: write.key, value: write.value, revision });
    });
  }

  #set(table: TableName, held: Held<unknown>): void {
    const map: Map<string, Held<unknown>> = this.#maps[table];
    map.set(held.key, held);
    this.#stamps.set(table, this.stamp(table) + 1);
    const group = groupOf(table, held.key, held.value);
    if (group === undefined) return;
    const name = `${table} ${group}`;
    const members = this.#groups.get(name) ?? new Map<string, Held<unknown>>();
    members.set(held.key, held);
    this.#groups.set(name, members);
  }

  #remove(table: TableName, key: string): void {
    const held: Held<unknown> | undefined = this.#maps[table].get(key);
    if (held === undefined) return;
    this.#maps[table].delete(key);
    this.#stamps.set(table, this.stamp(table) + 1);
    const name = `${table} ${groupOf(table, key, held.value)}`;
    const members = this.#groups.get(name);
    members?.delete(key);
    if (members?.size === 0) this.#groups.delete(name);
  }

  #changed(): void {
    this.changes.set(this.changes.get().value + 1);
  }
}

const decoder = new TextDecoder();
function parse(value: Uint8Array): unknown {
  return JSON.parse(decoder.decode(value));
}
