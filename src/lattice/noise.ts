import { errorVariance, type RlweParameters } from './parameters.ts';

/*
 * What errors may be, as variances of one coefficient; a ternary secret has E‖s‖² = 2n/3. A bound is `standardDeviations` of them: for a sum of many
 * independent terms a coefficient is beyond it with probability below 2^−60 (erfc(9.2 / √2) = 2^−65 for one of 2^16 … coefficients: 2^−49 for all).
 */
export const standardDeviations = 9.2;
const variance = errorVariance / 100;

export const freshVariance = (): number => variance;

/** e0 + e·u + e1·s. */
export const publicVariance = ({ n }: RlweParameters): number => variance * (1 + (4 * n) / 3);

/** (1 + ‖s‖²) / 12: what dividing both halves with rounding adds. */
export const roundingVariance = ({ n }: RlweParameters): number => (1 + (2 * n) / 3) / 12;

/** One key switch at a level (switch.ts). */
export function switchingVariance(parameters: RlweParameters, level: number): number {
  const { n, q, p, digits } = parameters;
  const logP = p.reduce((sum, prime) => sum + Math.log2(prime), 0);
  const terms = digits
    .map((members) => members.filter((index) => index <= level))
    .filter((members) => members.length > 0)
    .map((members) => 2 ** (2 * (members.reduce((sum, index) => sum + Math.log2(q[index]!), 0) - logP)));
  return (n * variance * terms.reduce((sum, term) => sum + term, 0)) / 12 + roundingVariance(parameters);
}

export const bound = (ofVariance: number): number => standardDeviations * Math.sqrt(ofVariance);
