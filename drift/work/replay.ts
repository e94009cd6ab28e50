// Owns the replay of a decision: the track's stream folded anew, up to the message that decided it.
// Y1 The same code as live (track-work), a fresh state, the same messages skipped: the same bytes, unless messages have expired since.
import { readDecisionId, type DecisionKind } from "#kernel/domain/ids.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { SUBJECTS } from "#kernel/domain/state.ts";
import type { EventLog, LogMessage } from "#kernel/store/ports.ts";
import type { Profiles } from "./profiles.ts";
import { applyInput, decisionTexts, needed, openWork, readInput } from "./track-work.ts";

export type ReplayDeps = {
  panes: EventLog;
  profiles: Profiles;
  /** What was decided, as it was made. */
  made: (id: string) => Promise<string | undefined>;
  /** Sequences of the track that were skipped live. */
  skipped: (track: number) => Promise<readonly number[]>;
};
export type Replayed = { made: string; replayed: string; identical: boolean; messages: number };

/** Replays `id`; DM-2005 when no such decision is kept. */
export async function replay(deps: ReplayDeps, id: string, signal: AbortSignal): Promise<Replayed> {
  const named = readDecisionId(id);
  if (named === undefined) {
    throw new MeshError(
      "DM-2005",
      `"${id}" names no decision: expected verdict-, episode- or evidence-, as in episode-3-1042`,
    );
  }
  const made = await deps.made(id);
  if (made === undefined) throw new MeshError("DM-2005", `no decision ${id} is kept`);
  const { replayed, messages } = await foldAgain(deps, named, signal);
  return { made, replayed, identical: made === replayed, messages };
}

type Named = { kind: DecisionKind; track: number; seq: number };

async function foldAgain(
  { panes, profiles, skipped }: ReplayDeps,
  { kind, track, seq }: Named,
  signal: AbortSignal,
): Promise<{ replayed: string; messages: number }> {
  const work = openWork(track);
  const leave = new Set(await skipped(track));
  let messages = 0;
  for await (const message of tracksMessages(panes, track, seq, signal)) {
    messages += 1;
    const read = readInput(message);
    if (read === undefined || leave.has(message.seq)) continue;
    for (const sha256 of needed(read.input)) await profiles.load(sha256, signal);
    try {
      const decisions = applyInput(work, read.input, message.seq, (sha256) => profiles.get(sha256));
      if (message.seq === seq) return { replayed: decisionTexts(decisions).get(kind) ?? "", messages };
    } catch {
      // Live, the loop went on as well.
    }
  }
  return { replayed: "", messages };
}

/** Messages of one track in stream order up to `seq`: its three kinds of subject, merged. */
async function* tracksMessages(
  panes: EventLog,
  track: number,
  seq: number,
  signal: AbortSignal,
): AsyncGenerator<LogMessage> {
  const filters = [
    `${SUBJECTS.pane(track, 0).replace(/\.0$/, "")}.*`,
    SUBJECTS.outcomePane(track),
    SUBJECTS.fact(track),
  ];
  const over = new AbortController();
  const end = AbortSignal.any([signal, over.signal]);
  const sources = filters.map((filter) => upTo(panes, filter, seq, end));
  try {
    const heads = await Promise.all(sources.map((source) => source.next()));
    for (;;) {
      signal.throwIfAborted();
      const at = lowest(heads);
      const head = heads[at];
      if (head === undefined || head.done === true) return;
      const next = sources[at]?.next();
      yield head.value;
      if (next !== undefined) heads[at] = await next;
    }
  } finally {
    over.abort();
    await Promise.allSettled(sources.map((source) => source.return(undefined)));
  }
}

function lowest(heads: readonly IteratorResult<LogMessage, undefined>[]): number {
  let best = -1;
  let bestSeq = Number.POSITIVE_INFINITY;
  heads.forEach((head, i) => {
    if (head.done === true || head.value.seq >= bestSeq) return;
    best = i;
    bestSeq = head.value.seq;
  });
  return best;
}

async function* upTo(
  log: EventLog,
  filter: string,
  seq: number,
  signal: AbortSignal,
): AsyncGenerator<LogMessage, undefined> {
  const { firstSeq, lastSeq } = await log.info(filter, signal);
  if (lastSeq === 0 || firstSeq > seq) return undefined;
  for await (const event of log.read({ filter, fromSeq: firstSeq }, signal)) {
    if (event.kind !== "message") continue;
    if (event.message.seq > seq) return undefined;
    yield event.message;
    if (event.message.seq >= Math.min(seq, lastSeq)) return undefined;
  }
  return undefined;
}
