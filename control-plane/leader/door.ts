// What other folders may use of the leader.
export { decide, type DecideInput } from "./decide.ts";
export { Leader, type LeaderDeps } from "./leader.ts";
export { loadSpec } from "./wanted.ts";
