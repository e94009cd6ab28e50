// Blobs in a stream: chunks on `mesh.blob.<sha256>.<n>`, and last of all a head on `mesh.blob.<sha256>.head` that makes the blob exist.
// B1 Every chunk and head is written once (expected sequence 0), so two writers of the same content help each other and nothing is overwritten.
// B2 What is read is hashed; content of another hash is DM-5003, never an answer.
// B3 A put that died leaves chunks without a head: invisible, and taken up by the next put of the same content.
// Chosen over the client's object store, which leaks the chunks of a lost race and reads without back-pressure (+222 MB for 100 MB, measured).
import { backoffMs } from "../../base/backoff.ts";
import { sha256Hex } from "../../base/bytes.ts";
import { MeshError } from "../../fault/error.ts";
import { checkSha256 } from "../check.ts";
import type { Blobs } from "../ports.ts";
import { apiFault, ask, CODE, type Deps, full, type JetStreamApi, number, object, passing, unanswered } from "./api.ts";
import { BLOB_STREAM, BLOB_SUBJECT } from "./assets.ts";

/** Half of the largest message NATS takes by default. */
const CHUNK_BYTES = 512 * 1024;
const IN_FLIGHT = 4;
const ATTEMPT_MS = 5_000;
const DEADLINE_MS = 60_000;

export class NatsBlobs implements Blobs {
  readonly #deps: Deps & { api: JetStreamApi };

  constructor(deps: Deps & { api: JetStreamApi }) {
    this.#deps = deps;
  }

  async put(content: Uint8Array): Promise<string> {
    const sha256 = sha256Hex(content);
    if (await this.has(sha256)) return sha256;
    const chunks = Math.ceil(content.byteLength / CHUNK_BYTES);
    await inParallel(chunks, (n) =>
      this.#create(`${sha256}.${n}`, content.subarray(n * CHUNK_BYTES, (n + 1) * CHUNK_BYTES)),
    );
    const head = { format: 1, bytes: content.byteLength, chunks };
    await this.#create(`${sha256}.head`, new TextEncoder().encode(JSON.stringify(head)));
    return sha256;
  }

  async get(sha256: string, signal?: AbortSignal): Promise<Uint8Array | undefined> {
    const head = await this.#head(sha256, signal);
    if (head === undefined) return undefined;
    const content = new Uint8Array(head.bytes);
    let missing = false;
    await inParallel(head.chunks, async (n) => {
      const chunk = await this.#chunk(`${sha256}.${n}`, signal);
      if (chunk === undefined || n * CHUNK_BYTES + chunk.byteLength > content.byteLength) missing = true;
      else content.set(chunk, n * CHUNK_BYTES);
    });
    // Removed while we read: the head goes first.
    if (missing && (await this.#head(sha256, signal)) === undefined) return undefined;
    if (missing || sha256Hex(content) !== sha256)
      throw new MeshError("DM-5003", `blob ${sha256} is damaged in the store`);
    return content;
  }

  async has(sha256: string): Promise<boolean> {
    return (await this.#head(sha256)) !== undefined;
  }

  async remove(sha256: string): Promise<void> {
    checkSha256(sha256);
    await this.#purge(`${sha256}.head`);
    await this.#purge(`${sha256}.*`);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #head(sha256: string, signal?: AbortSignal): Promise<{ bytes: number; chunks: number } | undefined> {
    checkSha256(sha256);
    const stored = await this.#deps.api.last(BLOB_STREAM, `${BLOB_SUBJECT}.${sha256}.head`, signal);
    if (stored === undefined) return undefined;
    const head = object(JSON.parse(Buffer.from(stored.payload).toString("utf8")));
    return { bytes: number(head["bytes"]), chunks: number(head["chunks"]) };
  }

  /** Writes a message that must not exist; that it exists already is success (B1). */
  async #create(name: string, payload: Uint8Array): Promise<void> {
    const { link, clock, rand } = this.#deps;
    const subject = `${BLOB_SUBJECT}.${name}`;
    const end = clock.deadline(DEADLINE_MS);
    const headers = { "Nats-Expected-Last-Subject-Sequence": "0", "Nats-Expected-Stream": BLOB_STREAM };
    let silent = false;
    for (let attempt = 0; await link.whenUp(end); attempt += 1) {
      const tried = await ask(link, { subject, payload, headers }, ATTEMPT_MS);
      const { answer } = tried;
      silent = tried.silent;
      if (answer?.kind === "ok" || answer?.error.errCode === CODE.wrongLastSequence) return;
      if (answer !== undefined && (full(answer.error) || !passing(answer.error)))
        throw apiFault("a blob could not be stored", answer.error);
      await clock.sleep(backoffMs(attempt, rand, 50, 1_000), end).catch(() => undefined);
    }
    const what = "the store did not take a blob in time; putting it again is harmless";
    throw await unanswered(this.#deps, BLOB_STREAM, what, silent);
  }

  /** A chunk by direct get (raw bytes, any replica), or by its leader where the replica has none yet. */
  async #chunk(name: string, signal: AbortSignal | undefined): Promise<Uint8Array | undefined> {
    const subject = `${BLOB_SUBJECT}.${name}`;
    const reply = await this.#deps.link.request(`$JS.API.DIRECT.GET.${BLOB_STREAM}.${subject}`, new Uint8Array(0), {
      timeoutMs: ATTEMPT_MS,
    });
    if (reply.kind === "reply" && reply.headers?.get("Nats-Subject") === subject) return reply.payload;
    return (await this.#deps.api.last(BLOB_STREAM, subject, signal))?.payload;
  }

  async #purge(name: string): Promise<void> {
    const answer = await this.#deps.api.call(`STREAM.PURGE.${BLOB_STREAM}`, { filter: `${BLOB_SUBJECT}.${name}` });
    if (answer.kind === "error") throw apiFault("a blob could not be removed", answer.error);
  }
}

/** Runs `act` for 0..count-1, IN_FLIGHT at a time; the first failure ends it. */
async function inParallel(count: number, act: (n: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < count) await act(next++);
  };
  await Promise.all(Array.from({ length: Math.min(IN_FLIGHT, count) }, lane));
}
