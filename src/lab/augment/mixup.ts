import { SottoError } from '../../errors/index.ts';
import { type Pseudorandom, pseudorandom } from '../../math/index.ts';

/** How the pictures of one batch are mixed: picture i becomes weight · i + (1 − weight) · partners[i]. */
export interface Mixing {
  readonly weight: number;
  readonly partners: Int32Array;
}

/** Mixup (Zhang et al., arXiv 1710.09412): one weight from Beta(α, α) and one random pairing for a batch, from the seed and the step. */
export function mixing(batch: number, alpha: number, seed: number, step: number): Mixing {
  const random = pseudorandom(seed, 0x6d69_7875, step);
  const weight = betaSample(random, alpha, alpha);
  const order = random.shuffle(Array.from({ length: batch }, (_, at) => at));
  return { weight, partners: Int32Array.from(order) };
}

/** Mixes rows of values (batch, …): pixels (B, C, S, S), or targets (B, classes). A teacher reads the mixed pixels. */
export function mixRows(values: Float32Array, batch: number, { weight, partners }: Mixing): Float32Array {
  const length = values.length / batch;
  if (!Number.isInteger(length) || partners.length !== batch)
    throw new SottoError('usage', `${values.length} values for ${batch} rows and ${partners.length} partners`, {
      place: { field: 'mixup' },
      remedy: 'mix whole batches',
    });
  const mixed = new Float32Array(values.length);
  for (let row = 0; row < batch; row++) {
    const [own, other] = [row * length, partners[row]! * length];
    for (let at = 0; at < length; at++) mixed[own + at] = weight * values[own + at]! + (1 - weight) * values[other + at]!;
  }
  return mixed;
}

/** Class numbers → rows of ones and zeros (batch, classes). */
export function oneHot(labels: ArrayLike<number>, classes: number): Float32Array {
  const rows = new Float32Array(labels.length * classes);
  for (let row = 0; row < labels.length; row++) {
    const label = labels[row]!;
    if (!(Number.isInteger(label) && label >= 0 && label < classes))
      throw new SottoError('input', `the label ${label} is not one of the classes 0 to ${classes - 1}`, {
        place: { field: `picture ${row}` },
        remedy: 'correct the label',
      });
    rows[row * classes + label] = 1;
  }
  return rows;
}

/** A sample of Beta(a, b), by two gamma samples; a, b > 0. */
export function betaSample(random: Pseudorandom, a: number, b: number): number {
  if (!(a > 0 && b > 0 && a < 1e6 && b < 1e6))
    throw new SottoError('usage', `Beta(${a}, ${b}) does not exist here`, {
      place: { field: 'alpha' },
      remedy: 'choose a number above 0 and below a million',
    });
  // Logarithms: samples of small shapes fall below the smallest number.
  const [x, y] = [logGamma(random, a), logGamma(random, b)];
  return 1 / (1 + Math.exp(y - x));
}

/** The logarithm of a gamma sample: Marsaglia and Tsang's method; shapes below one by U^(1/shape) on the next shape. */
function logGamma(random: Pseudorandom, shape: number): number {
  if (shape < 1) return logGamma(random, shape + 1) + Math.log(1 - random.uniform()) / shape;
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = random.normal();
    const v = (1 + c * x) ** 3;
    if (v > 0 && Math.log(1 - random.uniform()) < 0.5 * x * x + d - d * v + d * Math.log(v)) return Math.log(d * v);
  }
}
