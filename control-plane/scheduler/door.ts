// What other folders may use of the scheduler.
export { type Candidate, place, type Placement, refusalText, sizeText } from "./scheduler.ts";
