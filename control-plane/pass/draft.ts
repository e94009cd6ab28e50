// One pass of decisions over a view: reads see what the pass has decided so far, writes are collected.
// D1 A pass is one atomic batch: either all of it holds or none. It stops taking on work before the batch is full.
// D2 An entity takes at most one arrow per pass, so whoever follows its key sees only legal steps.
// D3 Every write names the revision it read (or that there was none): repeating a pass is harmless.
// D4 A put that changes nothing is no write.
import { canonicalJson, sha256Hex } from "#kernel/base/bytes.ts";
import { ARROWS, moved } from "#kernel/domain/state.ts";
import type { Write } from "#kernel/store/ports.ts";
import { alike, type GroupedName, groupOf, type Held, type TableName, type Tables, type View } from "../world/door.ts";

/** A transition, as it goes to MESH_EVENT. */
export type Transition = {
  kind: keyof typeof ARROWS | "order" | "alias" | "version";
  model: string;
  scope: string;
  /** Key of what changed. */
  key: string;
  from: string;
  to: string;
  reason: string;
  numbers: Readonly<Record<string, number>>;
  actor: string;
  atMs: number;
};

/** What a pass decided. Blobs are stored before the batch, events are told after it. */
export type Decision = { writes: Write[]; blobs: Uint8Array[]; events: Transition[] };

/** Writes of one pass: a batch takes 999 with a guard and an entity needs a few, but a pass should stay short (10 ms). */
const FULL = 400;
const REASON_MAX = 2_000;

type Change = { table: TableName; base: Held<unknown> | undefined; next: Held<unknown> | undefined };

export class Draft implements View {
  readonly nowMs: number;
  readonly base: View;
  readonly #changes = new Map<string, Change>();
  /** Changed keys by table and group. */
  readonly #groups = new Map<string, Set<string>>();
  readonly #stamps = new Map<TableName, number>();
  readonly #moved = new Set<string>();
  readonly #events: Transition[] = [];
  readonly #blobs = new Map<string, Uint8Array>();

  constructor(base: View, nowMs: number) {
    this.base = base;
    this.nowMs = nowMs;
  }

  get<K extends TableName>(table: K, key: string): Held<Tables[K]> | undefined {
    const change = this.#changes.get(key);
    return change === undefined ? this.base.get(table, key) : (change.next as Held<Tables[K]> | undefined);
  }

  all<K extends TableName>(table: K): Held<Tables[K]>[] {
    const all = this.base.all(table).flatMap((held) => {
      const change = this.#changes.get(held.key);
      return change === undefined ? [held] : ((change.next as Held<Tables[K]> | undefined) ?? []);
    });
    for (const { table: its, base, next } of this.#changes.values())
      if (its === table && base === undefined && next !== undefined) all.push(next as Held<Tables[K]>);
    return all;
  }

  of<K extends GroupedName>(table: K, group: string): Held<Tables[K]>[] {
    const base = this.base.of(table, group);
    const changed = this.#groups.get(`${table} ${group}`);
    if (changed === undefined) return base;
    const kept = base.filter(({ key }) => !this.#changes.has(key));
    const next = [...changed].flatMap((key) => (this.#changes.get(key)?.next as Held<Tables[K]> | undefined) ?? []);
    return [...kept, ...next];
  }

  stamp(table: TableName): number {
    return this.base.stamp(table) + (this.#stamps.get(table) ?? 0);
  }

  /** True when the pass should leave the rest to the next one (D1). */
  get full(): boolean {
    return this.#changes.size >= FULL;
  }

  /** Whether the entity at this key has taken its arrow in this pass (D2). */
  hasMoved(key: string): boolean {
    return this.#moved.has(key);
  }

  put<K extends TableName>(table: K, key: string, value: Tables[K]): void {
    const base = this.#changes.has(key) ? this.#changes.get(key)?.base : this.base.get(table, key);
    if (base !== undefined && alike(base.value, value)) {
      if (this.#changes.delete(key)) this.#touch(table, key, value);
      return;
    }
    this.#changes.set(key, { table, base, next: { key, value, revision: base?.revision ?? 0 } });
    this.#touch(table, key, value);
  }

  delete(table: TableName, key: string): void {
    const base = this.#changes.has(key) ? this.#changes.get(key)?.base : this.base.get(table, key);
    if (base === undefined) this.#changes.delete(key);
    else this.#changes.set(key, { table, base, next: undefined });
    this.#touch(table, key, base?.value);
  }

  #touch(table: TableName, key: string, value: unknown): void {
    this.#stamps.set(table, (this.#stamps.get(table) ?? 0) + 1);
    const group = value === undefined ? undefined : groupOf(table, key, value);
    if (group === undefined) return;
    const name = `${table} ${group}`;
    const keys = this.#groups.get(name) ?? new Set<string>();
    keys.add(key);
    this.#groups.set(name, keys);
  }

  /**
   * Notes the arrow `from` -> `to` of the entity at `key` and tells whether it may be taken in this pass; the caller then puts the new value.
   * Staying where one is, is always allowed and notes nothing.
   */
  arrow(kind: keyof typeof ARROWS, key: string, step: Step): boolean {
    if (step.from === step.to) return true;
    if (this.#moved.has(key)) return false;
    moved(kind, step.from, step.to);
    this.#moved.add(key);
    this.event({ kind, key, ...step });
    return true;
  }

  /** The first state of an entity: nothing moves it again in this pass. */
  begin(kind: keyof typeof ARROWS, key: string, step: Omit<Step, "from">): void {
    this.#moved.add(key);
    this.event({ kind, key, from: "", ...step });
  }

  event(event: Step & Pick<Transition, "kind" | "key">): void {
    const { kind, key, model, scope, from, to, actor } = event;
    const reason = shortened(event.reason ?? "");
    const numbers = event.numbers ?? {};
    this.#events.push({
      kind,
      key,
      model,
      scope,
      from,
      to,
      reason,
      numbers,
      actor: actor ?? "leader",
      atMs: this.nowMs,
    });
  }

  /** Content that must be in the blobs before the batch is written; its hash. */
  blob(content: Uint8Array): string {
    const sha256 = sha256Hex(content);
    this.#blobs.set(sha256, content);
    return sha256;
  }

  decision(): Decision {
    const writes = [...this.#changes].map(([key, { base, next }]): Write => {
      if (next === undefined) return { kind: "delete", key, revision: base?.revision ?? 0 };
      const value = encode(next.value);
      return base === undefined
        ? { kind: "create", key, value }
        : { kind: "update", key, value, revision: base.revision };
    });
    return { writes, blobs: [...this.#blobs.values()], events: [...this.#events] };
  }
}

export type Step = {
  model: string;
  scope: string;
  from: string;
  to: string;
  reason?: string;
  numbers?: Readonly<Record<string, number>>;
  actor?: string;
};

const encoder = new TextEncoder();
export const encode = (value: unknown): Uint8Array => encoder.encode(canonicalJson(value));

/** A reason that fits into any value. */
export const shortened = (reason: string): string =>
  reason.length <= REASON_MAX ? reason : `${reason.slice(0, REASON_MAX)}...`;
