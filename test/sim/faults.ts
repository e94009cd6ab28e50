// What goes wrong, when, by the seed. F1 Nothing goes wrong after `stop`: all that was broken is mended.
// F2 A kill waits for its victim's next steps and strikes just before or just after one has its effect.
import type { VirtualClock } from "#kernel/base/clock.ts";
import type { Rand } from "#kernel/base/rand.ts";
import type { Machine } from "./agent.ts";
import type { Network } from "./network.ts";
import type { Slot } from "./slot.ts";
import type { SimBucket } from "./store.ts";
import type { Trace } from "./trace.ts";

export type FaultOptions = {
  time: VirtualClock;
  rand: Rand;
  network: Network;
  machine: Machine;
  slots: readonly Slot[];
  buckets: readonly SimBucket[];
  trace: Trace;
};

/** Mean time between two faults, drawn once per seed from this range. */
const EVERY_MS = { least: 4_000, most: 30_000 };

export class Faults {
  readonly #options: FaultOptions;
  readonly #end = new AbortController();
  readonly #everyMs: number;
  #armed: { victim: Slot; steps: number; when: "before" | "after" } | undefined;

  constructor(options: FaultOptions) {
    this.#options = options;
    this.#everyMs = EVERY_MS.least + options.rand.below(EVERY_MS.most - EVERY_MS.least);
    options.network.strike = (by, when) => {
      const armed = this.#armed;
      if (armed === undefined || armed.victim.process !== by || armed.when !== when) return;
      armed.steps -= 1;
      if (armed.steps > 0) return;
      this.#armed = undefined;
      this.#killFor(armed.victim, `killed ${when} a step`);
    };
  }

  async run(): Promise<void> {
    const { time, rand } = this.#options;
    for (;;) {
      await time.sleep(rand.below(2 * this.#everyMs), this.#end.signal).catch(() => undefined);
      if (this.#end.signal.aborted) return;
      this.#one();
    }
  }

  /** F1. */
  stop(): void {
    const { network, machine, slots, trace } = this.#options;
    this.#end.abort();
    this.#armed = undefined;
    network.calm();
    machine.crash = 0;
    machine.restart();
    for (const slot of slots) {
      slot.resume();
      slot.start();
    }
    trace.add({ kind: "faults-stopped" });
  }

  #one(): void {
    const { rand, slots, machine, buckets, time, network, trace } = this.#options;
    const victim = slots[rand.below(slots.length)];
    if (victim === undefined) return;
    switch (rand.below(7)) {
      case 0:
      case 1:
        this.#armed = { victim, steps: 1 + rand.below(25), when: rand.next() < 0.5 ? "before" : "after" };
        return;
      case 2:
        victim.pause();
        return this.#later(1_000 + rand.below(40_000), () => victim.resume());
      case 3:
        network.cut(victim.name, true);
        trace.add({ kind: "process", name: victim.name, what: "cut off" });
        return this.#later(1_000 + rand.below(30_000), () => {
          network.cut(victim.name, false);
          trace.add({ kind: "process", name: victim.name, what: "joined again" });
        });
      case 4:
        machine.kill();
        return this.#later(500 + rand.below(rand.next() < 0.3 ? 120_000 : 10_000), () => machine.restart());
      case 5:
        for (const bucket of buckets) bucket.resync();
        trace.add({ kind: "note", says: "the store tells every watcher to read again" });
        return;
      default:
        this.#killFor(victim, "killed");
        void time;
    }
  }

  #killFor(victim: Slot, what: string): void {
    victim.kill(what);
    this.#later(500 + this.#options.rand.below(20_000), () => victim.start());
  }

  #later(ms: number, act: () => void): void {
    void this.#options.time.sleep(ms, this.#end.signal).then(act, () => undefined);
  }
}
