import { SottoError } from '../errors/index.ts';
import { clusteredRatio, type Estimate, estimate, pseudorandom, quantile } from '../math/index.ts';

/** A figure with its 95 % interval; `low` and `high` are null where the samples say nothing about the spread. */
export interface Metric {
  readonly value: number;
  /** How many samples it is made from: rows, pictures, tokens or ratings. */
  readonly count: number;
  readonly low: number | null;
  readonly high: number | null;
}
/** Figures of a task by name. */
export type Metrics = Record<string, Metric>;

const normalQuantile95 = 1.959963984540054;

/** A share of successes with Wilson's score interval (Wilson 1927), which stays inside [0, 1] and is honest for small counts. */
export function proportion(successes: number, count: number): Metric {
  requireSamples(count);
  const p = successes / count;
  const z2 = normalQuantile95 ** 2;
  const centre = (p + z2 / (2 * count)) / (1 + z2 / count);
  const half = (normalQuantile95 * Math.sqrt((p * (1 - p)) / count + z2 / (4 * count ** 2))) / (1 + z2 / count);
  return { value: p, count, low: p === 0 ? 0 : Math.max(0, centre - half), high: p === 1 ? 1 : Math.min(1, centre + half) };
}

export const share = (successes: readonly boolean[]): Metric => proportion(successes.filter(Boolean).length, successes.length);

/** A mean of independent samples with the interval of the normal approximation. */
export function mean(samples: readonly number[]): Metric {
  requireSamples(samples.length);
  return fromEstimate(estimate(samples));
}

/** Σ tops / Σ bottoms over clusters (texts) whose members depend on each other; the interval is across clusters. */
export function ratio(tops: readonly number[], bottoms: readonly number[]): Metric {
  requireSamples(bottoms.reduce((sum, bottom) => sum + bottom, 0));
  return fromEstimate(clusteredRatio(tops, bottoms));
}

function fromEstimate({ mean: value, halfWidth, count }: Estimate): Metric {
  if (Number.isNaN(halfWidth)) return { value, count, low: null, high: null };
  return { value, count, low: value - halfWidth, high: value + halfWidth };
}

/** The metric behind an increasing function, such as a perplexity behind a mean loss. */
export function mapped({ value, count, low, high }: Metric, increasing: (value: number) => number): Metric {
  return {
    value: increasing(value),
    count,
    low: low === null ? null : increasing(low),
    high: high === null ? null : increasing(high),
  };
}

/** A statistic of a whole sample with the percentile interval of a seeded bootstrap over its `count` members. */
export function bootstrapped(
  count: number,
  statistic: (members: Int32Array) => number,
  { seed = 1234, resamples = 1000 }: { seed?: number; resamples?: number } = {},
): Metric {
  requireSamples(count);
  const value = statistic(Int32Array.from({ length: count }, (_, i) => i));
  if (count < 2) return { value, count, low: null, high: null };
  const random = pseudorandom(seed, 7);
  const members = new Int32Array(count);
  const draws = Float64Array.from({ length: resamples }, () => {
    for (let i = 0; i < count; i++) members[i] = random.integer(count);
    return statistic(members);
  });
  return { value, count, low: quantile(draws, 0.025), high: quantile(draws, 0.975) };
}

/** The unbiased estimate of pass@k (Chen et al. 2021) from n samples of which c pass: 1 − ∏_{i=n−c+1..n} (1 − k/i). */
export function passAtK(n: number, c: number, k: number): number {
  if (n - c < k) return 1;
  let failing = 1;
  for (let i = n - c + 1; i <= n; i++) failing *= 1 - k / i;
  return 1 - failing;
}

function requireSamples(count: number): void {
  if (count > 0) return;
  throw new SottoError('input', 'there is nothing to score', { remedy: 'give at least one row with something to predict' });
}
