// Waiting for a condition with a deadline, and taking from a stream with one: what tests use instead of sleeping.
import { systemClock, type VirtualClock } from "../../base/clock.ts";

const DEADLINE_MS = 30_000;

/** Polls until `holds` is true; fails with `what` after 30 s. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  deadlineMs = DEADLINE_MS,
): Promise<void> {
  const endMs = systemClock.monotonicMs() + deadlineMs;
  while (!(await holds())) {
    if (systemClock.monotonicMs() > endMs) throw new Error(`not within ${deadlineMs} ms: ${what}`);
    await systemClock.sleep(5);
  }
}

/** Moves virtual time from sleeper to sleeper until `holds`, letting everything that was woken run in between. */
export async function advance(clock: VirtualClock, what: string, holds: () => boolean): Promise<void> {
  for (let steps = 0; steps < 10_000; steps += 1) {
    await systemClock.sleep(0);
    if (holds()) return;
    clock.step();
  }
  throw new Error(`never: ${what}`);
}

/** Pulls one stream in steps; `stop` ends it. */
export class Reader<T> {
  readonly #abort = new AbortController();
  readonly #stream: AsyncIterator<T>;

  constructor(open: (signal: AbortSignal) => AsyncIterable<T>) {
    this.#stream = open(this.#abort.signal)[Symbol.asyncIterator]();
  }

  /** The next item; fails after 30 s or when the stream has ended. */
  async next(deadlineMs = DEADLINE_MS): Promise<T> {
    const late = Promise.withResolvers<never>();
    const done = new AbortController();
    systemClock.sleep(deadlineMs, done.signal).then(
      () => late.reject(new Error(`nothing came within ${deadlineMs} ms`)),
      () => undefined,
    );
    try {
      const result = await Promise.race([this.#stream.next(), late.promise]);
      if (result.done === true) throw new Error("the stream has ended");
      return result.value;
    } finally {
      done.abort();
    }
  }

  async take(count: number): Promise<T[]> {
    const items: T[] = [];
    while (items.length < count) items.push(await this.next());
    return items;
  }

  /** Items up to and including the first for which `last` holds. */
  async until(last: (item: T) => boolean, deadlineMs?: number): Promise<T[]> {
    const items: T[] = [];
    for (;;) {
      const item = await this.next(deadlineMs);
      items.push(item);
      if (last(item)) return items;
    }
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#stream.return?.();
  }
}

export const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
export const textOf = (content: Uint8Array | undefined): string | undefined =>
  content === undefined ? undefined : new TextDecoder().decode(content);
