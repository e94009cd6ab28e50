// Chapter 9: strict mode on node clinic. Marked rows and labels go in; a search finds the marks in the node's folder and nowhere else.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { DAY0_MS, DAY_MS } from "../../dataset.ts";
import { HISTORY_DAYS } from "../../history.ts";
import { pushBacks, NO_STORY, toColumns, truthIsLost } from "../../features.ts";
import { requestOf, scoresOf } from "../feed.ts";
import { textAt, until, MODEL, type World } from "../world.ts";

/** Airports and a client's id that exist nowhere else: texts a search can find in records, logs and metrics. */
const MARKS = ["QZXORIGIN", "QZXTARGET", "QZXCLIENT"] as const;
/** A distance no flight has, as FP32 bytes and as text, to find numbers too. */
const MARKED_DISTANCE = 31337.125;
const ROWS = 1000;
/** Days they spread over, whatever the thinning: more than 100 rows a day, so that the panes of each day may leave the node. */
const DAYS = 6;
const FROM_MS = DAY0_MS + HISTORY_DAYS * DAY_MS;

export async function strict(world: World): Promise<void> {
  const { print, mesh, options } = world;
  print.chapter("Strict mode: no row leaves node clinic");
  const deployed = await mesh.cli("deploy", MODEL, "--strict", "--node", "clinic", "--request-id", "story-strict");
  const endpoint = textAt(deployed, "instructions", "endpoint");
  const id = textAt(deployed, "id");
  print.line(`deployment ${id} has its own endpoint ${endpoint}`);
  print.holds(endpoint !== "" && endpoint !== options.server, "the gateway is not its endpoint");
  const refused = await mesh.inference.modelInfer({ modelName: id }).then(
    () => "answered",
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
  print.holds(refused !== "answered", `the gateway refuses it: ${refused}`);
  const told = await sendMarked(world, endpoint, id);
  print.line(`${ROWS} marked rows and ${told} labels sent over several days of event time`);
  const verdict = await until(world, 20_000, async () => {
    const v = await mesh.drift.getVerdict({ model: MODEL, scope: "node/clinic" }).catch(() => undefined);
    return v !== undefined && v.blocks > 0 ? v : undefined;
  });
  print.holds(
    verdict !== undefined,
    `a verdict came from panes alone: ${verdict?.state ?? "none"} after ${verdict?.blocks ?? 0} blocks, ${verdict?.rows ?? 0n} rows`,
  );
  const { inside, outside, files } = await search(options.data);
  print.line(`${files} files searched: streams, state, blobs, logs, nodes' folders; and the metrics`);
  const gateway = `${options.server}/metrics`;
  const pages = await Promise.all(
    [gateway, `${gateway}/control-plane`, `${gateway}/drift`, `${endpoint}/metrics`].map(textAtUrl),
  );
  const metrics = pages.join("\n");
  const services = ["gateway", "control-plane", "drift", "sidecar"];
  print.holds(
    pages.every((page, i) => page.includes(`service="${services[i] ?? ""}"`)),
    `metrics of ${services.join(", ")} were read`,
  );
  const shown = MARKS.filter((mark) => metrics.includes(mark));
  print.holds(
    outside.length === 0 && shown.length === 0,
    `no mark outside nodes/clinic${outside.length > 0 ? `: ${outside.slice(0, 3).join(", ")}` : ""}`,
  );
  print.holds(inside.length > 0, `the marks are in the node's folder: ${inside.length} files`);
  await mesh.cli("decommission", id);
}

async function textAtUrl(url: string): Promise<string> {
  return (await fetch(`http://${url}`)).text();
}

/** Rows of DAYS days, every one with marked airports and distance, then their labels. */
async function sendMarked({ mesh, flights }: World, endpoint: string, modelName: string): Promise<number> {
  const node = mesh.at(endpoint);
  const asked = { every: 10, offset: 0 };
  const rows = [...pushBacks(flights, asked, NO_STORY)].filter(
    ({ dateMs }) => dateMs >= FROM_MS && dateMs < FROM_MS + DAYS * DAY_MS,
  );
  const chosen = Array.from({ length: ROWS }, (_, i) => rows[Math.floor((i * rows.length) / ROWS)]).filter(
    (p) => p !== undefined,
  );
  let told = 0;
  for (let at = 0; at < chosen.length; at += 50) {
    const part = chosen.slice(at, at + 50);
    const columns = toColumns(
      part.map((p) => ({ ...p.features, origin: MARKS[0], destination: MARKS[1], distance: MARKED_DISTANCE })),
    );
    const answer = scoresOf(
      await node.inference.modelInfer({
        ...requestOf(
          columns,
          part.map((p) => p.dateMs),
        ),
        modelName,
        id: `${MARKS[2]}-${at}`,
      }),
    );
    const labels = part.flatMap((p, row) =>
      truthIsLost(p.row)
        ? []
        : [{ inferenceId: answer.id, row, value: row % 5 === 0 ? 1 : 0, eventTimeMs: BigInt(p.dateMs + 3_600_000) }],
    );
    await node.feedback.sendLabels({ labels });
    told += labels.length;
  }
  return told;
}

/** Files under the data folder that hold a mark, inside and outside of nodes/clinic. */
async function search(data: string): Promise<{ inside: string[]; outside: string[]; files: number }> {
  const float = Buffer.alloc(4);
  float.writeFloatLE(MARKED_DISTANCE);
  const double = Buffer.alloc(8);
  double.writeDoubleLE(MARKED_DISTANCE);
  const marks = [...MARKS.map((mark) => Buffer.from(mark)), float, double, Buffer.from(String(MARKED_DISTANCE))];
  const entries = await readdir(data, { recursive: true, withFileTypes: true });
  const found = { inside: [] as string[], outside: [] as string[], files: 0 };
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const content = await readFile(path).catch(() => Buffer.alloc(0));
    found.files++;
    if (!marks.some((mark) => content.includes(mark))) continue;
    const local = path.slice(data.length + 1);
    (local.startsWith("nodes/clinic/") ? found.inside : found.outside).push(local);
  }
  return found;
}
