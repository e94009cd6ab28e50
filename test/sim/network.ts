// What lies between a process and the store, the log, or another process: delays, losses and repeats drawn from the seed.
// W1 A call that fails may have had its effect, may still have it later, or may never: the caller sees the same error.
// W2 Once faults have stopped every call answers after some milliseconds.
import type { VirtualClock } from "#kernel/base/clock.ts";
import type { Rand } from "#kernel/base/rand.ts";
import { MeshError } from "#kernel/fault/error.ts";
import type { SimProcess } from "./process.ts";

/** Chances per call, drawn once per seed so that each seed has a weather of its own. */
export type Weather = {
  requestLost: number;
  answerLost: number;
  /** The caller gives up, and the effect comes afterwards. */
  late: number;
  slow: number;
  twice: number;
  /** A watch that lags, and so skips revisions. */
  watchLag: number;
};

export const CALM: Weather = { requestLost: 0, answerLost: 0, late: 0, slow: 0, twice: 0, watchLag: 0 };

export function weatherOf(rand: Rand): Weather {
  const chance = (most: number): number => (rand.next() < 0.4 ? 0 : rand.next() * most);
  return {
    requestLost: chance(0.03),
    answerLost: chance(0.05),
    late: chance(0.02),
    slow: chance(0.08),
    twice: chance(0.1),
    watchLag: chance(0.15),
  };
}

export type CallOptions = {
  signal?: AbortSignal | undefined;
  /** The effect may be carried out twice: a repeat is harmless by its id. */
  repeatable?: boolean;
  /** One connection carries these: none overtakes another. */
  inOrder?: boolean;
};

/** A store call's own deadline. */
const GIVE_UP_MS = 5_000;

export class Network {
  weather: Weather;
  /** Called around each effect; a fault that waits for its instant strikes here. */
  strike: (by: SimProcess, when: "before" | "after") => void = () => undefined;
  readonly #time: VirtualClock;
  readonly #rand: Rand;
  readonly #cut = new Set<string>();

  constructor(time: VirtualClock, rand: Rand, weather: Weather) {
    this.#time = time;
    this.#rand = rand;
    this.weather = weather;
  }

  /** Cuts a process from everything, or joins it again. */
  cut(name: string, cut: boolean): void {
    if (cut) this.#cut.add(name);
    else this.#cut.delete(name);
  }

  calm(): void {
    this.weather = CALM;
    this.#cut.clear();
  }

  isCut(name: string): boolean {
    return this.#cut.has(name);
  }

  chance(p: number): boolean {
    return p > 0 && this.#rand.next() < p;
  }

  /** One request and its answer (W1). */
  call<T>(by: SimProcess, effect: () => Promise<T>, options: CallOptions = {}): Promise<T> {
    const { signal } = options;
    if (signal?.aborted === true) return Promise.reject(signal.reason as Error);
    const answer = by.gate(this.#exchange(by, effect, options));
    if (signal === undefined) return answer;
    return new Promise((resolve, reject) => {
      const abort = (): void => reject(signal.reason as Error);
      signal.addEventListener("abort", abort, { once: true });
      answer
        .then(resolve, reject)
        .finally(() => signal.removeEventListener("abort", abort))
        .catch(() => undefined);
    });
  }

  /** How long a watch or a log reader stays behind before its next event. */
  lagMs(by: SimProcess): number {
    if (this.#cut.has(by.name)) return 1_000;
    return this.chance(this.weather.watchLag) ? this.#rand.below(4_000) : 0;
  }

  async #exchange<T>(by: SimProcess, effect: () => Promise<T>, { repeatable, inOrder }: CallOptions): Promise<T> {
    const { weather } = this;
    const slowMs = this.chance(weather.slow) ? this.#rand.below(3_000) : 0;
    await this.#time.sleep(1 + this.#rand.below(3) + slowMs);
    if (this.#cut.has(by.name) || this.chance(weather.requestLost)) return this.#unanswered();
    if (inOrder !== true && this.chance(weather.late)) {
      const lateMs = GIVE_UP_MS + this.#rand.below(20_000);
      void this.#time
        .sleep(lateMs)
        .then(effect)
        .catch(() => undefined);
      return this.#unanswered();
    }
    this.strike(by, "before");
    if (by.state === "dead") return this.#unanswered();
    const result = await effect();
    this.strike(by, "after");
    if (repeatable === true && this.chance(weather.twice))
      void this.#time
        .sleep(this.#rand.below(2_000))
        .then(effect)
        .catch(() => undefined);
    if (this.chance(weather.answerLost)) return this.#unanswered();
    await this.#time.sleep(1);
    return result;
  }

  async #unanswered(): Promise<never> {
    await this.#time.sleep(GIVE_UP_MS);
    throw new MeshError("DM-6001", "the store did not answer in time; the effect is unknown");
  }
}
