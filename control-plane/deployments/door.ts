// What other folders may use of deployments: the stages, and the questions about claims.
export { type Claim, claimsOf, followsChampion, targetVersion } from "./claims.ts";
export { instructionsOf, type Instructions } from "./instructions.ts";
export { offers } from "./offers.ts";
export { reports } from "./reports.ts";
export { routes } from "./routes.ts";
export { status } from "./status.ts";
export { type Missing, workloads } from "./workloads.ts";
