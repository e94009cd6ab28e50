// Owns the special functions the verdicts need. Tails are computed in log space, so that far tails do not become 0.
// P1 Relative error below 1e-10 against 50-digit values where the tests say so. P2 No iteration depends on anything but the arguments.

const TINY = 1e-300;
const EPSILON = 1e-15;
const STEPS_MAX = 10_000;

// Lanczos' approximation of the gamma function with g = 7, nine terms: relative error below 1e-14 for x > 0.
const LANCZOS = [
  0.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313, -176.61502916214059,
  12.507343278686905, -0.13857109526572012, 9.9843695780195716e-6, 1.5056327351493116e-7,
] as const;

/** ln of the gamma function for x > 0. */
export function lnGamma(x: number): number {
  if (x < 0.5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - lnGamma(1 - x);
  const z = x - 1;
  let sum: number = LANCZOS[0];
  for (let i = 1; i < LANCZOS.length; i++) sum += (LANCZOS[i] ?? 0) / (z + i);
  const t = z + 7.5;
  return 0.5 * Math.log(2 * Math.PI) + (z + 0.5) * Math.log(t) - t + Math.log(sum);
}

/** ln of the upper tail Q(a, x) of the gamma distribution with shape a > 0. */
function gammaLogSf(a: number, x: number): number {
  if (x <= 0) return 0;
  const logFront = a * Math.log(x) - x - lnGamma(a);
  if (x < a + 1) return Math.log1p(-Math.exp(logFront) * lowerSeries(a, x));
  return logFront + Math.log(upperFraction(a, x));
}

/** The series of P(a, x) without its front factor; converges fast for x < a + 1. */
function lowerSeries(a: number, x: number): number {
  let term = 1 / a;
  let sum = term;
  for (let n = 1; n < STEPS_MAX && Math.abs(term) > Math.abs(sum) * EPSILON; n++) {
    term *= x / (a + n);
    sum += term;
  }
  return sum;
}

/** The continued fraction of Q(a, x) without its front factor (Lentz' method); converges fast for x > a + 1. */
function upperFraction(a: number, x: number): number {
  let b = x + 1 - a;
  let c = 1 / TINY;
  let d = 1 / b;
  let h = d;
  for (let n = 1; n < STEPS_MAX; n++) {
    const an = -n * (n - a);
    b += 2;
    d = 1 / nonZero(an * d + b);
    c = nonZero(b + an / c);
    const step = d * c;
    h *= step;
    if (Math.abs(step - 1) < EPSILON) break;
  }
  return h;
}

const nonZero = (x: number): number => (Math.abs(x) < TINY ? TINY : x);

/** ln of P(X > x) for a chi-square variable with `df` > 0 (not necessarily whole) degrees of freedom. */
export function chi2LogSf(x: number, df: number): number {
  return gammaLogSf(df / 2, x / 2);
}

/** The x with P(X > x) = `tail` for chi-square, by bisection to full precision. */
export function chi2Quantile(tail: number, df: number): number {
  const logTail = Math.log(tail);
  let low = 0;
  let high = df + 10;
  while (chi2LogSf(high, df) > logTail) high *= 2;
  for (let i = 0; i < 200 && high - low > high * 1e-14; i++) {
    const middle = (low + high) / 2;
    if (chi2LogSf(middle, df) > logTail) low = middle;
    else high = middle;
  }
  return (low + high) / 2;
}

/** ln of the normal upper tail P(Z > z). */
export function normalLogSf(z: number): number {
  // P(Z > z) = Q(1/2, z^2 / 2) / 2 for z >= 0; by symmetry below.
  if (z >= 0) return gammaLogSf(0.5, (z * z) / 2) - Math.LN2;
  return Math.log1p(-Math.exp(normalLogSf(-z)));
}

/** P(Z > z) of the standard normal. */
export function normalSf(z: number): number {
  return Math.exp(normalLogSf(z));
}

/** The z with P(Z > z) = `tail` < 1/2 of the standard normal. */
export function normalQuantile(tail: number): number {
  return Math.sqrt(chi2Quantile(2 * tail, 1));
}

/**
 * The t with P(T > t) = `tail` of Student's t for df >= 4, by the Cornish-Fisher expansion in 1 / df
 * (Abramowitz and Stegun 26.7.5): at tail .001 low by 0.9 % at df 4, by 0.02 % at df 10.
 */
export function studentQuantile(tail: number, df: number): number {
  const z = normalQuantile(tail);
  const z2 = z * z;
  const terms = [
    (z * (z2 + 1)) / 4,
    (z * (5 * z2 * z2 + 16 * z2 + 3)) / 96,
    (z * (3 * z2 ** 3 + 19 * z2 * z2 + 17 * z2 - 15)) / 384,
    (z * (79 * z2 ** 4 + 776 * z2 ** 3 + 1482 * z2 * z2 - 1920 * z2 - 945)) / 92160,
  ];
  return terms.reduceRight((sum, term) => (sum + term) / df, 0) + z;
}
