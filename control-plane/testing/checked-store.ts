// A state store in memory that fails the test when a write breaks a promise of the domain.
// Checked at every batch: states only along the arrows, first states, no boot twice, no key of the API changed by the leader.
import { ARROWS, moved } from "#kernel/domain/state.ts";
import { MemoryStateStore } from "#kernel/store/memory/state-store.ts";
import type { Guard, Write, WriteResult } from "#kernel/store/ports.ts";

const FIRST: Readonly<Record<keyof typeof ARROWS, string>> = {
  deployment: "Offered",
  workload: "Starting",
  replica: "Wanted",
  run: "Pending",
  rollout: "Preparing",
};
const ONCE = /^(version\.|dep\.[^.]+\.(spec|ack|end)$|order\.)/;

export class CheckedStateStore extends MemoryStateStore {
  /** What was broken; tests expect it to be empty. */
  readonly broken: string[] = [];
  readonly #boots = new Set<number>();

  override async batch(writes: readonly Write[], guard?: Guard): Promise<WriteResult> {
    const before = await Promise.all(writes.map(({ key }) => this.get(key)));
    const result = await super.batch(writes, guard);
    if (result.kind === "written")
      writes.forEach((write, i) => this.#check(write, before[i] === undefined ? undefined : parse(before[i].value)));
    return result;
  }

  #check(write: Write, before: Fields | undefined): void {
    const { key } = write;
    if (write.kind === "delete") return;
    const after = parse(write.value);
    if (ONCE.test(key) && before !== undefined) this.broken.push(`${key} is written twice`);
    const kind = kindOf(key);
    if (kind === undefined) return;
    const [from, to] = [stateOf(before), stateOf(after)];
    if (from === undefined && to !== FIRST[kind]) this.broken.push(`${key} begins as ${to}`);
    try {
      if (from !== undefined && to !== undefined) moved(kind, from, to);
    } catch (thrown) {
      this.broken.push(`${key}: ${String(thrown)}`);
    }
    if (kind === "replica" && before === undefined) {
      const boot = Number(after["boot"]);
      if (this.#boots.has(boot)) this.broken.push(`boot ${boot} is given twice`);
      this.#boots.add(boot);
    }
  }
}

type Fields = Readonly<Record<string, unknown>>;
const parse = (value: Uint8Array): Fields => JSON.parse(new TextDecoder().decode(value)) as Fields;

function kindOf(key: string): keyof typeof ARROWS | undefined {
  if (/^dep\.[^.]+\.status$/.test(key)) return "deployment";
  const first = key.split(".")[0] ?? "";
  return first === "workload" || first === "replica" || first === "run" || first === "rollout" ? first : undefined;
}

function stateOf(value: Fields | undefined): string | undefined {
  const state = value?.["state"] ?? value?.["phase"] ?? value?.["stage"];
  return typeof state === "string" ? state : undefined;
}
