// Chapter 7, its last part: what the runs that follow live traffic trained on. Read from the manifests, as anybody can.
import type { Run } from "#proto/driftmesh/v1/retraining_pb.ts";
import { DAY0_MS, DAY_MS } from "../../dataset.ts";
import { FAULT } from "../../features.ts";
import type { Mesh } from "../mesh.ts";
import type { World } from "../world.ts";

type Stretch = { fromMs: number; toMs: number };
type Manifest = { files: (Stretch & { kind: string })[]; excluded: (Stretch & { reason: string })[] };

/** No file of a run holds a row of the broken feed, and the manifest says what was left out. */
export async function trainingData({ print, mesh, seen, options }: World): Promise<void> {
  const fault = { fromMs: msOf(options.faultDay), toMs: msOf(options.faultDay + FAULT.days) };
  const runs = [...seen.runs.values()].filter((r) => r.trigger !== "registration" && r.dataManifestSha256 !== "");
  let clean = runs.length > 0;
  for (const run of runs) {
    const { files, excluded } = await manifestOf(mesh, run);
    const untilMs = Math.max(...files.map(({ toMs }) => toMs));
    const left = excluded.map((e) => `days ${dayOf(e.fromMs)}-${dayOf(e.toMs - 1)} (${e.reason})`);
    print.line(
      `run ${run.id} trained on ${files.length} files, days ${dayOf(Math.min(...files.map(({ fromMs }) => fromMs)))}-${dayOf(untilMs - 1)}; left out: ${left.join(", ") || "nothing"}`,
    );
    const named = untilMs <= fault.fromMs || excluded.some((e) => overlap(e, fault));
    clean &&= files.length > 0 && named && !files.some((file) => overlap(file, fault));
  }
  print.holds(clean, "no file that a run trained on holds a day of the broken feed, and each manifest names it");
}

async function manifestOf(mesh: Mesh, run: Run): Promise<Manifest> {
  const chunks: Uint8Array[] = [];
  const stream = mesh.registry.downloadBlob({ sha256: run.dataManifestSha256 }, { timeoutMs: 10_000 });
  for await (const { chunk } of stream) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString("utf8")) as Manifest;
}

const overlap = (a: Stretch, b: Stretch): boolean => a.fromMs < b.toMs && b.fromMs < a.toMs;
const msOf = (day: number): number => DAY0_MS + day * DAY_MS;
const dayOf = (ms: number): number => Math.floor((ms - DAY0_MS) / DAY_MS);
