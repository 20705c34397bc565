import { SottoError } from '../errors/index.ts';
import type { Plan, ScopeRange } from './plan.ts';

/** The largest number that a scope squares, raises or sums up before it is truncated, as far as calibration recorded it. */
export const largestProduct = ({ maxAbs, maxSquares = 0, maxPower = 0, maxMean = 0, maxSum = 0 }: ScopeRange): number =>
  Math.max(maxAbs ** 2, maxSquares, maxPower, maxMean, maxSum);

/**
 * Refuses a ring that is too narrow for what calibration saw: products carry twice the fraction bits, and truncation needs two bits
 * above the value. Throws a `range` error that names the scope. A plan without ranges passes: the run itself is then the check.
 */
export function checkRanges(
  plan: Plan,
  { bits, fraction }: { readonly bits: number; readonly fraction: number },
  file: string,
): void {
  for (const [scope, range] of Object.entries(plan.ranges ?? {})) {
    const needed = Math.ceil(Math.log2(Math.max(largestProduct(range), 2 ** -fraction))) + 2 * fraction + 2;
    if (needed <= bits) continue;
    throw new SottoError(
      'range',
      `the values met in calibration need ${needed} bits with ${fraction} of fraction, the ring has ${bits}`,
      {
        place: { file, scope },
        remedy: `use a ring of at least ${needed} bits or fewer fraction bits`,
      },
    );
  }
}
