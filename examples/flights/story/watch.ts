// Notes what the mesh decides while the feed runs: episodes, orders, runs, rollouts; prints each change once.
import { timestampMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import type { Episode } from "#proto/driftmesh/v1/drift_pb.ts";
import { RunPhaseSchema, type Order, type Run } from "#proto/driftmesh/v1/retraining_pb.ts";
import { RolloutStageSchema, type Rollout } from "#proto/driftmesh/v1/rollouts_pb.ts";
import { DAY0_MS, DAY_MS } from "../dataset.ts";
import { type Mesh, wordOf } from "./mesh.ts";
import type { Printer } from "./print.ts";

/** The newest state of everything, by id, and the event day at which the client first saw each state. */
export type Seen = {
  episodes: Map<string, Episode>;
  orders: Map<string, Order>;
  runs: Map<string, Run>;
  rollouts: Map<string, Rollout>;
  firstSeen: Map<string, number>;
};

export const nothingSeen = (): Seen => ({
  episodes: new Map(),
  orders: new Map(),
  runs: new Map(),
  rollouts: new Map(),
  firstSeen: new Map(),
});

/** Event day of a time of the mesh. */
export const dayOf = (time: Timestamp | undefined): number =>
  time === undefined ? Number.NaN : Math.floor((timestampMs(time) - DAY0_MS) / DAY_MS);

type Watched = { mesh: Mesh; model: string; print: Printer; seen: Seen; day: () => number };

/** One look at everything of a model; prints what changed since the last. */
export async function look({ mesh, model, print, seen, day }: Watched): Promise<void> {
  const page = { model, pageSize: 1000 };
  const [episodes, orders, runs, rollouts] = await Promise.all([
    mesh.drift.listEpisodes(page),
    mesh.retraining.listOrders(page),
    mesh.retraining.listRuns(page),
    mesh.rollouts.listRollouts(page),
  ]);
  const note = (key: string, text: string): void => {
    if (seen.firstSeen.has(key)) return;
    seen.firstSeen.set(key, day());
    print.line(`day ${String(day()).padStart(3)}: ${text}`);
  };
  for (const e of episodes.episodes) {
    seen.episodes.set(e.id, e);
    note(`${e.id} ${e.state} ${e.closedAs} ${e.class}`, episodeText(e));
  }
  for (const o of orders.orders) {
    seen.orders.set(o.id, o);
    note(`${o.id} ${o.withheld}`, o.withheld === "" ? `order ${o.kind} by ${o.by}: ${o.reason}` : withheldText(o));
  }
  for (const r of runs.runs) {
    seen.runs.set(r.id, r);
    note(`${r.id} ${r.phase}`, runText(r));
  }
  for (const r of rollouts.rollouts) {
    seen.rollouts.set(r.id, r);
    note(`${r.id} ${r.stage}`, rolloutText(r));
  }
}

function episodeText(e: Episode): string {
  const causes = e.causes.slice(0, 4).map((c) => `${c.feature} ${c.kind}`);
  const end = e.closedAs === "" ? "" : ` as ${e.closedAs}`;
  return `episode ${e.class} from day ${dayOf(e.fromTime)} is ${e.state.toLowerCase()}${end}${causes.length > 0 ? ` (${causes.join(", ")})` : ""}`;
}

function withheldText(o: Order): string {
  const evidence = Object.entries(o.evidence).map(([name, value]) => `${name} ${value}`);
  return `order ${o.kind} WITHHELD: ${o.withheld}; evidence: ${evidence.join(", ")}`;
}

function runText(r: Run): string {
  const phase = wordOf(RunPhaseSchema, r.phase);
  const made = r.version > 0 ? ` made version ${r.version}` : "";
  return `run ${r.id} (${r.trigger}) ${phase}${made}${r.reason === "" ? "" : `: ${r.reason}`}`;
}

function rolloutText(r: Rollout): string {
  const stage = wordOf(RolloutStageSchema, r.stage);
  const numbers = Object.entries(r.numbers).map(([name, value]) => `${name} ${Number(value.toPrecision(4))}`);
  return `rollout of version ${r.challenger} is in ${stage}: ${[r.reason, ...numbers].filter((t) => t !== "").join(", ")}`;
}
