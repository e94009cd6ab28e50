// Replays flights at a constant pace: asks both deployments about the same rows, later tells both the truth.
// R1 Never waits for a verdict: only for its own calls and for its own clock.
// R2 A call that the mesh could not take is repeated for up to 30 s, as any good client does, and counted.
// R3 Every answer goes to the recorder, so that the pay-off is computed from answers and truths alone.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type ModelInferRequestSchema, type ModelInferResponse } from "#proto/inference/grpc_service_pb.ts";
import { DAY0_MS, DAY_MS, type Flights } from "../dataset.ts";
import { FEATURES, type Asked, type Story } from "../features.ts";
import type { Recorder } from "../policies.ts";
import { replay, type RowsEvent, type TruthsEvent } from "../replay.ts";
import type { Column } from "../table.ts";
import type { Mesh } from "./mesh.ts";

const WINDOW_MINUTES = 30;

export type FeedOptions = {
  flights: Flights;
  asked: Asked;
  story: Story;
  fromDay: number;
  toDay: number;
  speed: number;
  /** model_name of the deployment that follows the champion, and of the pinned one. */
  follows: string;
  pinned: string;
  recorder: Recorder;
  /** Monotonic ms, and a way to wait. */
  nowMs: () => number;
  sleep: (ms: number) => Promise<void>;
  /** Called at each new event day; returns true to stop there. */
  onDay: (day: number) => boolean;
};

export type FeedResult = {
  rows: number;
  requests: number;
  labels: number;
  seconds: number;
  lagMs: number;
  /** Calls that failed and were repeated. */
  repeated: number;
  toDay: number;
};

type Asking = { mesh: string; pinned: string; row: number };
type Book = {
  ids: Map<number, Asking>;
  result: FeedResult;
  recorder: Recorder;
  patient: <T>(call: () => Promise<T>) => Promise<T>;
};

/** Plays the story through the mesh; resolves when the last truth has been told or `onDay` says stop. */
export async function feed(mesh: Mesh, options: FeedOptions): Promise<FeedResult> {
  const result: FeedResult = {
    rows: 0,
    requests: 0,
    labels: 0,
    seconds: 0,
    lagMs: 0,
    repeated: 0,
    toDay: options.fromDay,
  };
  const book: Book = {
    ids: new Map(),
    result,
    recorder: options.recorder,
    patient: (call) => patiently(call, options, result),
  };
  const startMs = options.nowMs();
  const firstMs = DAY0_MS + options.fromDay * DAY_MS;
  const { flights, asked, story, fromDay, toDay } = options;
  for (const event of replay(flights, { asked, story, fromDay, toDay, windowMinutes: WINDOW_MINUTES })) {
    const aheadMs = startMs + (event.atMs - firstMs) / options.speed - options.nowMs();
    if (aheadMs > 1) await options.sleep(aheadMs);
    else result.lagMs = Math.max(result.lagMs, -aheadMs);
    const day = Math.floor((event.atMs - DAY0_MS) / DAY_MS);
    if (day > result.toDay) {
      result.toDay = day;
      if (options.onDay(day)) break;
    }
    if (event.kind === "rows") await ask(mesh, options, event, book);
    else await tell(mesh, event, book);
  }
  result.seconds = (options.nowMs() - startMs) / 1000;
  return result;
}

async function ask(mesh: Mesh, options: FeedOptions, event: RowsEvent, book: Book): Promise<void> {
  const request = requestOf(event.columns, event.eventMs);
  const [followed, pinned] = await Promise.all([
    book.patient(() => mesh.inference.modelInfer({ ...request, modelName: options.follows })),
    book.patient(() => mesh.inference.modelInfer({ ...request, modelName: options.pinned })),
  ]);
  const ours = scoresOf(followed);
  const theirs = scoresOf(pinned);
  book.result.requests += 2;
  book.result.rows += event.keys.length;
  book.recorder.answered(event, { mesh: ours.scores, pinned: theirs.scores });
  event.keys.forEach((key, row) => book.ids.set(key, { mesh: ours.id, pinned: theirs.id, row }));
}

async function tell(mesh: Mesh, event: TruthsEvent, book: Book): Promise<void> {
  const labels = [...event.keys].flatMap((key, i) => {
    const asking = book.ids.get(key);
    if (asking === undefined) return [];
    book.ids.delete(key);
    const eventTimeMs = BigInt(Math.round(event.knownMs[i] ?? 0));
    const label = { row: asking.row, value: event.labels[i] ?? 0, eventTimeMs };
    return [
      { ...label, inferenceId: asking.mesh },
      { ...label, inferenceId: asking.pinned },
    ];
  });
  if (labels.length === 0) return;
  await book.patient(() => mesh.feedback.sendLabels({ labels }));
  book.recorder.told(event);
  book.result.labels += labels.length / 2;
}

/** UNAVAILABLE, and what this client makes of a connection whose other end was killed: CANCELLED (cut) or ABORTED (reset). */
const AWAY: ReadonlySet<unknown> = new Set([14, 1, 10]);
const PATIENCE_MS = 30_000;

async function patiently<T>(call: () => Promise<T>, { nowMs, sleep }: FeedOptions, result: FeedResult): Promise<T> {
  for (const endMs = nowMs() + PATIENCE_MS; ;) {
    try {
      return await call();
    } catch (error) {
      const away = error instanceof Error && "code" in error && AWAY.has(error.code);
      if (!away || nowMs() > endMs) throw error;
      result.repeated++;
      await sleep(100);
    }
  }
}

/** A request of many rows, one tensor per feature, with the event time of each row. */
export function requestOf(
  columns: readonly Column[],
  eventMs: ArrayLike<number>,
): MessageInitShape<typeof ModelInferRequestSchema> {
  const shape = [BigInt(eventMs.length), 1n];
  const encoder = new TextEncoder();
  const times = Array.from(eventMs, (at) => Math.round(at)).join(",");
  return {
    parameters: { driftmesh_event_time: { parameterChoice: { case: "stringParam", value: times } } },
    inputs: FEATURES.map(({ name }, i) => {
      const column = columns[i];
      if (column?.type === "category") {
        const bytesContents = column.values.map((text) => encoder.encode(text));
        return { name, datatype: "BYTES", shape, contents: { bytesContents } };
      }
      return { name, datatype: "FP32", shape, contents: { fp32Contents: Array.from(column?.values ?? []) } };
    }),
  };
}

/** Column 1 of `probabilities`, the mesh's id and the version that answered. */
export function scoresOf(response: ModelInferResponse): { scores: number[]; id: string; version: number } {
  const at = response.outputs.findIndex((output) => output.name === "probabilities");
  const raw = response.rawOutputContents[at];
  const flat = raw === undefined ? (response.outputs[at]?.contents?.fp32Contents ?? []) : floatsOf(raw);
  const scores: number[] = [];
  for (let i = 1; i < flat.length; i += 2) scores.push(flat[i] ?? Number.NaN);
  const id = response.parameters["driftmesh_inference_id"]?.parameterChoice;
  return { scores, id: id?.case === "stringParam" ? id.value : "", version: Number(response.modelVersion) };
}

function floatsOf(raw: Uint8Array): number[] {
  const view = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  return Array.from({ length: raw.byteLength / 4 }, (_, i) => view.getFloat32(i * 4, true));
}
