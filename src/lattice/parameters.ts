import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { SottoError } from '../errors/index.ts';
import { transformPrimes } from '../kernels/lattice/index.ts';

/** What a person writes down; `rlweParameters` checks it and finds the primes. */
export interface RlweLiteral {
  /** The ring dimension, a power of two. */
  readonly n: number;
  /** Bits of the ciphertext primes, the last one dropped first; 20 … 49 each. */
  readonly q: readonly number[];
  /** Bits of the special primes, by which key switching divides its noise; none where nothing is switched. */
  readonly p: readonly number[];
  /** Parameters below 128 bits, for tests in small rings. Keys and messages carry it in their parameters' name: nobody else takes them. */
  readonly insecure?: true;
}

/** Checked parameters. Primes are distinct, 1 modulo 2n and in this order on every machine. */
export interface RlweParameters {
  readonly n: number;
  readonly q: readonly number[];
  readonly p: readonly number[];
  /** log2 of the product of all of them, which a switching key shows. */
  readonly logQP: number;
  /** Ciphertext primes by digit: as many as there are special primes in each, the last may have fewer. */
  readonly digits: readonly (readonly number[])[];
  readonly insecure: boolean;
  /** The first 16 bytes of SHA-256 over everything above, in hexadecimal: what messages name their parameters by. */
  readonly name: string;
}

/**
 * The largest log2 QP for 128 bits against classical attacks, with a uniform ternary secret and errors of σ = 3.19: Bossuat et al., Security Guidelines for
 * Implementing Homomorphic Encryption (IACR CiC 1(4) 26, ePrint 2024/463), table 5.2, by the lattice estimator at commit 8f1ff7e under the
 * MATZOV cost model. Sparse secrets are not covered by it.
 */
export const securityLimits: ReadonlyMap<number, number> = new Map([
  [2 ** 12, 106],
  [2 ** 13, 214],
  [2 ** 14, 430],
  [2 ** 15, 868],
  [2 ** 16, 1747],
]);

/** Errors are a discrete Gaussian of this variance (σ = 3.191), in hundredths, cut off at 6σ. */
export const errorVariance = 1018;
export const errorBound = 19;

/** Throws a `usage` error where the literal is not well formed, or not secure by the table and not marked `insecure`. */
export function rlweParameters(literal: RlweLiteral): RlweParameters {
  const { n, q, p } = literal;
  if (q.length === 0 || [...q, ...p].some((bits) => !Number.isInteger(bits) || bits < 20 || bits > 49))
    throw new SottoError('usage', 'primes of a lattice scheme have 20 to 49 bits, and there is at least one', {
      place: { field: 'q, p' },
      remedy: 'write bits such as [49, 40, 40]',
    });
  const primes = distinctPrimes(n, [...q, ...p]);
  // A product of primes below 2^49: the sum of logarithms errs by less than 10^−9.
  const logQP = primes.reduce((sum, prime) => sum + Math.log2(prime), 0);
  const limit = securityLimits.get(n) ?? 0;
  const insecure = logQP > limit;
  if (insecure && literal.insecure !== true)
    throw new SottoError(
      'usage',
      `${logQP.toFixed(1)} bits of primes at the ring dimension ${n} are not secure: ${limit} at most`,
      {
        place: { field: 'n, q, p' },
        remedy: 'take a larger dimension or fewer bits',
      },
    );
  const size = Math.max(1, p.length);
  const digits = Array.from({ length: Math.ceil(q.length / size) }, (_, d) =>
    Array.from({ length: Math.min(size, q.length - d * size) }, (_, i) => d * size + i),
  );
  const checked = { n, q: primes.slice(0, q.length), p: primes.slice(q.length), insecure };
  const text = `sotto rlwe parameters/v1 ${JSON.stringify({ ...checked, errorVariance })}`;
  const name = bytesToHex(sha256(new TextEncoder().encode(text)).subarray(0, 16));
  return { ...checked, logQP, digits, name };
}

function distinctPrimes(n: number, bits: readonly number[]): number[] {
  const taken = new Set<number>();
  return bits.map((each) => {
    const [prime] = transformPrimes(n, each, 1, { except: taken });
    taken.add(prime!);
    return prime!;
  });
}
