// `driftmesh drift`: the verdict of a track, its panes, and replays of decisions.
import { toJson } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import {
  Drift,
  ListPanesResponseSchema,
  type PaneRow,
  ReplayResponseSchema,
  type Verdict,
  VerdictSchema,
} from "#proto/driftmesh/v1/drift_pb.ts";
import { allPages } from "../client/door.ts";
import { type Command, ConditionFound, type Context, printListing, printObject, UsageError } from "../terminal/door.ts";

export function describe(command: Command): void {
  command
    .argument("<model|replay|panes>", "a model; or: replay DECISION; or: panes MODEL")
    .argument("[name]", "the decision to replay, or the model whose panes to list")
    .option("--scope <scope>", "open (default) or node/NAME")
    .addHelpText(
      "after",
      "\nExample:\n  driftmesh drift flight-delay\n  driftmesh drift panes flight-delay\n  driftmesh drift replay episode-1-4711",
    );
}

export async function run(context: Context, command: Command): Promise<void> {
  const [first = "", second] = command.args;
  const scope = command.opts<{ scope?: string }>().scope ?? "open";
  const drift = await context.connect(Drift);
  if (first === "replay") {
    if (second === undefined)
      throw new UsageError("give the decision to replay; `driftmesh get episodes -o wide` shows them");
    const replay = await drift.replay({ decision: second }, { timeoutMs: 120_000 });
    const text = `made      ${replay.made}\nreplayed  ${replay.replayed}\n${replay.identical ? "the same bytes" : "DIFFERENT"} after ${replay.messages} messages`;
    await printObject(context, { text, json: toJson(ReplayResponseSchema, replay), name: second });
    if (!replay.identical) throw new ConditionFound(`the replay of ${second} differs from what was decided`);
    return;
  }
  const model = first === "panes" ? second : first;
  if (model === undefined) throw new UsageError("give the model whose panes to list");
  const panes = await allPages(
    (pageToken) => drift.listPanes({ model, scope, pageSize: 1000, pageToken }),
    (page) => page.panes,
  );
  if (first === "panes") return await printPanes(context, panes);
  const verdict = await drift.getVerdict({ model, scope });
  await printObject(context, {
    text: verdictText(verdict, panes),
    json: toJson(VerdictSchema, verdict),
    name: `track/${verdict.model}${scope === "open" ? "" : `@${scope}`}`,
  });
}

async function printPanes(context: Context, panes: readonly PaneRow[]): Promise<void> {
  await printListing(context, {
    rows: panes,
    columns: [
      { head: "DAY", of: (r) => dayText(r.startTime) },
      { head: "VERSION", of: (r) => String(r.version), right: true },
      { head: "ROWS", of: (r) => String(r.rows), right: true },
      { head: "LABELLED", of: (r) => String(r.labelled), right: true },
      { head: "UNLABELLED", of: (r) => String(r.unlabelled), right: true },
      { head: "LOSS", of: (r) => (r.labelled === 0n ? "-" : r.meanLoss.toFixed(4)), right: true },
      { head: "DROPPED", of: (r) => String(r.dropped), right: true, wide: true },
      { head: "SUPPRESSED", of: (r) => String(r.suppressed), right: true, wide: true },
    ],
    json: toJson(ListPanesResponseSchema, {
      $typeName: "driftmesh.v1.ListPanesResponse",
      panes: [...panes],
      nextPageToken: "",
    }),
    name: (r) => `pane/${dayText(r.startTime)}`,
    empty: "no pane yet: send some inferences first",
  });
}

function verdictText(v: Verdict, panes: readonly PaneRow[]): string {
  const sum = (of: (row: PaneRow) => bigint): bigint => panes.reduce((total, row) => total + of(row), 0n);
  const numbers = Object.entries(v.numbers).map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`);
  const width = Math.max(7, ...v.features.map((f) => f.name.length));
  return [
    `${v.model} (${v.scope}) champion ${v.champion}: ${v.state}`,
    `  newest block  ${dayText(v.blockTime)}, ${v.blocks} blocks, event clock ${v.watermark === undefined ? "-" : timestampDate(v.watermark).toISOString()}`,
    `  panes         ${sum((r) => r.rows)} rows, ${sum((r) => r.labelled)} labelled, ${sum((r) => r.dropped)} dropped`,
    ...(numbers.length > 0 ? [`  numbers       ${numbers.join(", ")}`] : []),
    ...(v.decision === "" ? [] : [`  decision      ${v.decision}`]),
    ...(v.features.length === 0 ? [] : ["", `  ${"FEATURE".padEnd(width)}  STATISTIC  LIMIT  SEES FROM  VERDICT`]),
    ...v.features.map((f) => {
      const verdict = f.fault !== "" ? `fault: ${f.fault}` : f.drifting ? "drifting" : "quiet";
      return `  ${f.name.padEnd(width)}  ${f.statistic.toFixed(3).padStart(9)}  ${f.limit.toFixed(2).padStart(5)}  ${f.minimumEffect.toFixed(3).padStart(9)}  ${verdict}`;
    }),
  ].join("\n");
}

const dayText = (time: PaneRow["startTime"]): string =>
  time === undefined ? "-" : timestampDate(time).toISOString().slice(0, 10);
