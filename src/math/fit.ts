import { SottoError } from '../errors/index.ts';

/**
 * Least squares for polynomials of x from streamed moments: per channel Σ w x^k for k ≤ 2·degree and Σ w f x^k for k ≤ degree. Moments
 * are of (x − centre)/width with the first batch's mean and deviation, so that the normal equations stay well conditioned.
 */
export class PolynomialMoments {
  readonly degree: number;
  readonly channels: number;
  readonly #powers: Float64Array;
  readonly #products: Float64Array;
  readonly #energy: Float64Array;
  #centre = 0;
  #width = 0;

  constructor(degree: number, channels: number) {
    this.degree = degree;
    this.channels = channels;
    this.#powers = new Float64Array(channels * (2 * degree + 1));
    this.#products = new Float64Array(channels * (degree + 1));
    this.#energy = new Float64Array(channels);
  }

  /** Adds rows of `channels` values: the targets f(x), and weights of the same layout (1 where left out). */
  add(x: ArrayLike<number>, target: ArrayLike<number>, weights?: ArrayLike<number>): void {
    if (this.#width === 0) this.#standardise(x);
    const { degree, channels } = this;
    for (let i = 0; i < x.length; i++) {
      const channel = i % channels;
      const z = (x[i]! - this.#centre) / this.#width;
      const f = target[i]!;
      let power = weights === undefined ? 1 : weights[i]!;
      this.#energy[channel]! += power * f * f;
      for (let k = 0; k <= 2 * degree; k++) {
        this.#powers[channel * (2 * degree + 1) + k]! += power;
        if (k <= degree) this.#products[channel * (degree + 1) + k]! += power * f;
        power *= z;
      }
    }
  }

  #standardise(x: ArrayLike<number>): void {
    let sum = 0;
    for (let i = 0; i < x.length; i++) sum += x[i]!;
    this.#centre = x.length === 0 ? 0 : sum / x.length;
    let squares = 0;
    for (let i = 0; i < x.length; i++) squares += (x[i]! - this.#centre) ** 2;
    this.#width = Math.sqrt(squares / Math.max(1, x.length)) || 1;
  }

  /** All channels together: one polynomial. */
  fitAll(): Float64Array {
    return this.#fit(Array.from({ length: this.channels }, (_, channel) => channel));
  }

  /** One polynomial a channel. */
  fitChannels(): Float64Array[] {
    return Array.from({ length: this.channels }, (_, channel) => this.#fit([channel]));
  }

  /** Σ w f², over all channels. */
  get energy(): number {
    return this.#energy.reduce((sum, value) => sum + value, 0);
  }

  #fit(selected: readonly number[]): Float64Array {
    const { degree } = this;
    const unknowns = degree + 1;
    const powers = new Float64Array(2 * degree + 1);
    const right = new Float64Array(unknowns);
    for (const channel of selected) {
      for (let k = 0; k <= 2 * degree; k++) powers[k]! += this.#powers[channel * (2 * degree + 1) + k]!;
      for (let k = 0; k <= degree; k++) right[k]! += this.#products[channel * unknowns + k]!;
    }
    if (!(powers[0]! > 0) || !powers.every(Number.isFinite) || !right.every(Number.isFinite))
      throw new SottoError('range', 'a fit has no samples, or samples that are not finite numbers', {
        remedy: 'give calibration data that reach this layer',
      });
    const matrix = Array.from({ length: unknowns }, (_, i) => Array.from({ length: unknowns }, (_, j) => powers[i + j]!));
    // A channel with too few distinct values leaves the equations singular: a ridge far below the data decides.
    for (let i = 0; i < unknowns; i++) matrix[i]![i]! += 1e-12 * powers[0]!;
    return this.#original(solvePositive(matrix, right));
  }

  /** Coefficients of powers of x, from those of (x − centre)/width. */
  #original(standard: Float64Array): Float64Array {
    let result = new Float64Array(this.degree + 1);
    for (let k = this.degree; k >= 0; k--) {
      const shifted = new Float64Array(this.degree + 1);
      for (let i = 0; i <= this.degree; i++) {
        shifted[i]! -= (result[i]! * this.#centre) / this.#width;
        if (i < this.degree) shifted[i + 1]! += result[i]! / this.#width;
      }
      shifted[0]! += standard[k]!;
      result = shifted;
    }
    return result;
  }
}

/** Solves a symmetric positive definite system by Cholesky's factorisation. Throws a `range` error where it is not one. */
export function solvePositive(matrix: readonly (readonly number[])[], right: ArrayLike<number>): Float64Array {
  const n = matrix.length;
  const factor = matrix.map((row) => Float64Array.from(row));
  for (let j = 0; j < n; j++) {
    for (let i = j; i < n; i++) {
      let sum = factor[i]![j]!;
      for (let k = 0; k < j; k++) sum -= factor[i]![k]! * factor[j]![k]!;
      if (i === j && !(sum > 0))
        throw new SottoError('range', 'the equations of a fit are singular', { remedy: 'give more varied calibration data' });
      factor[i]![j] = i === j ? Math.sqrt(sum) : sum / factor[j]![j]!;
    }
  }
  const y = Float64Array.from(right);
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) y[i]! -= factor[i]![k]! * y[k]!;
    y[i]! /= factor[i]![i]!;
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) y[i]! -= factor[k]![i]! * y[k]!;
    y[i]! /= factor[i]![i]!;
  }
  return y;
}

/** Least squares of f on [low, high] under the standard normal density, by a fine grid: coefficients from the constant term up. */
export function staticFit(f: (x: number) => number, degree: number, low = -3, high = 3): Float64Array {
  const samples = 6001;
  const x = Float64Array.from({ length: samples }, (_, i) => low + ((high - low) * i) / (samples - 1));
  const moments = new PolynomialMoments(degree, 1);
  moments.add(
    x,
    x.map(f),
    x.map((value) => Math.exp((-value * value) / 2)),
  );
  return moments.fitAll();
}
