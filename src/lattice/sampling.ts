import { gaussianTable } from '../kernels/lattice/index.ts';
import type { EntropySource, KeyDerivation, PrgFactory } from '../math/random.ts';
import { errorVariance } from './parameters.ts';
import type { Polynomial, Rns } from './rns.ts';

/** What the platform provides: nothing here draws randomness by itself. */
export interface LatticeRandomness {
  readonly entropy: EntropySource;
  readonly prg: PrgFactory;
  readonly derive: KeyDerivation;
}

export const seedBytes = 32;

/** 32 bytes that were never used before: a seed serves one polynomial `a` of one key or ciphertext. */
export function freshSeed({ entropy }: Pick<LatticeRandomness, 'entropy'>): Uint8Array<ArrayBuffer> {
  const seed = new Uint8Array(seedBytes);
  entropy(seed);
  return seed;
}

/**
 * A uniform polynomial, in values, from a public seed: stream i of KDF(seed, 'sotto rlwe uniform/v1', parameters and purpose) gives the limb of ring i,
 * by 64-bit words that are cut to the prime's bits and skipped where they are not below it. Both sides of a wire get the same.
 */
export function uniformFromSeed(
  rns: Rns,
  { prg, derive }: Pick<LatticeRandomness, 'prg' | 'derive'>,
  seed: Uint8Array,
  purpose: string,
  { level, special }: { readonly level: number; readonly special: boolean },
): Polynomial {
  const encoder = new TextEncoder();
  const generator = prg(derive(seed, 'sotto rlwe uniform/v1', [encoder.encode(rns.parameters.name), encoder.encode(purpose)]));
  const out = rns.allocate(level, special);
  rns.each(out, (ring, limb, k) => {
    // At least half of the words are kept; for primes just below a power of two nearly all are.
    for (let words = ring.n + 64; ; words *= 2) {
      const bytes = new Uint8Array(8 * words);
      generator.fill(rns.indexAt(out, k), bytes);
      if (rns.kernels.sampleUniform(ring, limb, bytes) === ring.n) return;
    }
  });
  return out;
}

/** Secrets and errors, each from a stream of its own under a seed that nobody else has and that is forgotten with the sampler. */
export class SecretSampler {
  readonly #rns: Rns;
  readonly #generator: ReturnType<PrgFactory>;
  readonly #table = gaussianTable(errorVariance);
  #stream = 0;

  constructor(rns: Rns, randomness: LatticeRandomness) {
    this.#rns = rns;
    const seed = freshSeed(randomness);
    this.#generator = randomness.prg(randomness.derive(seed, 'sotto rlwe secrets/v1', []));
    seed.fill(0);
  }

  /** Coefficients −1, 0, 1; clear them after use. */
  ternary(): Float64Array {
    return this.#sample((out, bytes) => this.#rns.kernels.sampleTernary(out, bytes));
  }

  /** Coefficients of the error distribution; clear them after use. */
  error(): Float64Array {
    return this.#sample((out, bytes) => this.#rns.kernels.sampleGaussian(out, bytes, this.#table));
  }

  #sample(draw: (out: ReturnType<Rns['kernels']['allocate']>, bytes: Uint8Array) => void): Float64Array {
    const { kernels, parameters } = this.#rns;
    const bytes = new Uint8Array(8 * parameters.n);
    this.#generator.fill(this.#stream++, bytes);
    const out = kernels.allocate(parameters.n);
    try {
      draw(out, bytes);
      return kernels.values(out).slice();
    } finally {
      bytes.fill(0);
      kernels.free(out);
    }
  }
}
