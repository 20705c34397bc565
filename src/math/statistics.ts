/** A mean of n samples with the half width of its 95 % confidence interval. */
export interface Estimate {
  readonly mean: number;
  /** Half of the 95 % interval; NaN below two samples. */
  readonly halfWidth: number;
  readonly count: number;
}

/** The mean of independent samples and its 95 % interval by the normal approximation. */
export function estimate(samples: ArrayLike<number>): Estimate {
  const count = samples.length;
  const mean = total(samples, (value) => value) / count;
  const variance = total(samples, (value) => (value - mean) ** 2) / (count - 1);
  return { mean, halfWidth: count < 2 ? Number.NaN : normalQuantile95 * Math.sqrt(variance / count), count };
}

/**
 * The ratio Σ tops / Σ bottoms over clusters (texts, say) whose members are not independent, with the 95 % interval of the ratio
 * estimator across clusters. `count` is Σ bottoms.
 */
export function clusteredRatio(tops: ArrayLike<number>, bottoms: ArrayLike<number>): Estimate {
  const clusters = tops.length;
  const count = total(bottoms, (value) => value);
  const mean = total(tops, (value) => value) / count;
  const spread = total(tops, (top, i) => (top - mean * bottoms[i]!) ** 2);
  const error = clusters < 2 ? Number.NaN : Math.sqrt((spread * clusters) / (clusters - 1)) / count;
  return { mean, halfWidth: normalQuantile95 * error, count };
}

const normalQuantile95 = 1.959963984540054;

function total(values: ArrayLike<number>, term: (value: number, index: number) => number): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += term(values[i]!, i);
  return sum;
}

/** The q-quantile (0 ≤ q ≤ 1) by linear interpolation between order statistics. */
export function quantile(values: ArrayLike<number>, q: number): number {
  const sorted = Float64Array.from(values).sort();
  const at = q * (sorted.length - 1);
  const below = Math.floor(at);
  const low = sorted[below]!;
  return low + (at - below) * ((sorted[below + 1] ?? low) - low);
}

/** Ranks from 1; equal values share the mean of their ranks. */
export function ranks(values: ArrayLike<number>): Float64Array {
  const order = Array.from({ length: values.length }, (_, i) => i).sort((i, j) => values[i]! - values[j]!);
  const result = new Float64Array(values.length);
  for (let start = 0; start < order.length; ) {
    let end = start + 1;
    while (end < order.length && values[order[end]!] === values[order[start]!]) end++;
    for (let i = start; i < end; i++) result[order[i]!] = (start + end + 1) / 2;
    start = end;
  }
  return result;
}
