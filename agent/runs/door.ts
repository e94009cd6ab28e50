// What the rest of the agent may use of runs.
export { forgetRuns, Runs } from "./runs.ts";
