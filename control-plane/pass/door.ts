// What other folders may use of a pass.
export { Draft, type Decision, encode, shortened, type Step, type Transition } from "./draft.ts";
export { freeShares, nodes } from "./nodes.ts";
export { type Lookup, type Pass, Room, runResources, trainResources, type TrainingRange, type Wanted } from "./pass.ts";
