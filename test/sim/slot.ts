// A place where a service runs: each start is a new process that knows nothing of the one before.
import type { VirtualClock } from "#kernel/base/clock.ts";
import { messageOf } from "#kernel/fault/error.ts";
import type { Network } from "./network.ts";
import { SimProcess } from "./process.ts";
import type { Seat } from "./store.ts";
import type { Trace } from "./trace.ts";

export type SlotOptions<S> = {
  name: string;
  time: VirtualClock;
  network: Network;
  trace: Trace;
  /** Planted: the process's monotonic clock stands still. */
  deposed?: boolean;
  /** Builds the service and sets it going; `ended` resolves when it ends by itself, which is a crash. */
  boot: (seat: Seat) => { service: S; ended: Promise<unknown> };
};

export class Slot<S = unknown> {
  readonly name: string;
  process: SimProcess | undefined;
  service: S | undefined;
  readonly #options: SlotOptions<S>;

  constructor(options: SlotOptions<S>) {
    this.#options = options;
    this.name = options.name;
  }

  get running(): boolean {
    return this.process?.state === "running";
  }

  start(): void {
    if (this.process !== undefined && this.process.state !== "dead") return;
    const { name, time, network, trace, boot, deposed } = this.#options;
    const process = new SimProcess(name, time);
    if (deposed === true) process.clock.monotonicMs = () => 0;
    this.process = process;
    trace.add({ kind: "process", name, what: "started" });
    const { service, ended } = boot({ process, network });
    this.service = service;
    ended.then(
      () => this.#crashed(process, "ended by itself"),
      (thrown: unknown) => this.#crashed(process, `crashed: ${messageOf(thrown)}`),
    );
  }

  kill(what = "killed"): void {
    if (this.process === undefined || this.process.state === "dead") return;
    this.process.kill();
    this.service = undefined;
    this.#options.trace.add({ kind: "process", name: this.name, what });
  }

  pause(): void {
    if (!this.running) return;
    this.process?.pause();
    this.#options.trace.add({ kind: "process", name: this.name, what: "paused" });
  }

  resume(): void {
    if (this.process?.state !== "paused") return;
    this.#options.trace.add({ kind: "process", name: this.name, what: "resumed" });
    this.process.resume();
  }

  /** A service that ends is a finding, and is started again as its agent would. */
  #crashed(process: SimProcess, what: string): void {
    if (process.state === "dead") return;
    this.kill(what);
    this.#options.trace.add({ kind: "crash", name: this.name, says: what });
    void this.#options.time.sleep(1_000).then(() => this.start());
  }
}
