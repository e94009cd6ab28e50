// The few JetStream API calls we make, typed. Owns how their JSON is read and which errors are passing ones.
// A1 Reads go to the stream's leader (STREAM.MSG.GET), never to a replica: direct gets were stale in 192 of 4,500 reads under load.
// A2 A call is repeated through passing errors until its deadline, then it throws DM-6001. Only calls that may be repeated go through `call`.
// A3 An error says which of the reasons it is that a person can do something about: full (DM-6011), credentials (DM-6012).
import { backoffMs } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";
import type { Rand } from "../../base/rand.ts";
import { MeshError } from "../../fault/error.ts";
import type { Link, Reply } from "./link.ts";

/** `err_code`s of nats-server that we decide on. */
export const CODE = {
  consumerNotFound: 10014,
  noMessage: 10037,
  /** No memory or disk left for JetStream as a whole; for the account; and in this stream (its `max_bytes`). */
  noResources: 10023,
  noStorage: 10047,
  storeFailed: 10077,
  streamNotFound: 10059,
  streamNameInUse: 10058,
  /** Expected last sequence (of the subject) differs. */
  wrongLastSequence: 10071,
  /** The same, where a batch contradicts itself or another batch in flight. */
  wrongLastSequenceConstant: 10164,
  batchMissingSequence: 10175,
  /** Some message of the batch did not arrive; nothing of it was stored. */
  batchIncomplete: 10176,
  /** A message id of the batch is already stored: the batch was carried out before. */
  batchDuplicate: 10201,
} as const;

export type ApiError = { code: number; errCode: number; description: string };
export type Answer = { kind: "ok"; body: Json } | { kind: "error"; error: ApiError };
export type Json = Readonly<Record<string, unknown>>;

export type StreamState = { created: string; firstSeq: number; lastSeq: number; config: Json };
export type Stored = {
  seq: number;
  subject: string;
  payload: Uint8Array;
  headers: Readonly<Record<string, string>>;
  time: string;
};

export type Deps = { link: Link; clock: Clock; rand: Rand };

const NOTHING = new Uint8Array(0);
const ATTEMPT_MS = 3_000;
const DEADLINE_MS = 30_000;

export class JetStreamApi {
  readonly #deps: Deps;

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** One call of `$JS.API.<what>`, repeated through passing errors (A2). */
  async call(what: string, body?: Json, signal?: AbortSignal): Promise<Answer> {
    const { link, clock, rand } = this.#deps;
    const untilMs = clock.monotonicMs() + DEADLINE_MS;
    const payload = body === undefined ? NOTHING : new TextEncoder().encode(JSON.stringify(body));
    for (let attempt = 0; ; attempt += 1) {
      signal?.throwIfAborted();
      const reply = await link.request(`$JS.API.${what}`, payload, { timeoutMs: ATTEMPT_MS });
      const answer = read(reply);
      if (answer !== undefined && !(answer.kind === "error" && passing(answer.error))) return answer;
      const leftMs = untilMs - clock.monotonicMs();
      if (leftMs <= 0) {
        const asked = what.split(".").slice(0, 3).join(".");
        throw (
          refused(link) ?? new MeshError("DM-6001", `JetStream did not answer ${asked} (${describe(reply, answer)})`)
        );
      }
      await clock.sleep(Math.min(leftMs, backoffMs(attempt, rand, 50, 1_000)), signal);
    }
  }

  /** State of a stream as its leader has it; undefined when there is none. */
  async stream(name: string, signal?: AbortSignal): Promise<StreamState | undefined> {
    const answer = await this.call(`STREAM.INFO.${name}`, undefined, signal);
    if (answer.kind === "error") {
      if (answer.error.errCode === CODE.streamNotFound) return undefined;
      throw apiFault(`stream ${name} cannot be read`, answer.error);
    }
    const state = object(answer.body["state"]);
    return {
      created: text(answer.body["created"]),
      firstSeq: Math.max(1, number(state["first_seq"])),
      lastSeq: number(state["last_seq"]),
      config: object(answer.body["config"]),
    };
  }

  /** The newest message of a subject (wildcards allowed), from the leader. */
  last(stream: string, subject: string, signal?: AbortSignal): Promise<Stored | undefined> {
    return this.#message(stream, { last_by_subj: subject }, signal);
  }

  /** The first message of a subject (wildcards allowed) at or after `seq`, from the leader. */
  next(stream: string, subject: string, seq: number, signal?: AbortSignal): Promise<Stored | undefined> {
    return this.#message(stream, { seq, next_by_subj: subject }, signal);
  }

  at(stream: string, seq: number, signal?: AbortSignal): Promise<Stored | undefined> {
    return this.#message(stream, { seq }, signal);
  }

  async #message(stream: string, which: Json, signal: AbortSignal | undefined): Promise<Stored | undefined> {
    const answer = await this.call(`STREAM.MSG.GET.${stream}`, which, signal);
    if (answer.kind === "error") {
      if (answer.error.errCode === CODE.noMessage) return undefined;
      throw apiFault(`stream ${stream} cannot be read`, answer.error);
    }
    const message = object(answer.body["message"]);
    return {
      seq: number(message["seq"]),
      subject: text(message["subject"]),
      payload: Buffer.from(text(message["data"]), "base64"),
      headers: parseHeaders(Buffer.from(text(message["hdrs"]), "base64").toString("utf8")),
      time: text(message["time"]),
    };
  }
}

/** What a reply says, or undefined when there was none. */
function read(reply: Reply): Answer | undefined {
  if (reply.kind !== "reply") return undefined;
  const body: unknown = JSON.parse(Buffer.from(reply.payload).toString("utf8"));
  const error = object(body)["error"];
  if (error === undefined) return { kind: "ok", body: object(body) };
  const fields = object(error);
  return {
    kind: "error",
    error: {
      code: number(fields["code"]),
      errCode: number(fields["err_code"]),
      description: text(fields["description"]),
    },
  };
}

/** Errors that go away by themselves: overload, leader elections, a server that starts or stops. */
export function passing(error: ApiError): boolean {
  return error.code === 429 || error.code === 503 || error.code === 408;
}

/** Errors that say that there is no room; nothing was stored. Some carry 503 and so look like passing ones. */
export function full(error: ApiError): boolean {
  return [CODE.noResources, CODE.noStorage, CODE.storeFailed].some((code) => code === error.errCode);
}

export function apiFault(what: string, error: ApiError): MeshError {
  const code = full(error) ? "DM-6011" : "DM-6008";
  return new MeshError(code, `${what}: nats-server says ${error.description} (${error.errCode})`);
}

function refused(link: Link, what = ""): MeshError | undefined {
  if (link.refusal === undefined) return undefined;
  return new MeshError("DM-6012", `${what}nats-server refuses our credentials (${link.refusal})`);
}

/**
 * The error for a write that was given up (A3): DM-6012, DM-6011 or DM-6001. `silent`: a whole try passed without an answer on a link that stood.
 * When the disk is full, nats-server 2.15.1 freezes the stream: it answers questions and no write, until it is started again (measured).
 */
export async function unanswered(deps: Deps, stream: string, what: string, silent: boolean): Promise<MeshError> {
  const { link } = deps;
  const refusal = refused(link, `${what}: `);
  if (refusal !== undefined) return refusal;
  if (silent && link.up) {
    const reply = await link.request(`$JS.API.STREAM.INFO.${stream}`, NOTHING, { timeoutMs: 1_000 });
    if (read(reply)?.kind === "ok") {
      const why = `stream ${stream} answers questions and stores nothing, so the disk of nats-server is full or failing`;
      return new MeshError("DM-6011", `${what}: ${why}`);
    }
  }
  return new MeshError("DM-6001", what);
}

/** Sends one write and waits for what JetStream says; `silent` when a link that stood throughout brought nothing. */
export async function ask(
  link: Link,
  message: { subject: string; payload: Uint8Array; headers: Readonly<Record<string, string>> },
  timeoutMs: number,
): Promise<{ reply: Reply; answer: Answer | undefined; silent: boolean }> {
  const { generation } = link.state.get().value;
  const reply = await link.request(message.subject, message.payload, { headers: message.headers, timeoutMs });
  const silent = reply.kind === "unknown" && link.up && link.state.get().value.generation === generation;
  return { reply, answer: read(reply), silent };
}

function describe(reply: Reply, answer: Answer | undefined): string {
  return answer?.kind === "error" ? answer.error.description : reply.kind;
}

export function object(value: unknown): Json {
  return typeof value === "object" && value !== null ? Object.fromEntries(Object.entries(value)) : {};
}

export function number(value: unknown): number {
  return typeof value === "number" ? value : 0;
}

export function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** `NATS/1.0\r\nName: value\r\n...` as a record. */
function parseHeaders(block: string): Record<string, string> {
  const out: Record<string, string> = {};
  for (const line of block.split("\r\n").slice(1)) {
    const colon = line.indexOf(":");
    if (colon > 0) out[line.slice(0, colon)] = line.slice(colon + 1).trim();
  }
  return out;
}
