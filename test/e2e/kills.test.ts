// A shortened story (days 28-75, no fault, a change on day 42), twice: undisturbed, and with one kill -9 of each part.
// `npm run test:all` plays the whole story (DRIFTMESH_TEST_ALL).
import { expect, test } from "vitest";
import { live } from "../../examples/flights/story/steps/live.ts";
import { deploy, register } from "../../examples/flights/story/steps/prepare.ts";
import { driftmesh, eventually, startMesh, type TestMesh } from "../kit/mesh.ts";
import { storyOptions, storyWorld } from "../kit/story.ts";

const WHOLE = process.env["DRIFTMESH_TEST_ALL"] !== undefined;
/** Event day -> the part that is killed when it begins: before the change, at it, and while its run and rollout are under way. */
const KILLS = new Map(
  WHOLE
    ? [
        [40, "control-plane"],
        [50, "gateway"],
        [64, "drift"],
        [80, "replica"],
        [84, "control-plane"],
        [88, "drift"],
      ]
    : [
        [33, "control-plane"],
        [38, "gateway"],
        [46, "drift"],
        [50, "replica"],
      ],
);

type Outcome = {
  classes: string[];
  rollouts: string[];
  orders: number;
  versions: number;
  states: string[];
  repeated: number;
};

test("a kill of control plane, gateway, drift service or sidecar changes nothing in the end", async () => {
  const calm = await play(new Map());
  const killed = await play(KILLS);
  expect({ ...killed, repeated: 0 }).toEqual({ ...calm, repeated: 0 });
  expect(calm.rollouts).toContain("5");
  // At most the calls in flight fail, and their first repeats while the part comes back.
  expect(calm.repeated).toBe(0);
}, 900_000);

async function play(kills: ReadonlyMap<number, string>): Promise<Outcome> {
  await using mesh = await startMesh();
  const options = WHOLE
    ? storyOptions(mesh)
    : {
        ...storyOptions(mesh, "--every", "20", "--speed", "90000"),
        changeDay: 42,
        faultDay: 1000,
        toDay: 72,
      };
  const pending: Promise<void>[] = [];
  const world = await storyWorld(options, (day) => {
    const victim = kills.get(day);
    if (victim !== undefined) pending.push(kill(mesh, victim));
  });
  await register(world);
  await deploy(world);
  await live(world);
  await Promise.all(pending);
  expect(world.print.failures()).toEqual([]);
  const { seen } = world;
  return {
    classes: [...seen.episodes.values()].filter((e) => e.retrain).map((e) => e.class),
    rollouts: [...seen.rollouts.values()].sort((a, b) => a.challenger - b.challenger).map((r) => String(r.stage)),
    orders: [...seen.orders.values()].filter((o) => o.withheld === "").length,
    versions: (await mesh.registry.listVersions({ model: "flight-delay" })).versions.length,
    states: (await mesh.deployments.listDeployments({})).deployments.map((d) => String(d.state)),
    repeated: world.fed?.repeated ?? 0,
  };
}

/** kill -9 of one child, and the wait until another process has taken its place. */
async function kill(mesh: TestMesh, victim: string): Promise<void> {
  const before = await pidsOf(mesh, victim);
  const [pid] = before;
  if (pid === undefined) throw new Error(`no process is called ${victim}`);
  process.kill(pid, "SIGKILL");
  await eventually(`${victim} is back`, async () =>
    (await pidsOf(mesh, victim)).some((p) => !before.includes(p)) ? true : undefined,
  );
}

async function pidsOf(mesh: TestMesh, name: string): Promise<number[]> {
  const status = JSON.parse(
    (await driftmesh(["status", "--data", mesh.data, "-o", "json"])).out || '{"services":[]}',
  ) as {
    services: { name: string; pid?: number }[];
  };
  const wanted = name === "replica" ? /^replica\/flight-delay-1-/ : new RegExp(`^${name}$`);
  return status.services
    .filter((s) => wanted.test(s.name))
    .flatMap((s) => (s.pid === undefined || s.pid === 0 ? [] : [s.pid]));
}
