// The story from the first chapter to the last. Exit code 1 when a claim fails, 2 when it cannot go on.
import { systemClock } from "#kernel/base/clock.ts";
import { readFlights } from "../dataset.ts";
import { Recorder } from "../policies.ts";
import { openMesh } from "./mesh.ts";
import { readOptions } from "./options.ts";
import { createPrinter } from "./print.ts";
import { decommission } from "./steps/decommission.ts";
import { brokenFeed, changedWorld, live, storms } from "./steps/live.ts";
import { payoff, replays } from "./steps/payoff.ts";
import { deploy, discover, register } from "./steps/prepare.ts";
import { strict } from "./steps/strict.ts";
import { trainingData } from "./steps/training-data.ts";
import { nothingSeen } from "./watch.ts";
import type { World } from "./world.ts";

const options = readOptions(process.argv.slice(2));
const nowMs = (): number => systemClock.monotonicMs();
const print = createPrinter(nowMs);
const world: World = {
  mesh: openMesh(options),
  options,
  print,
  flights: await readFlights({ every: 1, offset: 0, toDay: 181 }),
  recorder: new Recorder(),
  nowMs,
  sleep: (ms) => systemClock.sleep(ms),
  follows: "",
  pinned: "",
  seen: nothingSeen(),
  fed: undefined,
  onDay: () => undefined,
};

try {
  await register(world);
  await discover(world);
  await deploy(world);
  await live(world);
  storms(world);
  brokenFeed(world);
  changedWorld(world);
  await trainingData(world);
  await payoff(world);
  await replays(world);
  await strict(world);
  await decommission(world);
} catch (error) {
  process.stderr.write(
    `the story cannot go on: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
  );
  process.exit(2);
}
const failures = print.failures();
process.stdout.write(
  failures.length === 0
    ? `\nThe story holds (${(nowMs() / 1000).toFixed(0)} s).\n`
    : `\n${failures.length} claims failed:\n${failures.map((f) => `  ${f}\n`).join("")}`,
);
process.exit(failures.length === 0 ? 0 : 1);
