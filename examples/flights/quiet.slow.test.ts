// The natural days 28-180 through a whole mesh, nothing injected, in three thinnings: it stays quiet.
import { expect, test } from "vitest";
import { startMesh } from "../../test/kit/mesh.ts";
import { storyOptions, storyWorld } from "../../test/kit/story.ts";
import { live } from "./story/steps/live.ts";
import { deploy, register } from "./story/steps/prepare.ts";
import { dayOf } from "./story/watch.ts";

const NEVER = 1_000;
const LAST_DAY = 180;

test.each([
  [10, 0],
  [10, 3],
  [20, 11],
])(
  "every %i-th flight from %i on: no run is ordered, no episode is confirmed, few features alarm",
  async (every, offset) => {
    await using mesh = await startMesh();
    const asked = storyOptions(mesh, "--every", String(every), "--offset", String(offset), "--speed", "108000");
    const world = await storyWorld({ ...asked, changeDay: NEVER, faultDay: NEVER, toDay: LAST_DAY });
    await register(world);
    await deploy(world);
    await live(world);
    expect(world.print.failures()).toEqual([]);
    expect(world.fed?.toDay).toBeGreaterThanOrEqual(LAST_DAY);
    const episodes = [...world.seen.episodes.values()];
    expect([...world.seen.orders.values()].filter((o) => o.by === "policy")).toEqual([]);
    expect(episodes.filter((e) => e.confirmTime !== undefined || e.class === "quality")).toEqual([]);
    // Episodes seen by features alone; labels that shift (a storm) are told as such.
    const alarms = episodes.filter((e) => e.causes.some((c) => c.kind === "shift" && c.feature !== "label"));
    expect(alarms.length, alarms.map((e) => `day ${dayOf(e.fromTime)}`).join(", ")).toBeLessThanOrEqual(3);
  },
);
