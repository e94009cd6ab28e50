// Sorting labels, origins, refusals in each protocol.
import { describe, expect, test } from "vitest";
import { seededRand } from "#kernel/base/rand.ts";
import { inferenceId } from "#kernel/domain/ids.ts";
import { MeshError } from "#kernel/fault/error.ts";
import { timeoutMsOf } from "../forward/deadlines.ts";
import { refusalOf } from "../forward/reply.ts";
import { corsOf } from "./cors.ts";
import { MAX_LABELS, sortLabels, type Label, type TrackBatch } from "./labels.ts";

const KEY = seededRand(1).bytes(32);
const OLD_KEY = seededRand(2).bytes(32);
const RULES = {
  macKeys: [KEY, OLD_KEY],
  track: (ordinal: number) =>
    ({
      1: { model: "flights", strictNode: undefined },
      2: { model: "planes", strictNode: undefined },
      3: { model: "scans", strictNode: "clinic" },
    })[ordinal],
};
const label = (track: number, row: number, more: Partial<Label> = {}, key = KEY): Label => ({
  inferenceId: inferenceId({ track, boot: 7, number: 100 }, key),
  row,
  value: 1,
  eventTimeMs: 0n,
  ...more,
});
function sorted(labels: readonly Label[], nowMs = 5): TrackBatch[] {
  const sorting = sortLabels(labels, RULES, nowMs);
  for (;;) {
    const step = sorting.next();
    if (step.done === true) return step.value;
  }
}
const error = (labels: readonly Label[]): unknown => {
  try {
    return sorted(labels);
  } catch (thrown) {
    return thrown;
  }
};

describe("labels", () => {
  test("are grouped by track, addressed by boot and number, and dated now when the client gives no time", () => {
    const batches = sorted([label(1, 0), label(2, 0, { eventTimeMs: 3n }, OLD_KEY), label(1, 2, { value: 0 })]);
    expect(batches.map(({ labels, track }) => ({ track, labels }))).toEqual([
      {
        track: 1,
        labels: [
          { boot: 7, number: 100n, value: 1, eventTimeMs: 5n },
          { boot: 7, number: 102n, value: 0, eventTimeMs: 5n },
        ],
      },
      { track: 2, labels: [{ boot: 7, number: 100n, value: 1, eventTimeMs: 3n }] },
    ]);
  });

  test("get the same message id when they are sent again, and another one when they differ", () => {
    const [first] = sorted([label(1, 0)], 5);
    expect(sorted([label(1, 0)], 900)[0]?.id).toBe(first?.id);
    expect(sorted([label(1, 0, { value: 0 })])[0]?.id).not.toBe(first?.id);
  });

  test.each<[string, Label, string, string]>([
    ["a malformed id", label(1, 0, { inferenceId: "inf_nonsense" }), "DM-4001", "labels[1].inference_id"],
    ["a foreign id", label(1, 0, {}, seededRand(9).bytes(32)), "DM-4002", "labels[1].inference_id"],
    ["an id of a strict deployment", label(3, 0), "DM-3005", "labels[1].inference_id"],
    ["no number", label(1, 0, { value: Number.NaN }), "DM-1002", "labels[1].value"],
    ["a time before 1970", label(1, 0, { eventTimeMs: -1n }), "DM-1002", "labels[1].event_time_ms"],
  ])("with %s are refused naming the label", (_what, wrong, fault, field) => {
    expect(error([label(1, 0), wrong])).toMatchObject({
      fault,
      violations: [{ field }],
      message: expect.stringContaining(field),
    });
  });

  test("of a track that the gateway does not know yet are to be sent again", () => {
    expect(error([label(9, 0)])).toMatchObject({ fault: "DM-4003" });
  });

  test("are at most ten thousand", () => {
    expect(error(new Array(MAX_LABELS + 1).fill(label(1, 0)))).toMatchObject({ fault: "DM-1002" });
    expect(sorted(new Array(MAX_LABELS).fill(label(1, 0)))[0]?.labels).toHaveLength(MAX_LABELS);
  });
});

describe("origins", () => {
  const cors = corsOf(["http://app.example:3000"]);
  test.each([
    [{}, "none"],
    [{ origin: "http://app.example:3000", host: "127.0.0.1:4747" }, "allowed"],
    [{ origin: "http://app.example", host: "127.0.0.1:4747" }, "refused"],
    [{ origin: "http://app.example:3000.evil", host: "127.0.0.1:4747" }, "refused"],
    [{ origin: "null", host: "127.0.0.1:4747" }, "refused"],
    [{ origin: "http://127.0.0.1:4747", host: "127.0.0.1:4747" }, "allowed"],
    [{ origin: "http://rebound.example:4747", host: "rebound.example:4747" }, "refused"],
  ])("%j is %s", (headers, kind) => {
    expect(cors(headers).kind).toBe(kind);
  });
});

test.each([
  ["100m", 100],
  ["5S", 5_000],
  ["1H", 3_600_000],
  ["20u", 0.02],
  ["nonsense", undefined],
])("the timeout %s is %s ms", (header, ms) => {
  expect(timeoutMsOf({ "grpc-timeout": header })).toBe(ms);
});

test("a refusal keeps code and sentence in every protocol", () => {
  const fault = new MeshError("DM-3002", "nothing called “x” is served here");
  const grpc = refusalOf(fault, { protocol: "grpc", contentType: "application/grpc" });
  expect(grpc.headers).toMatchObject({
    "grpc-status": "5",
    "grpc-message": "(DM-3002) nothing called %E2%80%9Cx%E2%80%9D is served here",
  });
  const unary = refusalOf(fault, { protocol: "connect", contentType: "application/json" });
  expect(unary.httpStatus).toBe(404);
  expect(JSON.parse(Buffer.from(unary.body).toString())).toMatchObject({
    code: "not_found",
    message: "(DM-3002) nothing called “x” is served here",
    details: [{ type: "google.rpc.ErrorInfo" }],
  });
  const stream = refusalOf(fault, { protocol: "connect-stream", contentType: "application/connect+json" });
  expect([stream.body[0], JSON.parse(Buffer.from(stream.body.subarray(5)).toString())]).toMatchObject([
    2,
    { error: { code: "not_found" } },
  ]);
});
