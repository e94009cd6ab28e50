// Takes a backup of a running mesh: both buckets, each as it was at one sequence, and every blob that they name.
// K1 `mesh_drift` is cut first, then `mesh_state`. So what drift has heard of the control plane (facts by revision) the control plane still knows
//    to have said; what drift decided is in its keys as a level, and a leader that has not acted on it yet acts again.
// K2 A cut holds only when every blob it names has been copied: drift removes a snapshot's blob when the next one is saved, so what vanished
//    under our hands is looked for in a new cut. K3 Blobs are found by their hashes, in keys and in blobs that are JSON (manifests, trees).
import { KEYS, BUCKETS, STREAMS } from "../../domain/state.ts";
import { MeshError } from "../../fault/error.ts";
import type { Blobs, Entry, EventLog, StateStore } from "../ports.ts";
import type { Clock } from "../../base/clock.ts";
import { BACKUP_FORMAT, type BackupBlob, type BackupEntry, type BackupItem } from "./format.ts";

export type BackupSources = {
  state: StateStore;
  drift: StateStore;
  panes: Pick<EventLog, "info">;
  blobs: Blobs;
  clock: Clock;
  /** Of the mesh. */
  version: string;
};

const CUTS_MAX = 20;
/** Larger JSON is nobody's manifest. */
const NAMING_BYTES = 8 * 2 ** 20;
const ABSENT_MAX = 1_000;

type Absent = { key: string; sha256: string; revision: number };

/** The items of one backup, blobs first; nothing stops while it is taken. */
export async function* takeBackup(sources: BackupSources, signal: AbortSignal): AsyncGenerator<BackupItem> {
  const { state, drift, panes, clock, version } = sources;
  const copying = new Copying(sources.blobs, signal);
  const known = await state.get(KEYS.epoch, signal);
  const epoch = known === undefined ? 0 : (JSON.parse(textOf(known.value)) as { epoch: number }).epoch;
  yield { kind: "header", format: BACKUP_FORMAT, version, epoch, madeMs: clock.wallMs() };
  const driftCut = yield* copying.cut(() => drift.list("", signal));
  const { lastSeq } = await panes.info(undefined, signal);
  const stateCut = yield* copying.cut(() => state.list("", signal));
  yield* entriesOf(BUCKETS.drift, driftCut.entries);
  yield* entriesOf(BUCKETS.state, stateCut.entries);
  yield {
    kind: "end",
    sequences: {
      [BUCKETS.drift]: newest(driftCut.entries),
      [BUCKETS.state]: newest(stateCut.entries),
      [STREAMS.panes.name]: lastSeq,
    },
    absent: [...driftCut.absent, ...stateCut.absent].slice(0, ABSENT_MAX).map(({ key, sha256 }) => ({ key, sha256 })),
  };
}

function* entriesOf(bucket: string, entries: readonly Entry[]): Generator<BackupEntry> {
  for (const { key, value, revision } of entries) yield { kind: "entry", bucket, key, revision, value };
}

const newest = (entries: readonly Entry[]): number =>
  entries.reduce((most, { revision }) => Math.max(most, revision), 0);

/** Copies blobs, each once. */
class Copying {
  readonly #blobs: Blobs;
  readonly #signal: AbortSignal;
  readonly #copied = new Set<string>();

  constructor(blobs: Blobs, signal: AbortSignal) {
    this.#blobs = blobs;
    this.#signal = signal;
  }

  /** A cut whose blobs are all copied, but for those that were not there before it either (K2). */
  async *cut(list: () => Promise<Entry[]>): AsyncGenerator<BackupBlob, { entries: Entry[]; absent: Absent[] }> {
    let before: Absent[] = [];
    for (let turn = 0; turn < CUTS_MAX; turn += 1) {
      const entries = await list();
      const absent: Absent[] = [];
      for (const entry of entries) yield* this.#copyNamed(entry, absent);
      const again = new Set(before.map(({ sha256, revision }) => `${sha256} ${revision}`));
      if (absent.every(({ sha256, revision }) => again.has(`${sha256} ${revision}`))) return { entries, absent };
      before = absent;
    }
    throw new MeshError("DM-6001", "the store changes faster than it can be copied; take the backup at a calmer time");
  }

  async *#copyNamed({ key, value, revision }: Entry, absent: Absent[]): AsyncGenerator<BackupBlob> {
    const waiting = hashesIn(value);
    for (let sha256 = waiting.pop(); sha256 !== undefined; sha256 = waiting.pop()) {
      if (this.#copied.has(sha256)) continue;
      this.#signal.throwIfAborted();
      const content = await this.#blobs.get(sha256, this.#signal);
      if (content === undefined) {
        absent.push({ key, sha256, revision });
        continue;
      }
      this.#copied.add(sha256);
      yield { kind: "blob", sha256, content };
      if (content[0] === OPENING_BRACE && content.byteLength <= NAMING_BYTES) waiting.push(...hashesIn(content));
    }
  }
}

const OPENING_BRACE = 0x7b;
const textOf = (value: Uint8Array): string => new TextDecoder().decode(value);

/** K3: every string that could be the hash of a blob. */
function hashesIn(value: Uint8Array): string[] {
  return [...new Set([...textOf(value).matchAll(/"([0-9a-f]{64})"/g)].map(([, sha256 = ""]) => sha256))];
}
