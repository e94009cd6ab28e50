import { expect, test } from "vitest";
import { chi2LogSf, chi2Quantile, lnGamma, normalLogSf, normalQuantile, normalSf, studentQuantile } from "./special.ts";

// Values of scipy 1.17 (stats.chi2.logsf, stats.norm.logsf, special.gammaln, isf).
test.each([
  [0.5, 1, -0.7350111298370846],
  [3.841458820694124, 1, -2.995732273553993],
  [10, 3, -3.9864160317343833],
  [100, 10, -37.44838565575167],
  [37.697, 15, -6.9076541610899],
  [1000, 50, -405.585050246614],
  [20, 2.5, -9.302964859981943],
  [0.01, 7, -7.569409662558236e-10],
  [300, 300, -0.7151029128126082],
])("the chi-square tail beyond %d at %d degrees is scipy's, in logarithms", (x, df, expected) => {
  expect(Math.abs(chi2LogSf(x, df) / expected - 1)).toBeLessThan(x < 0.1 ? 1e-6 : 1e-10);
});

test.each([
  [-3, -0.0013508099647481925],
  [0, -0.6931471805599453],
  [1.959963984540054, -3.6888794541139367],
  [5, -15.064998393988727],
  [9, -43.62814911333212],
  [37, -689.0305855768908],
])("the normal tail beyond %d is scipy's and does not underflow", (z, expected) => {
  expect(Math.abs(normalLogSf(z) / expected - 1)).toBeLessThan(1e-10);
});

test.each([
  [0.1, 2.252712651734206],
  [0.5, 0.5723649429247],
  [2.5, 0.2846828704729192],
  [10, 12.801827480081469],
  [171.5, 709.1431630309283],
  [1e4, 82099.71749644238],
])("ln gamma of %d is scipy's", (x, expected) => {
  expect(Math.abs(lnGamma(x) / expected - 1)).toBeLessThan(1e-12);
});

test.each([
  [0.05, 1, 3.8414588206941285],
  [0.001, 15, 37.69729821835383],
  [0.001, 23, 49.72823246643151],
  [1e-9, 4, 47.87945573114794],
])("the chi-square point of tail %d at %d degrees is scipy's", (tail, df, expected) => {
  expect(Math.abs(chi2Quantile(tail, df) / expected - 1)).toBeLessThan(1e-9);
});

test.each([
  [0.001, 6, 5.207626238725374, 2e-3],
  [0.001, 10, 4.143700494046589, 3e-4],
  [0.001, 31, 3.3748992804233016, 1e-5],
  [0.01, 8, 2.8964594477096224, 1e-3],
])(
  "Student's point of tail %d at %d degrees is scipy's within what the expansion claims",
  (tail, df, expected, within) => {
    expect(Math.abs(studentQuantile(tail, df) / expected - 1)).toBeLessThan(within);
  },
);

test("the normal point of a tail has that tail", () => {
  for (const tail of [0.4, 0.05, 1e-3, 1e-9]) expect(normalSf(normalQuantile(tail)) / tail).toBeCloseTo(1, 9);
});
