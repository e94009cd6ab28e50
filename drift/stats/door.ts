// The statistics other folders of drift use.
export { bet, clipGain, detect, eBenjaminiHochberg, freshDetector, freshProcess, level } from "./bets.ts";
export { chi2Quantile, normalQuantile, studentQuantile } from "./special.ts";
