// Owns where verdicts lie: KV mesh_drift `snap.`, `verdict.`, `episode.`, `evidence.`, `decision.` and `cursor.verdicts`.
// V1 A track's snapshot and what was decided since the one before are one batch. V2 Snapshots go by compare-and-set: another revision, or the
//    guard, means another worker: "superseded". V3 Values beyond INLINE_BYTES are blobs, named by `{"blob":sha256}`.
// V4 Of verdicts the last VERDICTS_MAX decisions of a track are kept; of episodes and evidence all.
import { decisionId, type DecisionKind } from "#kernel/domain/ids.ts";
import { canonicalJson } from "#kernel/base/bytes.ts";
import { DRIFT_KEYS, type EpisodeState, type VerdictState } from "#kernel/domain/state.ts";
import type { Blobs, Guard, StateStore, Write } from "#kernel/store/ports.ts";
import type { Cursor } from "./feed.ts";
import type { Decision, TrackWork } from "./track-work.ts";

const CURSOR_KEY = "cursor.verdicts";
const INLINE_BYTES = 32 * 1024;
const BATCH_WRITES = 900;
const VERDICTS_MAX = 400;

/** One message's decisions, with their text by kind, and the trace that its episodes go on with. */
export type Decided = {
  seq: number;
  decisions: readonly Decision[];
  texts: ReadonlyMap<DecisionKind, string>;
  trace?: string;
};
export type ChangedWork = { work: TrackWork; decided: readonly Decided[] };
export type LoadedVerdicts = { cursor: Cursor; works: TrackWork[]; verdicts: VerdictState[]; episodes: EpisodeState[] };

export class VerdictStore {
  readonly #state: StateStore;
  readonly #blobs: Blobs;
  readonly #guard: Guard | undefined;
  readonly #known = new Map<string, { revision: number; blob: string }>();

  constructor(options: { state: StateStore; blobs: Blobs; guard?: Guard }) {
    this.#state = options.state;
    this.#blobs = options.blobs;
    this.#guard = options.guard;
  }

  async load(): Promise<LoadedVerdicts> {
    const cursor = await this.#state.get(CURSOR_KEY);
    const works: TrackWork[] = [];
    for (const { key, value, revision } of await this.#state.list("snap.")) {
      this.#known.set(key, { revision, blob: blobOf(value) });
      works.push(JSON.parse(await this.#unwrapped(value, key)) as TrackWork);
    }
    const states = async <T>(prefix: string): Promise<T[]> =>
      (await this.#state.list(prefix)).map(({ value }) => JSON.parse(decode(value)) as T);
    return {
      cursor: cursor === undefined ? { seq: 0, createdMs: 0 } : (JSON.parse(decode(cursor.value)) as Cursor),
      works,
      verdicts: await states<VerdictState>("verdict."),
      episodes: await states<EpisodeState>("episode."),
    };
  }

  /** The snapshot of a track as it was saved last. */
  async work(track: number): Promise<TrackWork | undefined> {
    const key = DRIFT_KEYS.snapshot(track);
    const entry = await this.#state.get(key);
    return entry === undefined ? undefined : (JSON.parse(await this.#unwrapped(entry.value, key)) as TrackWork);
  }

  /** What was decided, as it was made; undefined when it is not kept. */
  async decision(id: string): Promise<string | undefined> {
    const entry = await this.#state.get(`decision.${id}`);
    return entry === undefined ? undefined : await this.#unwrapped(entry.value, id);
  }

  async save(changed: readonly ChangedWork[], cursor: Cursor): Promise<"saved" | "superseded"> {
    let batch: Write[] = [];
    for (const { work, decided } of changed) {
      const writes = await this.#writesOf(work, decided);
      if (batch.length > 0 && batch.length + writes.length > BATCH_WRITES) {
        if ((await this.#write(batch)) === "superseded") return "superseded";
        batch = [];
      }
      batch.push(...writes);
    }
    batch.push({ kind: "put", key: CURSOR_KEY, value: encode(canonicalJson(cursor)) });
    return await this.#write(batch);
  }

  async #writesOf(work: TrackWork, decided: readonly Decided[]): Promise<Write[]> {
    const newest = new Map<string, string>();
    const made: Write[] = [];
    for (const { seq, decisions, texts, trace } of decided) {
      for (const decision of decisions) newest.set(...levelOf(decision, trace));
      for (const [kind, text] of texts) {
        const key = `decision.${decisionId(kind, work.track, seq)}`;
        made.push({ kind: "put", key, value: await this.#wrapped(text) });
        if (kind === "verdict" && !work.verdicts.includes(seq)) work.verdicts.push(seq);
      }
    }
    const forgotten = await this.#forget(work);
    const key = DRIFT_KEYS.snapshot(work.track);
    const value = await this.#wrapped(canonicalJson(work));
    const known = this.#known.get(key);
    const snapshot: Write =
      known === undefined ? { kind: "create", key, value } : { kind: "update", key, value, revision: known.revision };
    const levels = [...newest].map(([level, text]): Write => ({ kind: "put", key: level, value: encode(text) }));
    return [...forgotten, ...made, ...levels, snapshot];
  }

  /** V4. */
  async #forget(work: TrackWork): Promise<Write[]> {
    const writes: Write[] = [];
    while (work.verdicts.length > VERDICTS_MAX) {
      const key = `decision.${decisionId("verdict", work.track, work.verdicts.shift() ?? 0)}`;
      const entry = await this.#state.get(key);
      if (entry !== undefined) writes.push({ kind: "delete", key, revision: entry.revision });
    }
    return writes;
  }

  async #write(writes: readonly Write[]): Promise<"saved" | "superseded"> {
    const result = await this.#state.batch(writes, this.#guard);
    if (result.kind !== "written") return "superseded";
    for (const [i, write] of writes.entries()) {
      if (!write.key.startsWith("snap.") || write.kind === "delete") continue;
      const before = this.#known.get(write.key)?.blob ?? "";
      const blob = blobOf(write.value);
      this.#known.set(write.key, { revision: result.revision - (writes.length - 1 - i), blob });
      if (before !== "" && before !== blob) await this.#blobs.remove(before).catch(() => undefined);
    }
    return "saved";
  }

  /** V3. */
  async #wrapped(text: string): Promise<Uint8Array> {
    const value = encode(text);
    if (value.byteLength <= INLINE_BYTES) return value;
    return encode(canonicalJson({ blob: await this.#blobs.put(value) }));
  }

  async #unwrapped(value: Uint8Array, what: string): Promise<string> {
    const blob = blobOf(value);
    if (blob === "") return decode(value);
    const content = await this.#blobs.get(blob);
    if (content === undefined) throw new Error(`the blob ${blob} of ${what} is not there`);
    return decode(content);
  }
}

/** The key of the level a decision sets, and its text. */
function levelOf(decision: Decision, trace: string | undefined): [string, string] {
  switch (decision.kind) {
    case "verdict":
      return [DRIFT_KEYS.verdict(decision.verdict.track), canonicalJson(decision.verdict)];
    case "episode": {
      const { episode } = decision;
      const level = trace === undefined ? episode : { ...episode, trace };
      return [DRIFT_KEYS.episode(episode.track, episode.number), canonicalJson(level)];
    }
    case "evidence":
      return [DRIFT_KEYS.evidence(decision.evidence.rollout), canonicalJson(decision.evidence)];
  }
}

function blobOf(value: Uint8Array): string {
  return /^\{"blob":"([0-9a-f]{64})"\}$/.exec(value.byteLength < 100 ? decode(value) : "")?.[1] ?? "";
}
const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
const decode = (value: Uint8Array): string => new TextDecoder().decode(value);
