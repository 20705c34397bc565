import { usualFraction, usualRing, wide } from '../backends/ring/index.ts';
import { SottoError } from '../errors/index.ts';
import type { Plan, ScopeRange } from './plan.ts';

/** The largest number that a scope squares, raises or sums up before it is truncated, as far as calibration recorded it. */
export const largestProduct = ({ maxAbs = 0, maxSquares = 0, maxPower = 0, maxMean = 0, maxSum = 0 }: ScopeRange): number =>
  Math.max(maxAbs ** 2, maxSquares, maxPower, maxMean, maxSum);

/**
 * The bits that a ring must have for what was met, `factor` times larger: products carry twice the fraction bits, means that are found before
 * they are truncated those of the divisor as well, and truncation needs two bits above the value.
 */
export function neededBits(
  range: ScopeRange,
  { bits, fraction }: { readonly bits: number; readonly fraction: number },
  factor = 1,
): number {
  const head = (value: number): number => Math.ceil(Math.log2(Math.max(value * factor, 2 ** -fraction)));
  // What a function looks at is a product's result before it is truncated.
  const largest = Math.max(largestProduct(range), range.maxArgument ?? 0);
  const product = head(largest) + 2 * fraction + 2;
  const divided = 2 * fraction + wide.factorBits + 2;
  return divided + wide.integerBits > bits ? product : Math.max(product, head(range.maxAverage ?? 0) + divided);
}

/** A run's ring: what is asked for, the rest as the plan was calibrated, or as usual. */
export function ringFor(
  { bits, fraction }: { readonly bits?: number | undefined; readonly fraction?: number | undefined } = {},
  plan?: Pick<Plan, 'ring'>,
): { bits: number; fraction: number } {
  const width = bits ?? plan?.ring?.bits ?? usualRing.bits;
  return { bits: width, fraction: fraction ?? (plan?.ring?.bits === width ? plan.ring.fraction : usualFraction(width)) };
}

/**
 * Whether a ring program of this plan would look at its values through measured windows alone. Where it would not, its values must be
 * measured before a private run: nothing that a ring assumes holds for every model.
 */
export function isMeasured({ layers, ranges, domains = {} }: Plan): boolean {
  if (ranges === undefined) return false;
  return layers.every(({ activation, attention, norm }, index) => {
    const [act, weights, middle] = ['mlp.act', 'attention.weights', 'mlp.norm'].map((part) => domains[`layers.${index}.${part}`]);
    if ((activation.kind === 'exact' || activation.kind === 'relu') && act?.argument === undefined) return false;
    if ((attention.kind === 'softmax' || attention.kind === '2relu') && weights?.argument === undefined) return false;
    if (attention.kind !== 'softmax' && attention.table === undefined && weights?.low === undefined) return false;
    return norm?.table !== undefined || middle?.low !== undefined;
  });
}

/**
 * Refuses a ring that is too narrow for what calibration saw. Throws a `range` error that names the scope. A plan without ranges passes:
 * the run itself is then the check.
 */
export function checkRanges(
  plan: Plan,
  { bits, fraction }: { readonly bits: number; readonly fraction: number },
  file: string,
): void {
  for (const [scope, range] of Object.entries(plan.ranges ?? {})) {
    const needed = neededBits(range, { bits, fraction });
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
