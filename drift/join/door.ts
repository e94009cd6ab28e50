// The way into the join.
export { decodeLabels, decodeRecords, type JoinRow, type Records } from "./intake.ts";
export { STRICT_ROWS } from "./outcome.ts";
export { writeSegment } from "./segment.ts";
export { decodeJoin, encodeJoin } from "./snapshot.ts";
export {
  advance,
  dueDays,
  endBoot,
  openJoin,
  takeFact,
  takeLabel,
  takeRecords,
  type JoinState,
  type LabelFate,
} from "./track.ts";
