// The truth of a strict deployment, taken at its own endpoint and kept on its node. Open deployments: the gateway takes it.
// B1 Malformed or foreign ids refuse the whole batch; nothing of it is taken. B2 The answer comes after the node's log has flushed it.
// B3 No message and no log line quotes an id, a value or a row: the place in the batch is enough.
// B4 A batch is stored in parts of 1,000 labels under ids of its own: sent twice it may be stored twice, which the joiner takes as a repeat.
import { createHash } from "node:crypto";
import { create, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { base32 } from "#kernel/base/bytes.ts";
import type { Clock } from "#kernel/base/clock.ts";
import type { Rand } from "#kernel/base/rand.ts";
import { readInferenceId } from "#kernel/domain/ids.ts";
import { SUBJECTS } from "#kernel/domain/state.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { grpcService, type GrpcService } from "#kernel/rpc/grpcjs.ts";
import { LabelBatchSchema, type LabelRowSchema } from "#proto/driftmesh/internal/v1/telemetry_pb.ts";
import { Feedback, type Label } from "#proto/driftmesh/v1/feedback_pb.ts";

/** Stores one message on the node; resolves when it is flushed. */
export type StoreLabels = (message: { subject: string; id: string; payload: Uint8Array }) => Promise<void>;
export type FeedbackDeps = {
  track: number;
  macKeys: () => readonly Uint8Array[];
  /** Undefined for an open deployment. */
  store: StoreLabels | undefined;
  clock: Clock;
  rand: Rand;
};
type Row = MessageInitShape<typeof LabelRowSchema>;

const LABELS_MAX = 10_000;
const PART_LABELS = 1_000;

export function feedbackService(deps: FeedbackDeps): GrpcService {
  return grpcService(Feedback, {
    sendLabels: async ({ labels }) => {
      await take(deps, labels);
      return { accepted: labels.length };
    },
    async *streamLabels(requests) {
      storeOf(deps);
      let acknowledged = 0n;
      for await (const { number, labels } of requests) {
        try {
          await take(deps, labels);
          acknowledged = number;
          yield { acknowledged, accepted: labels.length };
        } catch (error) {
          if (!(error instanceof MeshError) || error.row.retry !== "never") throw error;
          yield { acknowledged, accepted: 0, error: `(${error.fault}) ${error.message}` };
        }
      }
    },
  });
}

async function take(deps: FeedbackDeps, labels: readonly Label[]): Promise<void> {
  const store = storeOf(deps);
  if (labels.length > LABELS_MAX)
    throw wrong("labels", `${labels.length} labels in one batch; expected at most ${LABELS_MAX}`);
  const rows = labels.map((label, place) => rowOf(deps, label, place));
  const { track } = deps;
  const nonce = deps.rand.bytes(12);
  for (let from = 0; from < rows.length; from += PART_LABELS) {
    const part = { track, labels: rows.slice(from, from + PART_LABELS) };
    const payload = toBinary(LabelBatchSchema, create(LabelBatchSchema, part));
    const hash = createHash("sha256").update(nonce).update(payload).digest().subarray(0, 15);
    try {
      await store({ subject: SUBJECTS.feedback(track), id: `fb/${track}/${base32(hash)}`, payload });
    } catch (cause) {
      throw new MeshError("DM-4003", "the labels could not be written to the node's log; send them again", { cause });
    }
  }
}

function rowOf({ track, macKeys, clock }: FeedbackDeps, label: Label, place: number): Row {
  const read = readInferenceId(label.inferenceId, macKeys());
  const field = `labels[${place}].inference_id`;
  if (read.kind === "malformed") throw wrong(field, `${field} is malformed`, "DM-4001");
  if (read.kind === "wrong-mac") throw wrong(field, `${field} was not made by this mesh`, "DM-4002");
  if (read.address.track !== track) {
    throw wrong(
      field,
      `${field} belongs to another deployment; send its label to that deployment's own endpoint`,
      "DM-2007",
    );
  }
  if (!Number.isFinite(label.value))
    throw wrong(`labels[${place}].value`, `labels[${place}].value is not a finite number`);
  const number = BigInt(read.address.number) + BigInt(label.row);
  const eventTimeMs = label.eventTimeMs === 0n ? BigInt(clock.wallMs()) : label.eventTimeMs;
  return { boot: read.address.boot, number, value: label.value, eventTimeMs };
}

function storeOf({ store }: FeedbackDeps): StoreLabels {
  if (store !== undefined) return store;
  throw new MeshError(
    "DM-2007",
    "feedback of an open deployment is taken by the gateway; send it to the address of the mesh, not to a replica",
  );
}

function wrong(
  field: string,
  message: string,
  fault: "DM-1002" | "DM-4001" | "DM-4002" | "DM-2007" = "DM-1002",
): MeshError {
  return new MeshError(fault, message, { violations: [{ field, description: message }] });
}
