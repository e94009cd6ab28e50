// The statistics other folders of drift use.
export { BETS, bet, clipGain, detect, eBenjaminiHochberg, freshDetector, freshProcess, level } from "./bets.ts";
export { chi2LogSf, chi2Quantile, chi2Sf, gammaLogSf, lnGamma, normalLogSf, normalSf } from "./special.ts";
