// Builds the simulated mesh of one seed: every part, its place in the network, and what goes wrong.
import { canonicalJson, sha256Hex } from "#kernel/base/bytes.ts";
import { VirtualClock } from "#kernel/base/clock.ts";
import { seededRand, type Rand } from "#kernel/base/rand.ts";
import type { RouteState } from "#kernel/domain/state.ts";
import { account } from "./accounts.ts";
import { Machine } from "./agent.ts";
import { deskOf } from "./desk.ts";
import { Faults } from "./faults.ts";
import { Network, weatherOf } from "./network.ts";
import { bootControlPlane, bootDrift, type ControlPlane, type Servers } from "./services.ts";
import { Slot } from "./slot.ts";
import { SimBlobs, SimBucket, SimLog } from "./store.ts";
import { Trace } from "./trace.ts";
import { Traffic } from "./traffic.ts";
import { trainerOf } from "./training.ts";
import { Users } from "./users.ts";

/** Planted bugs, to show that the whole bites. */
export type Sabotage = {
  /** The clock of cp-1 stands still and its renewals get lost: it does not notice that another leads. */
  deposed?: boolean;
  /** The store takes every write for its leader's: nobody is fenced. */
  unfenced?: boolean;
  /** The store answers "written" to an acknowledgement and forgets it. */
  forgetful?: boolean;
  /** The agent forgets what it has begun when it is restarted. */
  amnesia?: boolean;
  /** What goes to the agent lacks one replica now and then. */
  lossy?: boolean;
};

export type Mesh = {
  time: VirtualClock;
  trace: Trace;
  start(): void;
  stopFaults(): void;
  /** The last look at what only the end can show. */
  finish(): Promise<void>;
  close(): void;
};

const GIB = 1024 ** 3;
const NODES = ["north", "south"].map((name) => ({ name, shares: { cpu: 8, memoryBytes: 16 * GIB } }));

export function createMesh(seed: number, sabotage: Sabotage): Mesh {
  const time = new VirtualClock();
  const trace = new Trace(() => time.wallMs());
  const randOf = (part: string): Rand => seededRand(Number.parseInt(sha256Hex(`${seed} ${part}`).slice(0, 8), 16));
  const weather = weatherOf(randOf("weather"));
  const network = new Network(time, randOf("network"), weather);
  const servers: Servers = {
    state: new SimBucket("state", trace, sabotage),
    drift: new SimBucket("drift", trace, {}),
    records: new SimLog("records", time, trace),
    feedback: new SimLog("feedback", time, trace),
    panes: new SimLog("panes", time, trace),
    events: new SimLog("events", time, trace),
    blobs: new SimBlobs(),
  };
  const machine = new Machine({
    time,
    rand: randOf("machine"),
    trace,
    nodes: NODES,
    sabotage,
    train: (run) => train(run),
  });
  const routes = (): RouteState[] => servers.state.keys("route.").map((key) => servers.state.peek(key) as RouteState);
  const { records, feedback, panes } = servers;
  const traffic = new Traffic({
    time,
    rand: randOf("traffic"),
    machine,
    records,
    feedback,
    panes,
    routes,
    twice: () => network.weather.twice,
  });
  const train = trainerOf({ rand: randOf("trainer"), traffic, blobs: servers.blobs });
  const planes = ["cp-1", "cp-2"].map(
    (name) =>
      new Slot<ControlPlane>({
        name,
        time,
        network,
        trace,
        deposed: sabotage.deposed === true && name === "cp-1",
        boot: (seat) =>
          bootControlPlane(seat, { servers, machine, rand: randOf(`${name} ${trace.events.length}`), trace }),
      }),
  );
  const drifts = ["drift-1", "drift-2"].map(
    (name) =>
      new Slot({
        name,
        time,
        network,
        trace,
        boot: (seat) => bootDrift(seat, { servers, rand: randOf(`${name} ${trace.events.length}`), trace }),
      }),
  );
  const slots: Slot[] = [...planes, ...drifts];
  const { state } = servers;
  const faults = new Faults({
    time,
    rand: randOf("faults"),
    network,
    machine,
    slots,
    buckets: [state, servers.drift],
    trace,
  });
  const users = new Users({
    time,
    rand: randOf("users"),
    trace,
    desk: deskOf({ planes, time, network, rand: randOf("desk"), blobs: servers.blobs }),
    state,
  });
  const end = new AbortController();
  return {
    time,
    trace,
    start: () => {
      trace.add({ kind: "note", says: `seed ${seed}: ${canonicalJson(weather)}` });
      machine.crash = randOf("crash").next() * 0.1;
      for (const slot of slots) slot.start();
      users.start();
      void traffic.run(end.signal);
      void changes(traffic, time, randOf("changes"), trace);
      void faults.run();
    },
    stopFaults: () => {
      users.stop();
      faults.stop();
    },
    finish: () => account(servers, trace),
    close: () => {
      end.abort();
      for (const slot of slots) slot.kill("stopped");
    },
  };
}

/** The world changes some days after the beginning: the champion gets worse and the mesh is not told. */
async function changes(traffic: Traffic, time: VirtualClock, rand: Rand, trace: Trace): Promise<void> {
  await time.sleep(40_000 + rand.below(60_000));
  traffic.regime += 1;
  trace.add({ kind: "note", says: "the world changes" });
}
