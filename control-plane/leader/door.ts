// What other folders may use of the leader.
export { Leader, type LeaderDeps } from "./leader.ts";
export { loadSpec } from "./wanted.ts";
