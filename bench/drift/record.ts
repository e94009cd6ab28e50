// Owns the recorded panes that drift's own test folds: the natural days of three thinnings, one pane and one outcome pane a day.
// Usage: node bench/drift/record.ts FOLDER. Run it again when the example's features or its model change.
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { DAY_MS } from "#kernel/domain/profile.ts";
import { DAY0_MS, dayOf, NO_STORY } from "./flights.ts";
import { fit, HISTORY_DAYS, outcomePaneOf, paneOf, worldOf } from "./world.ts";

const THINNINGS = [
  { every: 10, offset: 0 },
  { every: 10, offset: 3 },
  { every: 20, offset: 11 },
] as const;

const [folder = "drift/verdict/fixtures"] = process.argv.slice(2);
for (const { every, offset } of THINNINGS) {
  const world = await worldOf(every, offset, NO_STORY);
  const model = fit(world, (day) => day < HISTORY_DAYS, 0);
  const days = [];
  for (let from = world.firstLive, number = 1; from < world.table.rows; number++) {
    const day = dayOf(world.table.eventMs[from] ?? 0);
    let to = from;
    while (to < world.table.rows && dayOf(world.table.eventMs[to] ?? 0) === day) to++;
    const startMs = DAY0_MS + day * DAY_MS;
    const { cells } = paneOf(world, model, 1, { from, to, number, watermarkMs: startMs + DAY_MS });
    const outcome = outcomePaneOf(world, { version: 1, model }, undefined, { from, to, startMs }).versions[0]?.outcome;
    const sums = model.profile.features.map((_, f) => sumOf(cells.map((cell) => cell.features[f] ?? [])));
    days.push({ startMs, rows: to - from, features: sums, score: sumOf(cells.map(({ score }) => score)), outcome });
    from = to;
  }
  const file = join(folder, `flights-${every}-${offset}.json.gz`);
  writeFileSync(file, gzipSync(JSON.stringify({ profile: model.profile, days }), { level: 9 }));
  process.stdout.write(`${file}: ${days.length} days\n`);
}

function sumOf(tables: readonly (readonly number[])[]): number[] {
  const sums: number[] = [];
  for (const table of tables) table.forEach((n, i) => (sums[i] = (sums[i] ?? 0) + n));
  return sums;
}
