// `driftmesh feedback`: tells the truth of a row, or of many from a file.
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import { toJson } from "@bufbuild/protobuf";
import { MeshError } from "#kernel/fault/error.ts";
import { Feedback, SendLabelsResponseSchema } from "#proto/driftmesh/v1/feedback_pb.ts";
import { type Command, type Context, printObject, UsageError } from "../terminal/door.ts";

type Options = { row?: string; eventTime?: string; file?: string; endpoint?: string };
type Label = { inferenceId: string; row: number; value: number; eventTimeMs: bigint };

export function describe(command: Command): void {
  command
    .argument("[inference]", "the id the answer carried, inf_...")
    .argument("[value]", "the truth: 0 or 1, or a number")
    .option("--row <n>", "row of the request (default 0)")
    .option("--event-time <time>", "when it became known, ISO 8601 (default now)")
    .option("--file <labels.jsonl>", 'many: one {"inference_id", "row", "value"} a line')
    .option("--endpoint <host:port>", "endpoint of a strict deployment")
    .addHelpText("after", "\nExample:\n  driftmesh feedback inf_abc 1 --row 3");
}

export async function run(context: Context, command: Command): Promise<void> {
  const options = command.opts<Options>();
  const [id, value] = command.args;
  const labels =
    options.file === undefined ? [single(options, id, value)] : await many(resolve(context.cwd, options.file));
  const feedback = await context.connect(Feedback, options.endpoint);
  const response = await feedback.sendLabels({ labels });
  const text = `${response.accepted} label${response.accepted === 1 ? "" : "s"} taken`;
  await printObject(context, { text, json: toJson(SendLabelsResponseSchema, response), name: text });
}

function single(options: Options, id: string | undefined, value: string | undefined): Label {
  if (id === undefined || value === undefined) throw new UsageError("give an inference id and a value, or --file");
  const number = Number(value);
  if (value === "" || !Number.isFinite(number)) throw new UsageError(`the value is a number, not "${value}"`);
  const row = Number(options.row ?? 0);
  if (!Number.isInteger(row) || row < 0)
    throw new UsageError(`--row is a whole number from 0, not "${options.row ?? ""}"`);
  const known = options.eventTime === undefined ? 0 : Date.parse(options.eventTime);
  if (Number.isNaN(known)) throw new UsageError(`--event-time is ISO 8601, not "${options.eventTime ?? ""}"`);
  return { inferenceId: id, row, value: number, eventTimeMs: BigInt(known) };
}

async function many(file: string): Promise<Label[]> {
  const text = await readFile(file, "utf8").catch((cause: unknown) => {
    throw new MeshError("DM-1004", `${file} cannot be read`, { cause });
  });
  return text
    .split("\n")
    .map((line, i) => ({ line: line.trim(), number: i + 1 }))
    .filter(({ line }) => line !== "")
    .map(({ line, number }) => labelOf(line, `${file}:${number}`));
}

function labelOf(line: string, where: string): Label {
  const label = parsed(line, where);
  const { inference_id: inferenceId, row = 0, value, event_time_ms: eventTimeMs = 0 } = label;
  if (
    typeof inferenceId !== "string" ||
    typeof value !== "number" ||
    typeof row !== "number" ||
    typeof eventTimeMs !== "number"
  )
    throw new MeshError("DM-1004", `${where}: expected {"inference_id": text, "row": number, "value": number}`);
  return { inferenceId, row, value, eventTimeMs: BigInt(eventTimeMs) };
}

function parsed(line: string, where: string): Record<string, unknown> {
  try {
    return JSON.parse(line) as Record<string, unknown>;
  } catch (cause) {
    throw new MeshError("DM-1004", `${where}: not JSON`, { cause });
  }
}
