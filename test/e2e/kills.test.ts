// A shortened story (days 28-75, no fault, a change on day 42), twice: undisturbed, and with one kill -9 of each part.
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { systemClock } from "#kernel/base/clock.ts";
import { readFlights } from "../../examples/flights/dataset.ts";
import { Recorder } from "../../examples/flights/policies.ts";
import { openMesh } from "../../examples/flights/story/mesh.ts";
import { readOptions } from "../../examples/flights/story/options.ts";
import { live } from "../../examples/flights/story/steps/live.ts";
import { deploy, register } from "../../examples/flights/story/steps/prepare.ts";
import { nothingSeen } from "../../examples/flights/story/watch.ts";
import type { World } from "../../examples/flights/story/world.ts";
import { driftmesh, eventually, ROOT, startMesh, type TestMesh } from "../kit/mesh.ts";

/** Event day -> the part that is killed when it begins. */
const KILLS = new Map([
  [33, "control-plane"],
  [38, "gateway"],
  [46, "drift"],
  [50, "replica"],
]);

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
}, 400_000);

async function play(kills: ReadonlyMap<number, string>): Promise<Outcome> {
  await using mesh = await startMesh();
  const cli = [process.execPath, join(ROOT, "cli/main.ts")].join(" ");
  const options = {
    ...readOptions([
      "--server",
      mesh.server,
      "--data",
      mesh.data,
      "--driftmesh",
      cli,
      "--every",
      "20",
      "--speed",
      "90000",
    ]),
    changeDay: 42,
    faultDay: 1000,
    toDay: 72,
  };
  const problems: string[] = [];
  const pending: Promise<void>[] = [];
  const world: World = {
    mesh: openMesh(options),
    options,
    print: {
      chapter: () => undefined,
      line: () => undefined,
      table: () => undefined,
      holds: (ok, claim) => void (ok || problems.push(claim)),
      failures: () => problems,
    },
    flights: await readFlights({ every: 1, offset: 0, toDay: 181 }),
    recorder: new Recorder(),
    nowMs: () => systemClock.monotonicMs(),
    sleep: (ms) => systemClock.sleep(ms),
    follows: "",
    pinned: "",
    seen: nothingSeen(),
    fed: undefined,
    onDay: (day) => {
      const victim = kills.get(day);
      if (victim !== undefined) pending.push(kill(mesh, victim));
    },
  };
  await mkdtemp(join(tmpdir(), "driftmesh-kills-"));
  await register(world);
  await deploy(world);
  await live(world);
  await Promise.all(pending);
  expect(problems).toEqual([]);
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
