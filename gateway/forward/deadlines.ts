// Deadlines of calls in flight, checked by one sweep instead of a timer for each call.
// D1 A call that is removed is never expired. D2 Expiry is late by at most one sweep.
import type { Clock } from "#kernel/base/clock.ts";

const SWEEP_MS = 25;
const UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1_000, m: 1, u: 1e-3, n: 1e-6 };

/** A call that can run out of time. */
export type Expiring = { untilMs: number; expire(): void };

export class Deadlines {
  readonly #calls = new Set<Expiring>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Monotonic milliseconds `ms` from now. */
  after(ms: number): number {
    return this.#clock.monotonicMs() + ms;
  }

  add(call: Expiring): void {
    this.#calls.add(call);
  }

  remove(call: Expiring): void {
    this.#calls.delete(call);
  }

  /** Sweeps until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const nowMs = this.#clock.monotonicMs();
      for (const call of this.#calls) {
        if (call.untilMs > nowMs) continue;
        this.#calls.delete(call);
        call.expire();
      }
      await this.#clock.sleep(SWEEP_MS, signal).catch(() => undefined);
    }
  }
}

/** Milliseconds of a `grpc-timeout` header ("100m", "5S"), or of `connect-timeout-ms`; undefined when there is none or it is not one. */
export function timeoutMsOf(headers: Readonly<Record<string, string | string[] | undefined>>): number | undefined {
  const connect = headers["connect-timeout-ms"];
  if (typeof connect === "string" && /^\d{1,10}$/.test(connect)) return Number(connect);
  const grpc = headers["grpc-timeout"];
  if (typeof grpc !== "string") return undefined;
  const match = /^(\d{1,8})([HMSmun])$/.exec(grpc);
  const unitMs = UNIT_MS[match?.[2] ?? ""];
  return match === null || unitMs === undefined ? undefined : Number(match[1]) * unitMs;
}
