// What other folders may use of retraining.
export { selection, WINDOW_DAYS } from "./manifest.ts";
export { policy } from "./policy.ts";
export { coolDown, runs } from "./runs.ts";
