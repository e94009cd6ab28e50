// Sends what the spool holds, oldest first, until it is acknowledged.
// U1 At most `window` messages of a stream are unanswered. U2 A message that failed is sent again with its id until the signal ends it.
import { backoffMs } from "#kernel/base/backoff.ts";
import type { Clock } from "#kernel/base/clock.ts";
import type { Rand } from "#kernel/base/rand.ts";
import type { Outgoing } from "./wire.ts";

/** Where messages go: resolves when stored. */
export type Sink = {
  publish(message: Outgoing, signal: AbortSignal): Promise<void>;
  /** How many may be unanswered: 1 where order is kept by waiting. */
  window(stream: Outgoing["stream"]): number;
};

/** What is sent: the spool, or a leftover. */
export type Source<E extends Sendable> = { next(): E | undefined; acknowledge(entry: E): void };
export type Sendable = Omit<Outgoing, "payload"> & { payload(): Uint8Array };

export type PublisherDeps = { sink: Sink; clock: Clock; rand: Rand; failed: (stream: string, error: unknown) => void };

export class Publisher<E extends Sendable> {
  readonly #deps: PublisherDeps;
  readonly #source: Source<E>;
  readonly #signal: AbortSignal;
  readonly #inFlight = { MESH_REC: 0, MESH_PANE: 0 };
  #head: E | undefined;

  constructor(deps: PublisherDeps, source: Source<E>, signal: AbortSignal) {
    this.#deps = deps;
    this.#source = source;
    this.#signal = signal;
  }

  /** Sends as much as the windows allow. Call it after each append; acknowledgements call it too. */
  pump(): void {
    while (!this.#signal.aborted) {
      this.#head ??= this.#source.next();
      const entry = this.#head;
      if (entry === undefined || this.#inFlight[entry.stream] >= this.#deps.sink.window(entry.stream)) return;
      this.#head = undefined;
      this.#inFlight[entry.stream] += 1;
      void this.#send(entry);
    }
  }

  async #send(entry: E): Promise<void> {
    const { sink, clock, rand, failed } = this.#deps;
    const { stream, subject, id, number, lastRow } = entry;
    for (let attempt = 0; !this.#signal.aborted; attempt += 1) {
      try {
        await sink.publish({ stream, subject, id, number, lastRow, payload: entry.payload() }, this.#signal);
        this.#source.acknowledge(entry);
        break;
      } catch (error) {
        if (this.#signal.aborted) break;
        if (attempt === 0) failed(stream, error);
        await clock.sleep(backoffMs(attempt, rand, 50, 2_000), this.#signal).catch(() => undefined);
      }
    }
    this.#inFlight[stream] -= 1;
    this.pump();
  }
}
