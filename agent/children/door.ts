// What the rest of the agent may use of children.
export { type Child, type Exit, baseEnvironment, boundLogs, exitSentence, startChild } from "./child.ts";
export { type Held, type HoldSaid, type HoldTold, Lifelines } from "./lifelines.ts";
export { endAll, isAlive, markOf, signalGroup, treeOf } from "./processes.ts";
export { Services, type ServiceView } from "./services.ts";
