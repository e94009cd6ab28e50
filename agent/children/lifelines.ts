// The lifelines of the children: who they are, how they are, and the word to leave. Each child holds one stream for as long as it lives.
// L1 A name belongs to its newest stream: what an older process of that name still says is ignored.
import { Cell } from "#kernel/base/queue.ts";

/** What a child said of itself last. */
export type Held = { pid: number; state: string; address: string; reason: string; lastNumber: bigint };
/** One message of a child. */
export type HoldSaid = { child: string } & Held;
/** One message to a child. */
export type HoldTold = { drain: boolean; graceMs: number };

type Line = { held: Held; told: Cell<HoldTold | undefined> };

export class Lifelines {
  readonly #lines = new Map<string, Line>();
  readonly #changes = new Cell(0);

  /** Changes whenever a child says something or goes. */
  get changes(): Cell<number> {
    return this.#changes;
  }

  of(name: string): Held | undefined {
    return this.#lines.get(name)?.held;
  }

  /** Tells a child to leave; false when it holds no line (then a signal must do). */
  drain(name: string, graceMs: number): boolean {
    const line = this.#lines.get(name);
    line?.told.set({ drain: true, graceMs });
    return line !== undefined;
  }

  /** One child's stream: reads what it says, yields what it is told, ends when it goes. */
  async *hold(said: AsyncIterable<HoldSaid>, signal: AbortSignal): AsyncGenerator<HoldTold> {
    const gone = new AbortController();
    const told = new Cell<HoldTold | undefined>(undefined);
    const names = new Set<string>();
    const reading = this.#read(said, told, names).finally(() => gone.abort());
    const ended = AbortSignal.any([signal, gone.signal]);
    try {
      for (let seen = 0; !ended.aborted;) {
        await told.changed(seen, ended);
        const { value, version } = told.get();
        seen = version;
        if (value !== undefined && !ended.aborted) yield value;
      }
    } finally {
      for (const name of names) if (this.#lines.get(name)?.told === told) this.#lines.delete(name);
      this.#changed();
    }
    await reading.catch(() => undefined);
  }

  async #read(said: AsyncIterable<HoldSaid>, told: Cell<HoldTold | undefined>, names: Set<string>): Promise<void> {
    try {
      for await (const { child, ...held } of said) {
        const line = this.#lines.get(child);
        // L1: a new stream takes the name over; an old one keeps quiet.
        if (line !== undefined && line.told !== told && names.has(child)) continue;
        names.add(child);
        this.#lines.set(child, { held, told });
        this.#changed();
      }
    } catch {
      // The stream broke: the child's exit is what counts.
    }
  }

  #changed(): void {
    this.#changes.set(this.#changes.get().value + 1);
  }
}
