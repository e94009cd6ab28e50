// The real services, each on a seat of its own: the only way in or out of them is the seat's clock and network.
import type { Rand } from "#kernel/base/rand.ts";
import type { Logger } from "#kernel/process/log.ts";
import { Leader } from "../../control-plane/leader/door.ts";
import { follow, World } from "../../control-plane/world/door.ts";
import { noCounters } from "../../drift/work/counters.ts";
import { Board } from "../../drift/work/board.ts";
import { Joiner } from "../../drift/work/joiner.ts";
import { KvJoinStore } from "../../drift/work/join-store.ts";
import { Profiles } from "../../drift/work/profiles.ts";
import { VerdictStore } from "../../drift/work/verdict-store.ts";
import { Verdicts } from "../../drift/work/verdicts.ts";
import type { Machine } from "./agent.ts";
import type { SimBlobs, SimBucket, SimLog, Seat } from "./store.ts";
import type { Trace } from "./trace.ts";

export type Servers = { state: SimBucket; drift: SimBucket; records: SimLog; feedback: SimLog; panes: SimLog; events: SimLog; blobs: SimBlobs };

export type ControlPlane = { world: World; seat: Seat; servers: Servers };

export function bootControlPlane(
  seat: Seat,
  { servers, machine, rand, trace }: { servers: Servers; machine: Machine; rand: Rand; trace: Trace },
): { service: ControlPlane; ended: Promise<unknown> } {
  const { clock } = seat.process;
  const log = loggerTo(trace, seat.process.name);
  const world = new World();
  const state = servers.state.for(seat);
  const leader = new Leader({
    world, state, panes: servers.panes.for(seat), events: servers.events.for(seat), blobs: servers.blobs.for(seat),
    backend: machine.backendFor(seat), clock, rand, log, holder: seat.process.name, endpoint: "127.0.0.1:4747",
  });
  const forever = new AbortController().signal;
  const ended = Promise.all([follow({ state, drift: servers.drift.for(seat), clock, log }, world, forever), leader.run(forever)]);
  return { service: { world, seat, servers }, ended };
}

export function bootDrift(seat: Seat, { servers, trace }: { servers: Servers; rand: Rand; trace: Trace }): { service: object; ended: Promise<unknown> } {
  const { clock } = seat.process;
  const log = loggerTo(trace, seat.process.name);
  const forever = new AbortController().signal;
  const blobs = servers.blobs.for(seat);
  const state = servers.drift.for(seat);
  const panes = servers.panes.for(seat);
  const events = servers.events.for(seat);
  const profiles = new Profiles(blobs);
  const again = async (run: () => Promise<string>): Promise<never> => {
    for (;;) {
      await run().catch((error: unknown) => log.warn("drift.again", { error }));
      await clock.sleep(1_000);
    }
  };
  const joins = again(async () => {
    const store = new KvJoinStore({ state, blobs });
    const deps = { records: servers.records.for(seat), feedback: servers.feedback.for(seat), panes, store, profiles, strict: false, mine: () => true, clock, log, counters: noCounters };
    return (await Joiner.open(deps, forever)).run();
  });
  const verdicts = again(async () => {
    const store = new VerdictStore({ state, blobs });
    return (await Verdicts.open({ panes, events, store, profiles, board: new Board(), clock, log, counters: noCounters }, forever)).run();
  });
  return { service: {}, ended: Promise.all([joins, verdicts]) };
}

/** Warnings and errors become notes of the trace. */
function loggerTo(trace: Trace, name: string): Logger {
  const say = (event: string, fields: Record<string, unknown> = {}): void => {
    const error = fields["error"];
    trace.add({ kind: "note", says: `${name} logs ${event} ${error instanceof Error ? (error.stack ?? error.message).split("\n").slice(0, 3).join(" ") : JSON.stringify(fields)}` });
  };
  const log: Logger = { debug() {}, info: say, warn: say, error: say, child: () => log };
  return log;
}
