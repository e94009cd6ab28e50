// The way into the public API of drift.
export { driftRoutes } from "./service.ts";
