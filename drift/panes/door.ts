// The way into panes: wire forms, the roll-up, sets of numbers.
export { addNumber, hasNumber, type Intervals } from "./intervals.ts";
export { openRollup, takeOutcome, takePane, type PaneDay, type Rollup } from "./rollup.ts";
export { decodeFact, decodeOutcome, decodePane, encodeFact, encodeOutcome, encodePane } from "./wire.ts";
