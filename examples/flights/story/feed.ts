// Replays flights at a constant pace: asks both deployments about the same rows, later tells both the truth.
// R1 Never waits for a verdict: only for its own calls and for its own clock.
// R2 Every answer is kept under the flight's key, so that the pay-off is computed from answers and truths alone.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ModelInferRequestSchema, type ModelInferResponse } from "#proto/inference/grpc_service_pb.ts";
import { DAY0_MS, DAY_MS, type Flights } from "../dataset.ts";
import { FEATURES, type Asked, type Story } from "../features.ts";
import { replay, type RowsEvent, type TruthsEvent } from "../replay.ts";
import type { Column } from "../table.ts";
import type { Mesh } from "./mesh.ts";

/** One row as the client knows it. `columns` are the features as sent, in the order of FEATURES. */
export type Answered = {
  key: number;
  eventMs: number;
  features: readonly (number | string)[];
  mesh: number;
  pinned: number;
  version: number;
  label: number | undefined;
};

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
  /** Monotonic ms, and a way to wait. */
  nowMs: () => number;
  sleep: (ms: number) => Promise<void>;
  /** Called at each new event day; returns true to stop there. */
  onDay: (day: number) => boolean;
};

export type FeedResult = { rows: Answered[]; requests: number; labels: number; seconds: number; slowestLagMs: number };

type Ids = { mesh: string; pinned: string; row: number; answered: Answered };

/** Plays the story through the mesh; resolves when the last truth has been told or `onDay` says stop. */
export async function feed(mesh: Mesh, options: FeedOptions): Promise<FeedResult> {
  const ids = new Map<number, Ids>();
  const result: FeedResult = { rows: [], requests: 0, labels: 0, seconds: 0, slowestLagMs: 0 };
  const startMs = options.nowMs();
  const firstMs = DAY0_MS + options.fromDay * DAY_MS;
  let day = options.fromDay;
  for (const event of replay(options.flights, { ...options, windowMinutes: 30 })) {
    const dueMs = startMs + (event.atMs - firstMs) / options.speed;
    const aheadMs = dueMs - options.nowMs();
    if (aheadMs > 1) await options.sleep(aheadMs);
    else result.slowestLagMs = Math.max(result.slowestLagMs, -aheadMs);
    const eventDay = Math.floor((event.atMs - DAY0_MS) / DAY_MS);
    if (eventDay > day && options.onDay((day = eventDay))) break;
    if (event.kind === "rows") await ask(mesh, options, event, { ids, result });
    else await tell(mesh, event, { ids, result });
  }
  result.seconds = (options.nowMs() - startMs) / 1000;
  return result;
}

type Book = { ids: Map<number, Ids>; result: FeedResult };

async function ask(mesh: Mesh, options: FeedOptions, event: RowsEvent, { ids, result }: Book): Promise<void> {
  const request = requestOf(event.columns, event.eventMs);
  const [followed, pinned] = await Promise.all([
    mesh.inference.modelInfer({ ...request, modelName: options.follows }),
    mesh.inference.modelInfer({ ...request, modelName: options.pinned }),
  ]);
  result.requests += 2;
  const ours = scoresOf(followed);
  const theirs = scoresOf(pinned);
  event.keys.forEach((key, i) => {
    const answered: Answered = {
      key,
      eventMs: event.eventMs[i] ?? 0,
      features: event.columns.map((column) => cellAt(column, i)),
      mesh: ours.scores[i] ?? Number.NaN,
      pinned: theirs.scores[i] ?? Number.NaN,
      version: ours.version,
      label: undefined,
    };
    result.rows.push(answered);
    ids.set(key, { mesh: ours.id, pinned: theirs.id, row: i, answered });
  });
}

async function tell(mesh: Mesh, event: TruthsEvent, { ids, result }: Book): Promise<void> {
  const labels = [...event.keys].flatMap((key, i) => {
    const known = ids.get(key);
    if (known === undefined) return [];
    ids.delete(key);
    known.answered.label = event.labels[i] ?? 0;
    const label = {
      row: known.row,
      value: event.labels[i] ?? 0,
      eventTimeMs: BigInt(Math.round(event.knownMs[i] ?? 0)),
    };
    return [
      { ...label, inferenceId: known.mesh },
      { ...label, inferenceId: known.pinned },
    ];
  });
  if (labels.length === 0) return;
  await mesh.feedback.sendLabels({ labels });
  result.labels += labels.length / 2;
}

const cellsOf = (column: Column | undefined): (number | string)[] =>
  column === undefined ? [] : column.type === "number" ? Array.from(column.values) : [...column.values];
const cellAt = (column: Column, i: number): number | string => column.values[i] ?? "";

/** A request of many rows, one tensor per feature, with the event time of each row. */
export function requestOf(
  columns: readonly Column[],
  eventMs: ArrayLike<number>,
): MessageInitShape<typeof ModelInferRequestSchema> {
  const rows = BigInt(eventMs.length);
  const encoder = new TextEncoder();
  return {
    parameters: {
      driftmesh_event_time: {
        parameterChoice: { case: "stringParam", value: Array.from(eventMs, (at) => Math.round(at)).join(",") },
      },
    },
    inputs: FEATURES.map((feature, i) => {
      const cells = cellsOf(columns[i]);
      const shape = [rows, 1n];
      return feature.type === "number"
        ? { name: feature.name, datatype: "FP32", shape, contents: { fp32Contents: cells.map(Number) } }
        : {
            name: feature.name,
            datatype: "BYTES",
            shape,
            contents: { bytesContents: cells.map((c) => encoder.encode(String(c))) },
          };
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
