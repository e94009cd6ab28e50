// What commands may use of the mesh on this machine.
export { type Check, checks } from "./checks.ts";
export { livingHost, readHost } from "./host.ts";
export { nodesFrom, refuseBeyondLoopback, type RunningMesh, startMesh, type StartOptions } from "./start.ts";
export { stopMesh } from "./stop.ts";
export { backupFacts, restoreFolder } from "./restore.ts";
