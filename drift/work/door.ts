// The way into the loops.
export { Board, type Told } from "./board.ts";
export { driftCounters, noCounters, type DriftCounters } from "./counters.ts";
export {
  createDrift,
  createNodeJoin,
  type Drift,
  type DriftDeps,
  type DriftSteps,
  type NodeJoinDeps,
} from "./drift.ts";
export { NodeEventLog } from "./node-log.ts";
export type { Replayed } from "./replay.ts";
