import { SottoError } from '../errors/index.ts';

/**
 * A small generator of uniform numbers in [0, 1), the same on every platform: xoshiro128** (Blackman and Vigna) on 32-bit integers,
 * its state filled from the seed by splitmix32. For sampling, shuffling and tests; never for secrets.
 */
export function seededUniform(seed: number): () => number {
  let fill = seed >>> 0;
  // The seed's upper half takes part where it exceeds 32 bits.
  fill = (fill ^ Math.imul(Math.floor(seed / 2 ** 32) >>> 0, 0x9e3779b1)) >>> 0;
  const next = (): number => {
    fill = (fill + 0x9e3779b9) | 0;
    let z = fill ^ (fill >>> 16);
    z = Math.imul(z, 0x21f0aaad);
    z ^= z >>> 15;
    z = Math.imul(z, 0x735a2d97);
    return (z ^ (z >>> 15)) | 0;
  };
  let [a, b, c, d] = [next(), next(), next(), next()];
  const uint32 = (): number => {
    const turned = Math.imul(b, 5);
    const result = Math.imul((turned << 7) | (turned >>> 25), 9) >>> 0;
    const t = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= t;
    d = (d << 11) | (d >>> 21);
    return result;
  };
  return () => ((uint32() >>> 5) * 2 ** 26 + (uint32() >>> 6)) / 2 ** 53;
}

/** Standard normal numbers from uniform ones (Box and Muller). */
export function seededNormal(seed: number): () => number {
  const uniform = seededUniform(seed);
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** Unnormalised log probabilities, one for each token of the vocabulary or each class. */
export type Logits = Float32Array | Float64Array;
/** Chooses the next token from logits (V). */
export type Sampler = (logits: Logits) => number;

/** The first index of the largest logit. */
export const greedy: Sampler = (logits) => {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
};

/** How the next token is chosen from logits; the same seed and logits choose the same tokens. */
export interface SamplingOptions {
  /** 0 is greedy. */
  readonly temperature: number;
  /** The smallest set of most likely tokens with at least this probability is drawn from; 1 keeps all. */
  readonly topP?: number;
  /** An integer in [0, 2^53). */
  readonly seed?: number;
}

/**
 * Temperature, then top-p, then one uniform number a token: the same options give the same text. Throws a `usage` error for a temperature, a
 * top-p or a seed out of its range.
 *
 * @example
 * ```js
 * import { sampler } from 'sotto/models';
 *
 * const sample = sampler({ temperature: 0 });
 * console.log(sample(Float32Array.of(0.1, 2, 1))); // 1
 * ```
 */
export function sampler({ temperature, topP = 1, seed = 0 }: SamplingOptions): Sampler {
  if (!(temperature >= 0 && temperature < Infinity)) throw unusable('temperature', `${temperature} is not a number from 0 on`);
  if (!(topP > 0 && topP <= 1)) throw unusable('topP', `${topP} is not in (0, 1]`);
  if (!Number.isSafeInteger(seed) || seed < 0) throw unusable('seed', `${seed} is not an integer from 0 to 2^53 − 1`);
  if (temperature === 0) return greedy;
  const uniform = seededUniform(seed);
  return (logits) => {
    const probabilities = tempered(logits, temperature);
    const kept = topP < 1 ? nucleus(probabilities, topP) : Int32Array.from(probabilities.keys());
    return draw(probabilities, kept, uniform());
  };
}

function tempered(logits: Logits, temperature: number): Float64Array {
  const most = logits[greedy(logits)]!;
  const weights = Float64Array.from(logits, (value) => Math.exp((value - most) / temperature));
  const sum = weights.reduce((total, value) => total + value, 0);
  return weights.map((value) => value / sum);
}

/** Token numbers from the most likely down, ties by number, until their probability reaches `topP`. */
function nucleus(probabilities: Float64Array, topP: number): Int32Array {
  const order = Int32Array.from(probabilities.keys()).sort((a, b) => probabilities[b]! - probabilities[a]! || a - b);
  let [sum, count] = [0, 0];
  while (sum < topP && count < order.length) sum += probabilities[order[count++]!]!;
  return order.subarray(0, count);
}

function draw(probabilities: Float64Array, kept: Int32Array, uniform: number): number {
  let rest = uniform * kept.reduce((sum, token) => sum + probabilities[token]!, 0);
  for (const token of kept) if ((rest -= probabilities[token]!) < 0) return token;
  return kept.at(-1)!;
}

const unusable = (field: string, reason: string) =>
  new SottoError('usage', reason, { place: { field }, remedy: 'choose a value in the range named' });
