// Time as an argument. Owns the only doors to the machine's clocks and timers.
// C1 Nothing outside kernel/base and kernel/process reads a clock or arms a timer.
// C2 `monotonicMs` never goes back; `wallMs` may.

/** A source of time and of waiting. Every wait takes a signal. */
export interface Clock {
  /** Milliseconds since the Unix epoch. */
  wallMs(): number;
  /** Milliseconds since an arbitrary start; never goes back. */
  monotonicMs(): number;
  /** Resolves after `ms` milliseconds, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** A signal that aborts with a TimeoutError after `ms` milliseconds. */
  deadline(ms: number): AbortSignal;
}

export const systemClock: Clock = {
  wallMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  sleep: (ms, signal) =>
    new Promise((resolve, reject) => {
      if (signal?.aborted === true) return reject(reasonOf(signal));
      const timer = setTimeout(finish, ms);
      function finish(): void {
        signal?.removeEventListener("abort", abort);
        resolve();
      }
      function abort(): void {
        clearTimeout(timer);
        reject(reasonOf(signal));
      }
      signal?.addEventListener("abort", abort, { once: true });
    }),
  // The platform takes whole milliseconds only.
  deadline: (ms) => AbortSignal.timeout(Math.max(0, Math.ceil(ms))),
};

function reasonOf(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof Error ? reason : new DOMException("aborted", "AbortError");
}

type Sleeper = { atMs: number; order: number; wake: () => void };

/** Virtual time for simulations and tests: moves only when told. */
export class VirtualClock implements Clock {
  #nowMs: number;
  #order = 0;
  readonly #sleepers: Sleeper[] = [];

  constructor(startMs = 1_000_000_000_000) {
    this.#nowMs = startMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted === true) return Promise.reject(reasonOf(signal));
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const sleeper: Sleeper = { atMs: this.#nowMs + ms, order: this.#order++, wake: resolve };
    this.#sleepers.push(sleeper);
    signal?.addEventListener(
      "abort",
      () => {
        const at = this.#sleepers.indexOf(sleeper);
        if (at >= 0) this.#sleepers.splice(at, 1);
        reject(reasonOf(signal));
      },
      { once: true },
    );
    return promise;
  }

  deadline(ms: number): AbortSignal {
    const controller = new AbortController();
    void this.sleep(ms).then(() => controller.abort(new DOMException("timed out", "TimeoutError")));
    return controller.signal;
  }

  /** The time of the next sleeper, or undefined when nobody sleeps. */
  nextMs(): number | undefined {
    return this.#next()?.atMs;
  }

  /** Moves to the next sleeper and wakes it; false when nobody sleeps. */
  step(): boolean {
    const next = this.#next();
    if (next === undefined) return false;
    this.#sleepers.splice(this.#sleepers.indexOf(next), 1);
    this.#nowMs = Math.max(this.#nowMs, next.atMs);
    next.wake();
    return true;
  }

  #next(): Sleeper | undefined {
    let best: Sleeper | undefined;
    for (const s of this.#sleepers) {
      if (best === undefined || s.atMs < best.atMs || (s.atMs === best.atMs && s.order < best.order)) best = s;
    }
    return best;
  }
}
