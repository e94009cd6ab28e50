// The one place where the bench reaches into the example: its flights, features and train code.
export { boost, predict, type Forest } from "../../examples/flights/boosting.ts";
export { DAY0_MS, DAYS, readFlights } from "../../examples/flights/dataset.ts";
export {
  asSent,
  dayOf,
  isLate,
  NO_STORY,
  pushBacks,
  toColumns,
  truthIsLost,
  type Row,
  type Story,
} from "../../examples/flights/features.ts";
export { taken, type Table } from "../../examples/flights/table.ts";
export { DEFAULT_SETTINGS } from "../../examples/flights/train.ts";
