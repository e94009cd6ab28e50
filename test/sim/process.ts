// A simulated operating-system process: the only way by which time and answers reach the code that runs in it.
// P1 After `kill` nothing is ever delivered again: no answer, no timer, no abort, and no `finally` runs, as after kill -9.
// P2 While paused nothing is delivered either, and time goes on; `resume` delivers in order what was held: a zombie wakes with old beliefs.
import type { Clock, VirtualClock } from "#kernel/base/clock.ts";

export class SimProcess {
  readonly name: string;
  readonly clock: Clock;
  readonly #killed = new AbortController();
  #state: "running" | "paused" | "dead" = "running";
  #held: (() => void)[] = [];

  constructor(name: string, time: VirtualClock) {
    this.name = name;
    this.clock = {
      wallMs: () => time.wallMs(),
      monotonicMs: () => time.monotonicMs(),
      sleep: (ms, signal) => this.gate(time.sleep(ms, signal)),
      deadline: (ms) => {
        const over = new AbortController();
        const timeout = new DOMException("timed out", "TimeoutError");
        const fire = (): void => this.deliver(() => over.abort(timeout));
        void time.sleep(ms).then(fire);
        return over.signal;
      },
    };
  }

  get state(): "running" | "paused" | "dead" {
    return this.#state;
  }

  /** Aborts at the kill; for what stands outside of the process and has to let go of it. */
  get killed(): AbortSignal {
    return this.#killed.signal;
  }

  with(signal: AbortSignal | undefined): AbortSignal {
    return signal === undefined ? this.killed : AbortSignal.any([signal, this.killed]);
  }

  /** The outcome of something outside, as this process gets to see it (P1, P2). */
  gate<T>(outcome: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      outcome.then(
        (value) => this.deliver(() => resolve(value)),
        (thrown: unknown) => this.deliver(() => reject(thrown)),
      );
    });
  }

  deliver(act: () => void): void {
    if (this.#state === "dead") return;
    if (this.#state === "paused") this.#held.push(act);
    else act();
  }

  pause(): void {
    if (this.#state === "running") this.#state = "paused";
  }

  resume(): void {
    if (this.#state !== "paused") return;
    this.#state = "running";
    const held = this.#held;
    this.#held = [];
    for (const act of held) act();
  }

  kill(): void {
    this.#state = "dead";
    this.#held = [];
    this.#killed.abort(new DOMException(`${this.name} was killed`, "AbortError"));
  }
}
