// StateStore over a KV-shaped stream: key K of bucket B is subject `$KV.B.K` of stream KV_B, so that `nats kv get B K` reads it.
// S1 Reads are leader reads. S2 Every write has one message id and is sent again under it until its answer is known.
// S3 `stale` and `fenced` are only said after nothing was stored. S4 The key `_store.fence` is ours: it carries guards and is never shown.
// S5 A snapshot of the whole bucket ends between batches, never inside one: what it shows was true at one sequence.
//
// What nats-server 2.15.1 does inside atomic batches (measured):
// - `Nats-Expected-Last-Subject-Sequence` is checked for each message; with `...-Subject` it is checked for that other subject, on any message of the
//   batch, and *instead of* the message's own check. So a guard needs a message without an expectation of its own: a `put` of the batch, or the carrier
//   (S4). A mismatch answers the commit with 10071 and stores nothing, and does not say which message was at fault.
// - An expectation about a subject that an earlier message of the same batch writes is 10164; a batch over 1,000 messages 10199; a missing message 10176.
// - A batch holding a message id that is already stored is 10201, and that check comes *before* the sequences: a repeat is recognised. A single message
//   outside a batch is checked the other way round: 10071 hides the duplicate, so after an unanswered try the key's history is searched for our id.
// - Messages of a batch get consecutive sequences. With every write flushed, a single message takes 0.3 ms, a batch of one 2.5 ms (it is staged on disk
//   first), of 10 5 ms, of 1,000 38 ms: so one message goes without a batch, and a guarded compare-and-set is a batch of two.
// - Readers are let in between the messages of a batch: 197 of 695 snapshots beside a writer of 200 keys a batch ended inside one. The stored messages
//   keep `Nats-Batch-Id`, the last one `Nats-Batch-Commit`: so a snapshot knows where it stands, if its filter lets every message of a batch through.
import { backoffMs } from "../../base/backoff.ts";
import { base32 } from "../../base/bytes.ts";
import { MeshError } from "../../fault/error.ts";
import { checkBatch, checkKey, checkPrefix, RESERVED_KEY } from "../check.ts";
import type { Entry, Guard, StateStore, WatchEvent, Write, WriteResult } from "../ports.ts";
import { type ApiError, apiFault, ask, CODE, full, number, passing, type Stored, unanswered } from "./api.ts";
import { follow, type FollowDeps, type FollowedMessage } from "./follow.ts";

const EXPECT = "Nats-Expected-Last-Subject-Sequence";
const EXPECT_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject";
const FENCE = `${RESERVED_KEY}.fence`;
const NOTHING = new Uint8Array(0);
/** One try of a write. */
const ATTEMPT_MS = 3_000;
/** After this a write throws DM-6001 and its effect is unknown. Longer than a server's restart or a freeze of 20 s. */
const WRITE_MS = 45_000;
/** Writes of a key that the stream keeps. */
const HISTORY = 5;

const NOT_SENT = { kind: "nothing", silent: false } as const;

type Message = { subject: string; payload: Uint8Array; headers: Record<string, string> };
type Sent =
  | { kind: "stored"; seq: number }
  | { kind: "conflict" }
  | { kind: "duplicate" }
  | { kind: "full"; error: ApiError }
  | { kind: "nothing"; silent: boolean }
  | { kind: "unknown"; silent: boolean };

export class NatsStateStore implements StateStore {
  readonly #deps: FollowDeps;
  readonly #stream: string;
  readonly #head: string;
  readonly #closed = new AbortController();

  constructor(deps: FollowDeps, bucket: string) {
    this.#deps = deps;
    this.#stream = `KV_${bucket}`;
    this.#head = `$KV.${bucket}.`;
  }

  async get(key: string, signal?: AbortSignal): Promise<Entry | undefined> {
    checkKey(key);
    const stored = await this.#deps.api.last(this.#stream, this.#head + key, signal);
    return stored === undefined || isDelete(stored.headers["KV-Operation"])
      ? undefined
      : { key, value: stored.payload, revision: stored.seq };
  }

  async list(prefix: string, signal?: AbortSignal): Promise<Entry[]> {
    checkPrefix(prefix);
    const end = AbortSignal.any([this.#deps.clock.deadline(WRITE_MS), ...(signal === undefined ? [] : [signal])]);
    const entries = new Map<string, Entry>();
    for await (const event of this.watch(prefix, end)) {
      if (event.kind === "put") entries.set(event.entry.key, event.entry);
      else if (event.kind === "delete") entries.delete(event.key);
      else if (event.kind === "resync") entries.clear();
      else return [...entries.values()].toSorted((a, b) => (a.key < b.key ? -1 : 1));
    }
    signal?.throwIfAborted();
    throw new MeshError("DM-6001", `the keys under ${JSON.stringify(prefix)} could not be listed`);
  }

  write(write: Write, guard?: Guard): Promise<WriteResult> {
    return this.batch([write], guard);
  }

  async batch(writes: readonly Write[], guard?: Guard): Promise<WriteResult> {
    checkBatch(writes, guard);
    const { clock, rand, link } = this.#deps;
    const deadline = clock.monotonicMs() + WRITE_MS;
    const id = base32(rand.bytes(12));
    /** Revisions of delete markers, which a `create` must expect instead of nothing. */
    const markers = new Map<string, number>();
    if (neverHolds(writes, guard)) {
      const refusal = await this.#diagnose(writes, guard, markers);
      if (refusal !== undefined) return refusal;
    }
    let unsure = false;
    let silent = false;
    for (let attempt = 0; clock.monotonicMs() < deadline; attempt += 1) {
      if (this.#closed.signal.aborted) break;
      const sent = await this.#send(this.#messages(writes, guard, markers, id));
      if (sent.kind === "stored") return { kind: "written", revision: sent.seq };
      if (sent.kind === "duplicate" || (sent.kind === "conflict" && unsure)) {
        const found = await this.#findOurs(id, writes, markers);
        if (found.kind === "ours") return { kind: "written", revision: found.revision };
        if (found.kind === "forgotten") break;
      }
      if (sent.kind === "conflict") {
        const result = await this.#diagnose(writes, guard, markers);
        if (result !== undefined) return result;
        await clock.sleep(backoffMs(attempt, rand, 2, 500));
        continue;
      }
      if (sent.kind === "full") {
        const before = unsure ? " (an earlier try of it may have been carried out)" : "";
        throw apiFault(`the write of ${keysOf(writes)} was refused${before}`, sent.error);
      }
      unsure ||= sent.kind === "unknown";
      silent = sent.kind !== "duplicate" && sent.silent;
      await clock.sleep(backoffMs(attempt, rand, 50, 1_000));
      await link.whenUp(
        AbortSignal.any([clock.deadline(Math.max(0, deadline - clock.monotonicMs())), this.#closed.signal]),
      );
    }
    const what = `the store did not answer the write of ${keysOf(writes)} in time; it may have been carried out`;
    throw await unanswered(this.#deps, this.#stream, what, silent);
  }

  async *watch(prefix: string, signal: AbortSignal): AsyncGenerator<WatchEvent> {
    checkPrefix(prefix);
    const end = AbortSignal.any([signal, this.#closed.signal]);
    const snapshot = new Snapshot(prefix === "");
    const filter = this.#head + prefix.slice(0, prefix.lastIndexOf(".") + 1) + ">";
    for await (const event of follow(
      this.#deps,
      { stream: this.#stream, filter, start: { kind: "last-per-subject" } },
      end,
    )) {
      if (event.kind === "resync") {
        snapshot.restart();
        yield event;
      } else if (event.kind === "message") {
        const change = this.#change(event.message);
        const key = event.message.subject.slice(this.#head.length);
        if (change !== undefined && key.startsWith(prefix) && snapshot.shows(change)) yield change;
      }
      if (snapshot.completedBy(event)) yield { kind: "synced" };
    }
  }

  close(): Promise<void> {
    this.#closed.abort();
    return Promise.resolve();
  }

  #change(message: FollowedMessage): Exclude<WatchEvent, { kind: "synced" | "resync" }> | undefined {
    const key = message.subject.slice(this.#head.length);
    if (key.startsWith(RESERVED_KEY)) return undefined;
    if (isDelete(message.headers?.get("KV-Operation"))) return { kind: "delete", key, revision: message.seq };
    return { kind: "put", entry: { key, value: message.payload, revision: message.seq } };
  }

  /** The batch's messages; the guard rides on the first `put`, or on a carrier in front. The id is on the last one, whose sequence is the revision. */
  #messages(
    writes: readonly Write[],
    guard: Guard | undefined,
    markers: ReadonlyMap<string, number>,
    id: string,
  ): Message[] {
    const messages = writes.map((write): Message => {
      const headers: Record<string, string> = {};
      if (write.kind === "create") headers[EXPECT] = String(markers.get(write.key) ?? 0);
      if (write.kind === "update" || write.kind === "delete") headers[EXPECT] = String(write.revision);
      if (write.kind === "delete") headers["KV-Operation"] = "DEL";
      return { subject: this.#head + write.key, payload: write.kind === "delete" ? NOTHING : write.value, headers };
    });
    if (guard !== undefined) {
      let carrier = messages.find((message) => !(EXPECT in message.headers));
      if (carrier === undefined) {
        carrier = {
          subject: this.#head + FENCE,
          payload: new TextEncoder().encode(`${guard.key} ${guard.revision}`),
          headers: {},
        };
        messages.unshift(carrier);
      }
      carrier.headers[EXPECT] = String(guard.revision);
      carrier.headers[EXPECT_SUBJECT] = this.#head + guard.key;
    }
    const last = messages.at(-1);
    if (last !== undefined) last.headers["Nats-Msg-Id"] = id;
    return messages;
  }

  async #send(messages: readonly Message[]): Promise<Sent> {
    const { link, rand } = this.#deps;
    const batch = base32(rand.bytes(10));
    const single = messages.length === 1;
    for (const [i, message] of messages.entries()) {
      const place = single ? {} : { "Nats-Batch-Id": batch, "Nats-Batch-Sequence": String(i + 1) };
      if (i < messages.length - 1) {
        if (!link.send(message.subject, message.payload, { ...message.headers, ...place })) return NOT_SENT;
        continue;
      }
      const headers = { ...message.headers, ...place, ...(single ? {} : { "Nats-Batch-Commit": "1" }) };
      return said(await ask(link, { ...message, headers }, ATTEMPT_MS));
    }
    return NOT_SENT;
  }

  /** Why a batch was refused; undefined when it may go through now: a delete marker was found, or things have moved on. */
  async #diagnose(
    writes: readonly Write[],
    guard: Guard | undefined,
    markers: Map<string, number>,
  ): Promise<WriteResult | undefined> {
    if (guard !== undefined) {
      const stored = await this.#deps.api.last(this.#stream, this.#head + guard.key);
      if (stored?.seq !== guard.revision) return { kind: "fenced" };
    }
    for (const write of writes) {
      if (write.kind === "put") continue;
      const stored = await this.#deps.api.last(this.#stream, this.#head + write.key);
      const gone = stored === undefined || isDelete(stored.headers["KV-Operation"]);
      if (write.kind !== "create") {
        if (stored?.seq !== write.revision) return { kind: "stale", key: write.key };
      } else if (!gone) {
        return { kind: "stale", key: write.key };
      } else if (stored !== undefined) {
        markers.set(write.key, stored.seq);
      }
    }
    return undefined;
  }

  /** Looks for the message of this id among the last writes of the batch's last key. */
  async #findOurs(id: string, writes: readonly Write[], markers: ReadonlyMap<string, number>): Promise<Found> {
    const { api } = this.#deps;
    const write = writes.at(-1);
    const subject = this.#head + (write?.key ?? "");
    const isOurs = (stored: Stored): boolean => stored.headers["Nats-Msg-Id"] === id;
    const last = await api.last(this.#stream, subject);
    if (last !== undefined && isOurs(last)) return { kind: "ours", revision: last.seq };
    let from =
      1 +
      (write?.kind === "update" || write?.kind === "delete" ? write.revision : (markers.get(write?.key ?? "") ?? 0));
    for (let hop = 0; hop < HISTORY; hop += 1) {
      const stored = await api.next(this.#stream, subject, from);
      if (stored === undefined) return { kind: "absent" };
      if (isOurs(stored)) return { kind: "ours", revision: stored.seq };
      from = stored.seq + 1;
    }
    return { kind: "forgotten" };
  }
}

/** `forgotten`: so many writes came after that ours, if it was one, is out of the history. */
type Found = { kind: "ours"; revision: number } | { kind: "absent" } | { kind: "forgotten" };

/** Knows when everything that existed has been delivered, and hides delete markers of keys that the watcher never saw. */
class Snapshot {
  /** Every key is watched, so the end of each batch will come by (S5). */
  readonly #whole: boolean;
  #shown: Set<string> | undefined = new Set();

  constructor(whole: boolean) {
    this.#whole = whole;
  }

  restart(): void {
    this.#shown = new Set();
  }

  shows(change: { kind: "put"; entry: Entry } | { kind: "delete"; key: string }): boolean {
    if (this.#shown === undefined) return true;
    if (change.kind === "delete") return this.#shown.has(change.key);
    this.#shown.add(change.entry.key);
    return true;
  }

  /** True once per snapshot, when nothing waits at the server: at the start, after a message, or as a heartbeat says. */
  completedBy(event: { kind: string; pending?: number; message?: FollowedMessage }): boolean {
    const inside = this.#whole && event.message !== undefined && isInsideBatch(event.message);
    const complete = this.#shown !== undefined && (event.kind === "idle" || (event.pending === 0 && !inside));
    if (complete) this.#shown = undefined;
    return complete;
  }
}

/** Whether messages of the same batch follow this one. */
function isInsideBatch({ headers }: FollowedMessage): boolean {
  return (headers?.get("Nats-Batch-Id") ?? "") !== "" && (headers?.get("Nats-Batch-Commit") ?? "") === "";
}

/** Revision 0 is nobody's, but the server reads it as "does not exist": such a write is not sent. */
function neverHolds(writes: readonly Write[], guard: Guard | undefined): boolean {
  const named = writes.some((write) => (write.kind === "update" || write.kind === "delete") && write.revision < 1);
  return named || (guard !== undefined && guard.revision < 1);
}

/** What the answer to a commit means for the batch. */
function said({ reply, answer, silent }: Awaited<ReturnType<typeof ask>>): Sent {
  if (reply.kind === "down" || reply.kind === "no-responders") return NOT_SENT;
  if (answer === undefined) return { kind: "unknown", silent };
  if (answer.kind === "ok") return { kind: "stored", seq: number(answer.body["seq"]) };
  const { errCode } = answer.error;
  if (errCode === CODE.wrongLastSequence || errCode === CODE.wrongLastSequenceConstant) return { kind: "conflict" };
  if (errCode === CODE.batchDuplicate) return { kind: "duplicate" };
  if (full(answer.error)) return { kind: "full", error: answer.error };
  // A full disk shows as an incomplete batch as well, again and again.
  if (errCode === CODE.batchIncomplete) return { kind: "nothing", silent: true };
  if (errCode === CODE.batchMissingSequence || passing(answer.error)) return NOT_SENT;
  throw apiFault("a write was refused", answer.error);
}

function isDelete(operation: string | undefined): boolean {
  return operation === "DEL" || operation === "PURGE";
}

function keysOf(writes: readonly Write[]): string {
  const names = writes.slice(0, 3).map((write) => write.key);
  return writes.length > 3 ? `${names.join(", ")} and ${writes.length - 3} more` : names.join(", ");
}
