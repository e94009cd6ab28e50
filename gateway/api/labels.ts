// From what a client sent as truth to batches of one track each. Pure.
// B1 A malformed or foreign id refuses the whole request and names every such label (the first ten). B2 Labels of strict tracks are refused.
// B3 The id of a batch is a hash of what the client said, so that sending it again stores nothing twice.
import { sha256Hex } from "#kernel/base/bytes.ts";
import { readInferenceId } from "#kernel/domain/ids.ts";
import { MeshError, type Violation } from "#kernel/fault/error.ts";
import type { FaultCode } from "#kernel/fault/table.ts";

export type Label = { inferenceId: string; row: number; value: number; eventTimeMs: bigint };
export type LabelRow = { boot: number; number: bigint; value: number; eventTimeMs: bigint };
/** The labels of one track; `id` is the message id. */
export type TrackBatch = { track: number; id: string; labels: LabelRow[] };
/** What the gateway knows that decides about labels. */
export type LabelRules = {
  macKeys: readonly Uint8Array[];
  track(ordinal: number): { model: string; strictNode: string | undefined } | undefined;
};

export const MAX_LABELS = 10_000;
const MAX_NUMBER = 2 ** 40 - 1;
const NAMED_VIOLATIONS = 10;

type Bad = { fault: FaultCode; violation: Violation };

/** Checks and groups labels; a generator that yields now and then, so that ten thousand of them do not hold up other calls. */
export function* sortLabels(
  labels: readonly Label[],
  rules: LabelRules,
  nowMs: number,
): Generator<undefined, TrackBatch[]> {
  if (labels.length > MAX_LABELS)
    throw new MeshError("DM-1002", `the request has ${labels.length} labels: send at most ${MAX_LABELS} at once`);
  const batches = new Map<number, { labels: LabelRow[]; said: string[] }>();
  const bad: Bad[] = [];
  for (const [i, label] of labels.entries()) {
    if (i % CHECKED_AT_ONCE === CHECKED_AT_ONCE - 1) yield;
    const read = placeOf(label, i, rules);
    if ("fault" in read) {
      bad.push(read);
      if (bad.length >= NAMED_VIOLATIONS) break;
      continue;
    }
    const batch = batches.get(read.track) ?? { labels: [], said: [] };
    batches.set(read.track, batch);
    const { boot, number } = read;
    const { eventTimeMs, value } = label;
    batch.said.push(`${boot}/${number}/${value}/${eventTimeMs}`);
    batch.labels.push({ boot, number: BigInt(number), value, eventTimeMs: eventTimeMs || BigInt(nowMs) });
  }
  if (bad.length > 0) throw refusal(bad);
  return [...batches].map(([track, batch]) => ({
    track,
    id: `fb/${track}/${sha256Hex(batch.said.join("\n"))}`,
    labels: batch.labels,
  }));
}

/** A MAC costs about 3 us: this many are checked in about 3 ms. */
const CHECKED_AT_ONCE = 1_000;

function placeOf(label: Label, i: number, rules: LabelRules): { track: number; boot: number; number: number } | Bad {
  const at = `labels[${i}]`;
  const id = readInferenceId(label.inferenceId, rules.macKeys);
  if (id.kind === "malformed")
    return bad("DM-4001", `${at}.inference_id`, "expected inf_ and 26 letters and digits, as the answer had it");
  if (id.kind === "wrong-mac") return bad("DM-4002", `${at}.inference_id`, "this mesh did not make the id");
  if (!Number.isFinite(label.value)) return bad("DM-1002", `${at}.value`, "expected a finite number");
  if (label.eventTimeMs < 0n) return bad("DM-1002", `${at}.event_time_ms`, "expected Unix milliseconds, or 0 for now");
  const { boot, track } = id.address;
  const number = id.address.number + label.row;
  if (number > MAX_NUMBER) return bad("DM-1002", `${at}.row`, "no inference has so many rows");
  const place = rules.track(track);
  if (place === undefined)
    throw new MeshError("DM-4003", `the gateway does not know the track of ${at}.inference_id yet; send it again`);
  if (place.strictNode !== undefined)
    return bad(
      "DM-3005",
      `${at}.inference_id`,
      `"${place.model}" ran in strict mode on node "${place.strictNode}": send its labels to the deployment's own endpoint`,
    );
  return { track, boot, number };
}

function bad(fault: FaultCode, field: string, description: string): Bad {
  return { fault, violation: { field, description } };
}

function refusal(all: readonly Bad[]): MeshError {
  const [first] = all;
  const violations = all.map(({ violation }) => violation);
  const { description, field } = first?.violation ?? { field: "labels", description: "" };
  const more = all.length > 1 ? ` (and ${all.length - 1} more)` : "";
  return new MeshError(first?.fault ?? "DM-1002", `${field}: ${description}${more}; nothing of the batch was taken`, {
    violations,
  });
}
