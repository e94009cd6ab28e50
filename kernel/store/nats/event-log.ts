// EventLog over a JetStream stream: a publisher that never loses what it accepted, and a gap-checking reader.
// L1 A message is handed to the client only while the link is up; nothing of ours waits in the client's buffer.
// L2 A message without an answer is sent again under the same id until its caller's signal or the deadline ends it; a repeat within the stream's
//    duplicate window is recognised by the server. Beyond it (2 min, feedback 10 min) it may be stored twice: readers that count drop by their own ids.
// L3 At most WINDOW messages are unanswered and WAITING callers wait; beyond that publish refuses at once.
// L4 A full store is waited out like one that is away, until the same end; the error then says that it was full (DM-6011).
// L5 Reading follows follow.ts: by sequence, with gaps and resyncs said.
import { backoffMs } from "../../base/backoff.ts";
import { MeshError } from "../../fault/error.ts";
import { checkPayload } from "../check.ts";
import type { EventLog, LogEvent, Publication } from "../ports.ts";
import { checkSubject, subjectMatcher } from "../subject.ts";
import { type ApiError, apiFault, ask, full, number, passing, unanswered } from "./api.ts";
import { follow, type FollowDeps, type FollowedMessage } from "./follow.ts";

/** More than 256 unanswered messages bring no more throughput (measured). */
const WINDOW = 256;
const WAITING = 16_384;
const ATTEMPT_MS = 4_000;
/** For callers without a signal. Longer than a server's restart or a freeze of 20 s. */
const PUBLISH_MS = 45_000;

export class NatsEventLog implements EventLog {
  readonly #deps: FollowDeps;
  readonly #stream: string;
  readonly #accepts: readonly ((subject: string) => boolean)[];
  readonly #slots = new Slots(WINDOW, WAITING);
  readonly #closed = new AbortController();

  constructor(deps: FollowDeps, stream: string, subjects: readonly string[]) {
    this.#deps = deps;
    this.#stream = stream;
    this.#accepts = subjects.map(subjectMatcher);
  }

  async publish(publication: Publication, signal?: AbortSignal): Promise<{ seq: number; duplicate: boolean }> {
    checkSubject(publication.subject);
    checkPayload(publication.subject, publication.payload);
    if (!this.#accepts.some((accepts) => accepts(publication.subject))) {
      throw new MeshError("DM-6008", `stream ${this.#stream} takes no subject ${publication.subject}`);
    }
    const end = AbortSignal.any([signal ?? this.#deps.clock.deadline(PUBLISH_MS), this.#closed.signal]);
    await this.#slots.take(end);
    try {
      return await this.#untilStored(publication, end);
    } finally {
      this.#slots.give();
    }
  }

  async *read(options: { filter: string; fromSeq: number }, signal: AbortSignal): AsyncGenerator<LogEvent> {
    subjectMatcher(options.filter);
    const end = AbortSignal.any([signal, this.#closed.signal]);
    const start = { kind: "sequence", seq: Math.max(1, options.fromSeq) } as const;
    for await (const event of follow(this.#deps, { stream: this.#stream, filter: options.filter, start }, end)) {
      if (end.aborted) return;
      if (event.kind === "message") yield { kind: "message", message: logMessage(event.message) };
      else if (event.kind === "gap" || event.kind === "resync") yield event;
    }
  }

  async info(filter?: string, signal?: AbortSignal): Promise<{ firstSeq: number; lastSeq: number; createdMs: number }> {
    const { api } = this.#deps;
    const state = await api.stream(this.#stream, signal);
    if (state === undefined) throw new MeshError("DM-6001", `stream ${this.#stream} does not exist`);
    const createdMs = Date.parse(state.created);
    if (filter === undefined || filter === ">") return { firstSeq: state.firstSeq, lastSeq: state.lastSeq, createdMs };
    const [first, last] = [
      await api.next(this.#stream, filter, 1, signal),
      await api.last(this.#stream, filter, signal),
    ];
    return { firstSeq: first?.seq ?? 1, lastSeq: last?.seq ?? 0, createdMs };
  }

  close(): Promise<void> {
    this.#closed.abort();
    return Promise.resolve();
  }

  async #untilStored(publication: Publication, end: AbortSignal): Promise<{ seq: number; duplicate: boolean }> {
    const { link, clock, rand } = this.#deps;
    const headers = { ...publication.headers, "Nats-Msg-Id": publication.id, "Nats-Expected-Stream": this.#stream };
    const message = { subject: publication.subject, payload: publication.payload, headers };
    let last: Tried = { silent: false };
    for (let attempt = 0; ; attempt += 1) {
      if (!(await link.whenUp(end))) throw await this.#gaveUp(publication, last);
      const { answer, silent } = await ask(link, message, ATTEMPT_MS);
      last = answer?.kind === "error" ? { silent, error: answer.error } : { silent };
      if (answer?.kind === "ok")
        return { seq: number(answer.body["seq"]), duplicate: answer.body["duplicate"] === true };
      if (answer?.kind === "error" && !passing(answer.error) && !full(answer.error))
        throw apiFault(`message on ${publication.subject} was refused`, answer.error);
      if (end.aborted) throw await this.#gaveUp(publication, last);
      await clock.sleep(backoffMs(attempt, rand, 20, 1_000), end).catch(() => undefined);
    }
  }

  #gaveUp(publication: Publication, { error, silent }: Tried): Promise<MeshError> | MeshError {
    if (error !== undefined && full(error)) return apiFault(`message on ${publication.subject} was refused`, error);
    const what = `message on ${publication.subject} has no answer yet and may be stored; repeat it with the same id`;
    return unanswered(this.#deps, this.#stream, what, silent);
  }
}

/** How the last try of a message went. */
type Tried = { silent: boolean; error?: ApiError };

/** Counts unanswered messages and lines up callers (L3). */
class Slots {
  #free: number;
  readonly #waiting = new Set<() => void>();
  readonly #mostWaiting: number;

  constructor(slots: number, mostWaiting: number) {
    this.#free = slots;
    this.#mostWaiting = mostWaiting;
  }

  async take(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#free > 0) {
      this.#free -= 1;
      return;
    }
    if (this.#waiting.size >= this.#mostWaiting)
      throw new MeshError("DM-6001", `${this.#mostWaiting} messages already wait for the store`);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const abort = (): void => {
      this.#waiting.delete(resolve);
      reject(
        new MeshError("DM-6001", "the store was too slow for this message; it was not sent", { cause: signal.reason }),
      );
    };
    this.#waiting.add(resolve);
    signal.addEventListener("abort", abort, { once: true });
    try {
      await promise;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  /** Hands the slot to the next in line. */
  give(): void {
    for (const next of this.#waiting) {
      this.#waiting.delete(next);
      return next();
    }
    this.#free += 1;
  }
}

function logMessage(message: FollowedMessage): {
  seq: number;
  subject: string;
  payload: Uint8Array;
  headers: Record<string, string>;
  timeMs: number;
} {
  const headers: Record<string, string> = {};
  for (const [name, values] of message.headers ?? []) {
    if (!name.startsWith("Nats-")) headers[name] = values[0] ?? "";
  }
  const { seq, subject, payload, timeNs } = message;
  return { seq, subject, payload, headers, timeMs: Number(timeNs.slice(0, -6)) };
}
