// driftmesh.v1.Feedback at the edge: labels are verified, sorted by track, and durable before they are acknowledged.
// K1 Nothing of a refused request is taken. K2 Repeating a request is harmless. K3 A store that is away is UNAVAILABLE within the deadline.
import { setImmediate as breathe } from "node:timers/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import type { Clock } from "#kernel/base/clock.ts";
import { SUBJECTS } from "#kernel/domain/state.ts";
import { MeshError, messageOf } from "#kernel/fault/error.ts";
import type { Metrics } from "#kernel/process/metrics.ts";
import { startSpan } from "#kernel/process/trace.ts";
import { toConnectError, type ConnectRouter, type HandlerContext } from "#kernel/rpc/connect.ts";
import type { EventLog } from "#kernel/store/ports.ts";
import { LabelBatchSchema } from "#proto/driftmesh/internal/v1/telemetry_pb.ts";
import { Feedback } from "#proto/driftmesh/v1/feedback_pb.ts";
import { sortLabels, type Label, type LabelRules, type TrackBatch } from "./labels.ts";

const DURABLE_MS = 5_000;

export type FeedbackDeps = {
  /** MESH_FB; undefined while the store is away. */
  log: () => EventLog | undefined;
  /** Undefined until the first routes have come. */
  rules: () => LabelRules | undefined;
  clock: Clock;
  metrics: Metrics;
};

/** Registers the service. */
export function feedbackRoutes(router: ConnectRouter, deps: FeedbackDeps): void {
  const total = deps.metrics.counter("driftmesh_gateway_labels_total", "Labels by what became of them.", ["outcome"]);
  async function take(labels: readonly Label[], context: HandlerContext): Promise<number> {
    const span = startSpan("gateway.feedback", context.requestHeader.get("traceparent") ?? undefined);
    span.set("labels", labels.length);
    try {
      await accept(labels, deps, { signal: context.signal, traceparent: span.traceparent });
      total.inc({ outcome: "accepted" }, labels.length);
      return labels.length;
    } catch (error) {
      total.inc({ outcome: error instanceof MeshError ? error.fault : "failed" }, labels.length);
      span.fail(error instanceof MeshError ? error.fault : "failed");
      throw error;
    } finally {
      span.end();
    }
  }
  router.service(Feedback, {
    sendLabels: async ({ labels }, context) => ({ accepted: await take(labels, context) }),
    async *streamLabels(requests, context) {
      for await (const { labels, number } of requests) {
        try {
          yield { acknowledged: number, accepted: await take(labels, context), error: "" };
        } catch (error) {
          // What can be mended by the client is said in the stream; a store that is away ends it, so that the client sends again.
          if (!(error instanceof MeshError) || error.row.retry !== "never") throw error;
          yield { acknowledged: number, accepted: 0, error: toConnectError(error).rawMessage };
        }
      }
    },
  });
}

type Call = { signal: AbortSignal; traceparent: string | undefined };

async function accept(labels: readonly Label[], deps: FeedbackDeps, call: Call): Promise<void> {
  const rules = deps.rules();
  if (rules === undefined) throw unstored("the gateway has not heard from the control plane yet");
  const sorting = sortLabels(labels, rules, deps.clock.wallMs());
  let step = sorting.next();
  while (step.done !== true) {
    await breathe();
    step = sorting.next();
  }
  const batches = step.value;
  if (batches.length === 0) return;
  const log = deps.log();
  if (log === undefined) throw unstored("the store does not answer");
  const until = AbortSignal.any([call.signal, deps.clock.deadline(DURABLE_MS)]);
  // The trace goes on to whoever reads the labels.
  const headers = call.traceparent === undefined ? {} : { traceparent: call.traceparent };
  try {
    await Promise.all(batches.map((batch) => log.publish({ ...publicationOf(batch), headers }, until)));
  } catch (error) {
    throw unstored(messageOf(error), error);
  }
}

function publicationOf({ id, labels, track }: TrackBatch) {
  const payload = toBinary(LabelBatchSchema, create(LabelBatchSchema, { track, labels }));
  return { subject: SUBJECTS.feedback(track), payload, id };
}

function unstored(why: string, cause?: unknown): MeshError {
  return new MeshError("DM-4003", `the labels are not durable: ${why}; send them again`, { cause });
}
