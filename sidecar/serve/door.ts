// The way into serving for the rest of the sidecar.
export { Admission, DEFAULT_BOUNDS } from "./admission.ts";
export { EventTime } from "./event-time.ts";
export { inferenceService, type Inference } from "./oip.ts";
