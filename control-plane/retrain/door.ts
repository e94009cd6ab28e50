// What other folders may use of retraining.
export { policy } from "./policy.ts";
export { coolDown, runs } from "./runs.ts";
