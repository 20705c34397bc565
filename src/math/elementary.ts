/**
 * Elementary functions by sums, products and quotients alone, which IEEE 754 fixes to the last bit. `Math.cos`, `Math.exp` and `**` differ
 * between engines (of Node 20's values, one in nine of `Math.exp` and one in thirty of `Math.cos` are others in Chromium 156), and parties
 * that differ in the last bit of a public constant run different programs. Errors are a few units in the last place.
 */
const halfPiHigh = 1.5707963267341256;
const halfPiLow = 6.077100506506192e-11;
const twoOverPi = 0.6366197723675814;
const sineTerms = [
  1.58969099521155e-10, -2.5050760253406863e-8, 2.7557313707070068e-6, -0.0001984126982985795, 0.00833333333332249,
  -0.16666666666666632,
];
const cosineTerms = [
  -1.1359647557788195e-11, 2.087572321298175e-9, -2.7557314351390663e-7, 2.480158728947673e-5, -0.001388888888887411,
  0.0416666666666666,
];

const horner = (terms: readonly number[], z: number): number => terms.reduce((sum, term) => sum * z + term, 0);

/** sin and cos of x radians, |x| below 2^20. */
export function sineAndCosine(x: number): { readonly sine: number; readonly cosine: number } {
  const quarters = Math.round(x * twoOverPi);
  // The high part times a whole number is exact; the rest of the difference is kept beside it.
  const high = x - quarters * halfPiHigh;
  const y = high - quarters * halfPiLow;
  const rest = high - y - quarters * halfPiLow;
  const z = y * y;
  const sine = y + (y * z * horner(sineTerms, z) + rest);
  const half = 0.5 * z;
  const w = 1 - half;
  const cosine = w + (1 - w - half + (z * z * horner(cosineTerms, z) - y * rest));
  const turn = ((quarters % 4) + 4) % 4;
  if (turn === 0) return { sine, cosine };
  if (turn === 1) return { sine: cosine, cosine: -sine };
  if (turn === 2) return { sine: -sine, cosine: -cosine };
  return { sine: -cosine, cosine: sine };
}

const ln2High = 0.6931471803691238;
const ln2Low = 1.9082149292705877e-10;

/** e^x. */
export function exponential(x: number): number {
  if (Number.isNaN(x)) return x;
  if (x < -745) return 0;
  if (x > 709.7) return Number.POSITIVE_INFINITY;
  const doublings = Math.round(x / Math.LN2);
  const rest = x - doublings * ln2High - doublings * ln2Low;
  let sum = 1;
  for (let n = 14; n > 0; n--) sum = 1 + (rest / n) * sum;
  // In two steps, since 2^doublings may lie below the normal numbers.
  const half = Math.trunc(doublings / 2);
  return sum * 2 ** half * 2 ** (doublings - half);
}

/** The natural logarithm of x > 0. */
export function logarithm(x: number): number {
  let doublings = 0;
  let m = x;
  for (; m > Math.SQRT2; m /= 2) doublings++;
  for (; m < Math.SQRT1_2; m *= 2) doublings--;
  const t = (m - 1) / (m + 1);
  let sum = 0;
  for (let n = 23; n > 0; n -= 2) sum = sum * t * t + 1 / n;
  return doublings * ln2High + (2 * t * sum + doublings * ln2Low);
}

/** base^exponent for base > 0. */
export const power = (base: number, exponent: number): number => exponential(exponent * logarithm(base));

export function hyperbolicTangent(x: number): number {
  if (Math.abs(x) > 22) return Math.sign(x);
  const squared = exponential(2 * Math.abs(x));
  return Math.sign(x) * (Math.abs(x) < 0.05 ? small(Math.abs(x)) : 1 - 2 / (squared + 1));
}

/** tanh near zero, where the quotient would lose digits. */
function small(x: number): number {
  const z = x * x;
  return x * (1 + z * (-1 / 3 + z * (2 / 15 + z * (-17 / 315 + (z * 62) / 2835))));
}
