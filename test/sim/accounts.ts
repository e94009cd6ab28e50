// What the streams say must have come of them, counted anew without any service: the last look of a history.
// C1 Every distinct row that the join has read is in one outcome pane, still open, or counted as lost: once.
// C2 Folding the stream of panes from its first message gives the very bytes that were decided under faults, takeovers and repeats.
import { canonicalJson } from "#kernel/base/bytes.ts";
import type { LogMessage } from "#kernel/store/ports.ts";
import { decodeJoin, decodeRecords } from "../../drift/join/door.ts";
import { decodeOutcome } from "../../drift/panes/door.ts";
import { Profiles } from "../../drift/work/profiles.ts";
import { applyInput, needed, openWork, readInput, type TrackWork } from "../../drift/work/track-work.ts";
import type { Servers } from "./services.ts";
import type { SimLog } from "./store.ts";
import type { Trace } from "./trace.ts";

export async function account(servers: Servers, trace: Trace): Promise<void> {
  const panes = await everything(servers.panes);
  const records = await everything(servers.records);
  for (const key of servers.drift.keys("join.")) await accountRows(servers, trace, { key, panes, records });
  await accountVerdicts(servers, trace, panes);
}

type Streams = { key: string; panes: readonly LogMessage[]; records: readonly LogMessage[] };

/** C1. */
async function accountRows({ drift, blobs }: Servers, trace: Trace, { key, panes, records }: Streams): Promise<void> {
  const track = Number(key.split(".")[1]);
  const saved = await savedAt<{ sha256: string; cursors: { records: { seq: number } } }>(drift, key);
  const ledger = await blobs.memory.get(saved?.sha256 ?? "");
  if (saved === undefined || ledger === undefined)
    return trace.add({ kind: "account", what: `ledger of track ${track}`, expected: "there", found: "missing" });
  const state = decodeJoin(ledger);
  const rows = new Set<string>();
  for (const { seq, payload } of records) {
    const batch = seq <= saved.cursors.records.seq ? decodeRecords(payload) : undefined;
    if (batch?.track === track) for (const { boot, number } of batch.rows) rows.add(`${boot}/${number}`);
  }
  const told = new Map<number, number>();
  const outcomes = panes.flatMap(({ subject, payload }) =>
    subject.startsWith("mesh.opane.") ? (decodeOutcome(payload) ?? []) : [],
  );
  for (const pane of [...outcomes, ...state.outbox]) {
    if (pane.track !== track) continue;
    told.set(
      pane.startMs,
      pane.versions.reduce((sum, v) => sum + v.unlabelled + v.outcome.n.reduce((n, m) => n + m, 0), 0),
    );
  }
  const closed = [...told.values()].reduce((sum, n) => sum + n, 0);
  const open = [...state.blocks.values()].reduce((sum, block) => sum + block.length, 0);
  trace.add({
    kind: "account",
    what: `rows of track ${track}`,
    expected: rows.size,
    found: closed + open + state.lost,
  });
}

/** C2. */
async function accountVerdicts({ drift, blobs }: Servers, trace: Trace, panes: readonly LogMessage[]): Promise<void> {
  const profiles = new Profiles(blobs.memory);
  const saved = new Map<number, TrackWork>();
  const again = new Map<number, TrackWork>();
  for (const key of drift.keys("snap.")) {
    const value = await savedAt<TrackWork | { blob: string }>(drift, key);
    const bytes = value !== undefined && "blob" in value ? await blobs.memory.get(value.blob) : undefined;
    const work = bytes === undefined ? value : (JSON.parse(new TextDecoder().decode(bytes)) as TrackWork);
    if (work === undefined || "blob" in work)
      trace.add({ kind: "account", what: key, expected: "there", found: "missing" });
    else saved.set(work.track, work);
  }
  for (const message of panes) {
    const read = readInput(message);
    const live = read === undefined ? undefined : saved.get(read.track);
    if (read === undefined || live === undefined || message.seq > live.cursor || live.skipped.includes(message.seq))
      continue;
    const work = again.get(read.track) ?? openWork(read.track);
    again.set(read.track, work);
    for (const sha256 of needed(read.input)) await profiles.load(sha256);
    applyInput(work, read.input, message.seq, (sha256) => profiles.get(sha256));
  }
  for (const [track, { fold, rollup }] of saved) {
    const anew = again.get(track) ?? openWork(track);
    const same = canonicalJson({ fold: anew.fold, rollup: anew.rollup }) === canonicalJson({ fold, rollup });
    trace.add({
      kind: "account",
      what: `verdicts of track ${track}`,
      expected: "as folded anew",
      found: same ? "as folded anew" : "something else",
    });
  }
}

async function everything(log: SimLog): Promise<LogMessage[]> {
  const { lastSeq } = await log.memory.info();
  const messages: LogMessage[] = [];
  if (lastSeq === 0) return messages;
  for await (const event of log.memory.read({ filter: ">", fromSeq: 1 }, new AbortController().signal)) {
    if (event.kind === "message") messages.push(event.message);
    if (messages.length >= lastSeq) break;
  }
  return messages;
}

async function savedAt<T>({ memory }: Servers["drift"], key: string): Promise<T | undefined> {
  const entry = await memory.get(key);
  return entry === undefined ? undefined : (JSON.parse(new TextDecoder().decode(entry.value)) as T);
}
