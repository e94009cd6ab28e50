// What a stage of a pass is given: the draft, what the machines say, and the room on the nodes.
// R1 Room counts everything that holds it now (draining replicas too) and what this pass has placed.
import type { Resources, Scope } from "#kernel/domain/model.ts";
import { type EpochState, KEYS } from "#kernel/domain/state.ts";
import type { Observed } from "../backend/door.ts";
import { type Candidate, place, type Placement } from "../scheduler/door.ts";
import { descriptionOf, REPLICA_ENDED, type View } from "../world/door.ts";
import type { Draft } from "./draft.ts";

/** Event time (Unix ms) of a version's training data, by the hash of its profile. */
export type TrainingRange = { fromMs: number; toMs: number };

/** Reads that a run's manifest needs, done by the shell between passes. */
export type Lookup = {
  trainingRange: (profileSha256: string) => TrainingRange | undefined;
  /** Whether the store itself has been asked for the segments and episodes of this run's track: the watches may lag behind each other. */
  segmentsRead: (run: string) => boolean;
};
export type Wanted = { profiles: Set<string>; segments: { run: string; ordinal: number }[] };

export type Pass = {
  readonly draft: Draft;
  /** Undefined until the backend has said something to this leader: then nothing is started or stopped. */
  readonly observed: Observed | undefined;
  readonly nowMs: number;
  readonly room: Room;
  readonly lookup: Lookup;
  readonly refuses: (inference: { runtime: string; image?: string }) => string | undefined;
  readonly epoch: EpochState;
  /** What the next pass needs looked up first. */
  readonly wanted: Wanted;
};

type Usage = { cpu: number; memoryBytes: number };

export class Room {
  readonly #nodes = new Map<string, Candidate & { used: Usage }>();

  constructor(view: View, observed: Observed | undefined) {
    const answering = observed?.connected === true;
    for (const { value } of view.all("node"))
      this.#nodes.set(value.name, {
        name: value.name,
        alive: answering && value.alive,
        shares: value.shares,
        free: { ...value.shares },
        used: { cpu: 0, memoryBytes: 0 },
      });
    for (const { value } of view.all("replica")) {
      if (REPLICA_ENDED.has(value.phase)) continue;
      const model = view.get("workload", KEYS.workload(value.workload))?.value.model ?? "";
      this.take(value.node, runResources(view, model));
    }
    for (const { value } of view.all("run"))
      if (value.phase === "Running" || value.phase === "Checking")
        this.take(value.node, trainResources(view, value.model));
  }

  take(name: string, { cpu, memoryBytes }: Resources): void {
    const node = this.#nodes.get(name);
    if (node === undefined) return;
    node.used = { cpu: node.used.cpu + cpu, memoryBytes: node.used.memoryBytes + memoryBytes };
    node.free = { cpu: node.shares.cpu - node.used.cpu, memoryBytes: node.shares.memoryBytes - node.used.memoryBytes };
  }

  /** Picks a node and takes the room. */
  place(scope: Scope, resources: Resources, already: ReadonlyMap<string, number> = new Map()): Placement {
    const placement = place([...this.#nodes.values()], { scope, resources, already });
    if (placement.kind === "placed") this.take(placement.node, resources);
    return placement;
  }

  nodes(): readonly Candidate[] {
    return [...this.#nodes.values()];
  }
}

const NOTHING: Resources = { cpu: 0, memoryBytes: 0 };
export const runResources = (view: View, model: string): Resources =>
  descriptionOf(view, model)?.runResources ?? NOTHING;

/** What a run takes: the training's resources, or a replica's when it only checks an uploaded artifact. */
export function trainResources(view: View, model: string): Resources {
  const description = descriptionOf(view, model);
  if (description === undefined) return NOTHING;
  return description.trainCode === undefined ? description.runResources : description.trainingResources;
}
