// Owns where the joiner's progress lies: in KV and blobs (mesh), or in files of the node's folder (strict).
// K1 A save is all or nothing: ledgers, segments and cursors move together. K2 A save that finds another revision, or is fenced, means another
//    worker: "superseded", nothing was written. K3 A ledger that was replaced is removed, after the new one is named.
import { mkdir, open, readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { canonicalJson } from "#kernel/base/bytes.ts";
import { DAY_MS } from "#kernel/domain/profile.ts";
import { DRIFT_KEYS, type SegmentState } from "#kernel/domain/state.ts";
import type { Blobs, Guard, StateStore, Write } from "#kernel/store/ports.ts";
import type { Cursor } from "./feed.ts";

export type JoinCursors = { records: Cursor; feedback: Cursor; facts: Cursor };
export type SavedTrack = { track: number; bytes: Uint8Array; cursors: JoinCursors };
export type NewSegment = { dayMs: number; rows: number; content: Uint8Array };
export type ChangedTrack = { track: number; bytes: Uint8Array; segments: readonly NewSegment[] };

export interface JoinStore {
  load(): Promise<{ cursors: JoinCursors; tracks: SavedTrack[] }>;
  save(changed: readonly ChangedTrack[], cursors: JoinCursors): Promise<"saved" | "superseded">;
}

const CURSOR_KEY = "cursor.join";
/** With at most 20 segments a track this stays below the 999 writes of a batch. */
const BATCH_TRACKS = 40;
const nowhere: Cursor = { seq: 0, createdMs: 0 };
const noCursors = (): JoinCursors => ({ records: nowhere, feedback: nowhere, facts: nowhere });

type Named = { sha256: string; cursors: JoinCursors };

/** Progress in KV `join.<ordinal>`, `segment.<ordinal>.<day>` and `cursor.join`; ledgers and segments are blobs. */
export class KvJoinStore implements JoinStore {
  readonly #state: StateStore;
  readonly #blobs: Blobs;
  readonly #guard: Guard | undefined;
  readonly #known = new Map<string, { revision: number; sha256: string }>();

  constructor(options: { state: StateStore; blobs: Blobs; guard?: Guard }) {
    this.#state = options.state;
    this.#blobs = options.blobs;
    this.#guard = options.guard;
  }

  async load(): Promise<{ cursors: JoinCursors; tracks: SavedTrack[] }> {
    const cursor = await this.#state.get(CURSOR_KEY);
    if (cursor !== undefined) this.#known.set(CURSOR_KEY, { revision: cursor.revision, sha256: "" });
    const tracks: SavedTrack[] = [];
    for (const { key, value, revision } of await this.#state.list("join.")) {
      const { sha256, cursors } = parse<Named>(value);
      const bytes = await this.#blobs.get(sha256);
      if (bytes === undefined) throw new Error(`the ledger ${sha256} of ${key} is not among the blobs`);
      this.#known.set(key, { revision, sha256 });
      tracks.push({ track: Number(key.slice("join.".length)), bytes, cursors });
    }
    return { cursors: cursor === undefined ? noCursors() : parse<JoinCursors>(cursor.value), tracks };
  }

  async save(changed: readonly ChangedTrack[], cursors: JoinCursors): Promise<"saved" | "superseded"> {
    for (let from = 0; from <= changed.length; from += BATCH_TRACKS) {
      const part = changed.slice(from, from + BATCH_TRACKS);
      const last = from + BATCH_TRACKS > changed.length;
      const ended = await this.#savePart(part, cursors, last);
      if (ended === "superseded") return ended;
    }
    return "saved";
  }

  async #savePart(part: readonly ChangedTrack[], cursors: JoinCursors, last: boolean): Promise<"saved" | "superseded"> {
    const writes: Write[] = [];
    const named = new Map<string, string>();
    for (const { track, bytes, segments } of part) {
      const sha256 = await this.#blobs.put(bytes);
      named.set(DRIFT_KEYS.join(track), sha256);
      writes.push(this.#write(DRIFT_KEYS.join(track), { sha256, cursors } satisfies Named));
      for (const segment of segments) {
        const state = segmentState(track, segment, await this.#blobs.put(segment.content));
        writes.push({ kind: "put", key: DRIFT_KEYS.segment(track, state.day), value: text(state) });
      }
    }
    if (last) writes.push(this.#write(CURSOR_KEY, cursors));
    if (writes.length === 0) return "saved";
    const result = await this.#state.batch(writes, this.#guard);
    if (result.kind !== "written") return "superseded";
    for (const [i, { key }] of writes.entries()) {
      const before = this.#known.get(key);
      const sha256 = named.get(key);
      if (before === undefined && sha256 === undefined && key !== CURSOR_KEY) continue;
      this.#known.set(key, { revision: result.revision - (writes.length - 1 - i), sha256: sha256 ?? "" });
      if (before !== undefined && before.sha256 !== "" && before.sha256 !== sha256) {
        await this.#blobs.remove(before.sha256).catch(() => undefined);
      }
    }
    return "saved";
  }

  #write(key: string, value: unknown): Write {
    const known = this.#known.get(key);
    if (known === undefined) return { kind: "create", key, value: text(value) };
    return { kind: "update", key, value: text(value), revision: known.revision };
  }
}

type NodeFile = {
  format: 1;
  cursors: JoinCursors;
  tracks: Record<string, Named>;
  segments: { state: SegmentState; told: boolean }[];
};

/** Progress in `join.json` of a folder, ledgers and segments in its blobs; `announce` is told of each segment. */
export class FileJoinStore implements JoinStore {
  readonly #dir: string;
  readonly #blobs: Blobs;
  readonly #announce: (segment: SegmentState) => Promise<void>;
  #file: NodeFile = { format: 1, cursors: noCursors(), tracks: {}, segments: [] };

  constructor(options: { dir: string; blobs: Blobs; announce: (segment: SegmentState) => Promise<void> }) {
    this.#dir = options.dir;
    this.#blobs = options.blobs;
    this.#announce = options.announce;
  }

  async load(): Promise<{ cursors: JoinCursors; tracks: SavedTrack[] }> {
    await mkdir(this.#dir, { recursive: true, mode: 0o700 });
    const content = await readFile(this.#path, "utf8").catch((error: unknown) => {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return "";
      throw error;
    });
    if (content !== "") this.#file = JSON.parse(content) as NodeFile;
    const tracks: SavedTrack[] = [];
    for (const [track, { sha256, cursors }] of Object.entries(this.#file.tracks)) {
      const bytes = await this.#blobs.get(sha256);
      if (bytes === undefined) throw new Error(`the ledger ${sha256} of track ${track} is not in ${this.#dir}`);
      tracks.push({ track: Number(track), bytes, cursors });
    }
    return { cursors: this.#file.cursors, tracks };
  }

  async save(changed: readonly ChangedTrack[], cursors: JoinCursors): Promise<"saved"> {
    const before = this.#file.tracks;
    const file: NodeFile = { ...this.#file, cursors, tracks: { ...before }, segments: [...this.#file.segments] };
    for (const { track, bytes, segments } of changed) {
      file.tracks[track] = { sha256: await this.#blobs.put(bytes), cursors };
      for (const segment of segments) {
        const state = segmentState(track, segment, await this.#blobs.put(segment.content));
        file.segments.push({ state, told: false });
      }
    }
    await this.#write(file);
    for (const { track } of changed) {
      const old = before[track]?.sha256;
      if (old !== undefined && old !== file.tracks[track]?.sha256) await this.#blobs.remove(old);
    }
    await this.#tell();
    return "saved";
  }

  /** A segment that could not be announced is announced after a later save. */
  async #tell(): Promise<void> {
    for (const segment of this.#file.segments) {
      if (segment.told) continue;
      try {
        await this.#announce(segment.state);
        segment.told = true;
      } catch {
        return;
      }
    }
  }

  get #path(): string {
    return join(this.#dir, "join.json");
  }

  async #write(file: NodeFile): Promise<void> {
    const fresh = `${this.#path}.new`;
    await using handle = await open(fresh, "w", 0o600);
    await handle.writeFile(canonicalJson(file));
    await handle.datasync();
    await rename(fresh, this.#path);
    await using folder = await open(this.#dir, "r");
    await folder.sync();
    this.#file = file;
  }
}

function segmentState(track: number, { dayMs, rows }: NewSegment, sha256: string): SegmentState {
  return { track, day: dayText(dayMs), fromMs: dayMs, toMs: dayMs + DAY_MS, sha256, rows };
}

const dayText = (ms: number): string => new Date(ms).toISOString().slice(0, 10);
const text = (value: unknown): Uint8Array => new TextEncoder().encode(canonicalJson(value));
const parse = <T>(value: Uint8Array): T => JSON.parse(new TextDecoder().decode(value)) as T;
