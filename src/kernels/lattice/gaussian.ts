import { SottoError } from '../../errors/index.ts';

/**
 * The cumulative table of a discrete Gaussian: the k-th threshold is the share of |x| < k, in 63 bits, so that a uniform word of 63 bits reaches k thresholds
 * with the probability of |x| = k, to 2^−63. With a sign drawn apart zero would come up twice as often as it should: its share is halved first. Values beyond `tail` · σ
 * are cut off and the rest scaled up.
 *
 * Made of exact fractions: exp(−k²/2σ²) by its series in 192 bits, for a rational σ² = `variance` / 100.
 */
export function gaussianTable(variance: number, tail = 6): BigUint64Array<ArrayBuffer> {
  if (!Number.isInteger(variance) || variance < 1 || variance > 100_000)
    throw new SottoError('usage', `${variance} hundredths is no variance of a sampler`, { remedy: 'take 1 … 100000' });
  const most = Math.floor(tail * Math.sqrt(variance / 100));
  const weights: bigint[] = [];
  for (let k = 0; k <= most; k++) weights.push(exponential(BigInt(50 * k * k), BigInt(variance)));
  // The sign is drawn apart and −0 = 0: magnitude 0 has one weight, every other one two, halves of which are as good.
  weights[0]! /= 2n;
  const whole = weights.reduce((sum, weight) => sum + weight, 0n);
  let below = 0n;
  return BigUint64Array.from(
    weights.slice(0, -1).map((weight) => {
      below += weight;
      return ((below << 63n) + whole / 2n) / whole;
    }),
  );
}

const precision = 192n;

/** exp(−numerator / denominator) · 2^192. The argument is halved until it is below one, and the result squared back. */
function exponential(numerator: bigint, denominator: bigint): bigint {
  let halvings = 0n;
  while (numerator > denominator << halvings) halvings++;
  const x = (numerator << precision) / (denominator << halvings);
  let sum = 0n;
  let term = 1n << precision;
  for (let k = 1n; term > 0n; k++) {
    sum += k % 2n === 1n ? term : -term;
    term = ((term * x) >> precision) / k;
  }
  for (let k = 0n; k < halvings; k++) sum = (sum * sum) >> precision;
  return sum;
}
