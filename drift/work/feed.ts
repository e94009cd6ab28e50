// Owns reading a log ahead of whoever applies it. D1 Bounded: reading pauses when CAPACITY events wait.
// D2 `position` is the last sequence taken or passed by a gap. D3 A broken read begins again behind what was read.
import type { Clock } from "#kernel/base/clock.ts";
import { unreachable } from "#kernel/base/assert.ts";
import { Cell } from "#kernel/base/queue.ts";
import type { Logger } from "#kernel/process/log.ts";
import type { EventLog, LogEvent } from "#kernel/store/ports.ts";

const CAPACITY = 512;
const AGAIN_MS = 500;

export type FeedOptions = {
  log: EventLog;
  filter: string;
  /** The last sequence already applied. */
  position: number;
  clock: Clock;
  say: Logger;
  signal: AbortSignal;
};

export class Feed {
  position: number;
  readonly #options: FeedOptions;
  readonly #grown = new Cell(0);
  readonly #shrunk = new Cell(0);
  #buffer: LogEvent[] = [];
  #head = 0;
  #next: number;
  /** Resolves when reading has ended, after the signal. */
  readonly ended: Promise<void>;

  constructor(options: FeedOptions) {
    this.#options = options;
    this.position = options.position;
    this.#next = options.position + 1;
    this.ended = this.#pump();
  }

  get log(): EventLog {
    return this.#options.log;
  }

  /** The oldest event that was not taken. */
  peek(): LogEvent | undefined {
    return this.#buffer[this.#head];
  }

  take(): LogEvent | undefined {
    const event = this.#buffer[this.#head];
    if (event === undefined) return undefined;
    this.#head += 1;
    if (this.#head === this.#buffer.length || this.#head > CAPACITY) {
      this.#buffer = this.#buffer.slice(this.#head);
      this.#head = 0;
    }
    this.position = after(event);
    this.#shrunk.set(0);
    return event;
  }

  /** Highest sequence that waits here; `position` when none does. */
  newest(): number {
    const last = this.#buffer.at(-1);
    return last?.kind === "message" ? last.message.seq : this.position;
  }

  /** Resolves when something waits, or the signal aborts. */
  async some(signal: AbortSignal): Promise<void> {
    while (this.peek() === undefined && !signal.aborted) {
      const { version } = this.#grown.get();
      await this.#grown.changed(version, signal);
    }
  }

  async #pump(): Promise<void> {
    const { log, filter, clock, say, signal } = this.#options;
    while (!signal.aborted) {
      try {
        for await (const event of log.read({ filter, fromSeq: this.#next }, signal)) {
          await this.#room();
          if (signal.aborted) return;
          this.#buffer.push(event);
          this.#next = after(event) + 1;
          this.#grown.set(0);
        }
      } catch (error) {
        if (signal.aborted) return;
        say.warn("drift.read-again", { filter, error });
      }
      await clock.sleep(AGAIN_MS, signal).catch(() => undefined);
    }
  }

  async #room(): Promise<void> {
    const { signal } = this.#options;
    while (this.#buffer.length - this.#head >= CAPACITY && !signal.aborted) {
      const { version } = this.#shrunk.get();
      await this.#shrunk.changed(version, signal);
    }
  }
}

/** Where one is after an event. */
function after(event: LogEvent): number {
  switch (event.kind) {
    case "message":
      return event.message.seq;
    case "gap":
      return event.firstSeq - 1;
    case "resync":
      return 0;
    default:
      return unreachable(event);
  }
}

/** Waits for any of the feeds, at most `ms`. */
export async function anyOf(feeds: readonly Feed[], clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  const over = new AbortController();
  const end = AbortSignal.any([signal, over.signal]);
  const time = clock.sleep(ms, end).catch(() => undefined);
  try {
    await Promise.race([time, ...feeds.map((feed) => feed.some(end))]);
  } finally {
    over.abort();
  }
}

/** A place in a log: a sequence means nothing in a log made at another time. */
export type Cursor = { seq: number; createdMs: number };

/** A feed behind `cursor`, or from the beginning when the log is another one; says which. */
export async function openFeed(
  options: Omit<FeedOptions, "position">,
  cursor: Cursor,
): Promise<{ feed: Feed; createdMs: number; replaced: boolean }> {
  const { createdMs } = await options.log.info(undefined, options.signal);
  const replaced = cursor.createdMs !== 0 && cursor.createdMs !== createdMs;
  if (replaced)
    options.say.warn("drift.log-replaced", { filter: options.filter, was: cursor.createdMs, is: createdMs });
  return { feed: new Feed({ ...options, position: replaced ? 0 : cursor.seq }), createdMs, replaced };
}
