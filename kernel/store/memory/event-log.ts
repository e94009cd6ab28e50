// An EventLog in memory: simulations and unit tests run on it. Deterministic, no timers, one process.
// M1 Sequences start at 1 and have no holes. M2 An id is remembered for as long as the log lives.
import type { Clock } from "../../base/clock.ts";
import { Cell } from "../../base/queue.ts";
import { checkPayload, refused } from "../check.ts";
import type { EventLog, LogEvent, LogMessage, Publication } from "../ports.ts";
import { checkSubject, subjectMatcher } from "../subject.ts";

export class MemoryEventLog implements EventLog {
  readonly #clock: Clock;
  readonly #messages: LogMessage[] = [];
  readonly #ids = new Map<string, number>();
  readonly #grown = new Cell(0);
  readonly #closed = new AbortController();
  readonly #createdMs: number;
  /** Sequence of #messages[0]. */
  #firstSeq = 1;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#createdMs = clock.wallMs();
  }

  async publish(publication: Publication, signal?: AbortSignal): Promise<{ seq: number; duplicate: boolean }> {
    signal?.throwIfAborted();
    if (this.#closed.signal.aborted) throw refused("the log is closed", "DM-6001");
    checkSubject(publication.subject);
    checkPayload(publication.subject, publication.payload);
    const known = this.#ids.get(publication.id);
    if (known !== undefined) return { seq: known, duplicate: true };
    const seq = this.#firstSeq + this.#messages.length;
    this.#messages.push({
      seq,
      subject: publication.subject,
      payload: publication.payload.slice(),
      headers: { ...publication.headers },
      timeMs: this.#clock.wallMs(),
    });
    this.#ids.set(publication.id, seq);
    this.#grown.set(seq);
    return { seq, duplicate: false };
  }

  async *read(options: { filter: string; fromSeq: number }, signal: AbortSignal): AsyncGenerator<LogEvent> {
    const matches = subjectMatcher(options.filter);
    const end = AbortSignal.any([signal, this.#closed.signal]);
    let next = Math.max(1, options.fromSeq);
    if (next > this.#lastSeq() + 1) {
      yield { kind: "resync" };
      next = this.#firstSeq;
    }
    while (!end.aborted) {
      const { version } = this.#grown.get();
      if (next < this.#firstSeq) {
        yield { kind: "gap", wantedSeq: next, firstSeq: this.#firstSeq };
        next = this.#firstSeq;
        continue;
      }
      const message = this.#messages[next - this.#firstSeq];
      if (message === undefined) {
        await this.#grown.changed(version, end);
        continue;
      }
      next += 1;
      if (matches(message.subject)) yield { kind: "message", message };
    }
  }

  info(filter = ">"): Promise<{ firstSeq: number; lastSeq: number; createdMs: number }> {
    const matches = subjectMatcher(filter);
    const first = filter === ">" ? this.#firstSeq : (this.#messages.find((m) => matches(m.subject))?.seq ?? 1);
    const last = filter === ">" ? this.#lastSeq() : (this.#messages.findLast((m) => matches(m.subject))?.seq ?? 0);
    return Promise.resolve({ firstSeq: first, lastSeq: last, createdMs: this.#createdMs });
  }

  /** Forgets messages before `seq`, as age or size limits do. */
  expireBefore(seq: number): void {
    const gone = Math.min(this.#messages.length, Math.max(0, seq - this.#firstSeq));
    this.#messages.splice(0, gone);
    this.#firstSeq += gone;
  }

  close(): Promise<void> {
    this.#closed.abort();
    return Promise.resolve();
  }

  #lastSeq(): number {
    return this.#firstSeq + this.#messages.length - 1;
  }
}
