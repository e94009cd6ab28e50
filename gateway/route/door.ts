// What the rest of the gateway may know of routing.
export { nameIn, peekName, type Peek } from "./peek.ts";
export { pickOf, type Load } from "./pick.ts";
export type { RouteTable } from "./table.ts";
export { followRoutes } from "./follow.ts";
