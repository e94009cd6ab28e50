// The world of examples/flights' story on a test's mesh: chapters run in silence, and say at the end which claims failed.
import { join } from "node:path";
import { systemClock } from "#kernel/base/clock.ts";
import { readFlights } from "../../examples/flights/dataset.ts";
import { Recorder } from "../../examples/flights/policies.ts";
import { openMesh } from "../../examples/flights/story/mesh.ts";
import { readOptions, type StoryOptions } from "../../examples/flights/story/options.ts";
import { nothingSeen } from "../../examples/flights/story/watch.ts";
import type { World } from "../../examples/flights/story/world.ts";
import { ROOT, type TestMesh } from "./mesh.ts";

/** Options of the story by its own flags, for this mesh. */
export function storyOptions(mesh: TestMesh, ...flags: string[]): StoryOptions {
  const cli = [process.execPath, join(ROOT, "cli/main.ts")].join(" ");
  return readOptions(["--server", mesh.server, "--data", mesh.data, "--driftmesh", cli, ...flags]);
}

/** A world in which nothing has happened; claims that fail are in `world.print.failures()`. */
export async function storyWorld(options: StoryOptions, onDay: World["onDay"] = () => undefined): Promise<World> {
  const failed: string[] = [];
  return {
    mesh: openMesh(options),
    options,
    print: {
      chapter: () => undefined,
      line: () => undefined,
      table: () => undefined,
      holds: (ok, claim) => void (ok || failed.push(claim)),
      failures: () => failed,
    },
    flights: await readFlights({ every: 1, offset: 0, toDay: 181 }),
    recorder: new Recorder(),
    nowMs: () => systemClock.monotonicMs(),
    sleep: (ms) => systemClock.sleep(ms),
    follows: "",
    pinned: "",
    seen: nothingSeen(),
    fed: undefined,
    onDay,
  };
}
