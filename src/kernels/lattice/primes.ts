import { SottoError } from '../../errors/index.ts';

/** Primes of the kernels: below 2^49, so that a product of two lazy residues keeps its bounds (wasm/arithmetic.as.ts). */
export const maximumPrimeBits = 49;
/** Ring dimensions that the kernels transform. */
export const minimumDimension = 16;
export const maximumDimension = 2 ** 17;

export function powerModulo(base: bigint, exponent: bigint, prime: bigint): bigint {
  let result = 1n;
  let square = ((base % prime) + prime) % prime;
  for (let left = exponent; left > 0n; left >>= 1n) {
    if (left & 1n) result = (result * square) % prime;
    square = (square * square) % prime;
  }
  return result;
}

export const inverseModulo = (value: bigint, prime: bigint): bigint => powerModulo(value, prime - 2n, prime);

/** The representative of a residue nearest to zero, as a double: exact, since primes have at most 49 bits. */
export function balanced(value: bigint, prime: bigint): number {
  const residue = ((value % prime) + prime) % prime;
  return Number(residue > prime >> 1n ? residue - prime : residue);
}

/** Miller and Rabin with the first twelve primes as bases, which decides every number below 3.3 · 10^24 (Sorenson and Webster 2015). */
export function isPrime(candidate: bigint): boolean {
  const bases = [2n, 3n, 5n, 7n, 11n, 13n, 17n, 19n, 23n, 29n, 31n, 37n];
  if (candidate < 2n) return false;
  for (const base of bases) if (candidate % base === 0n) return candidate === base;
  let odd = candidate - 1n;
  let twos = 0;
  for (; (odd & 1n) === 0n; odd >>= 1n) twos++;
  return bases.every((base) => {
    let x = powerModulo(base, odd, candidate);
    if (x === 1n || x === candidate - 1n) return true;
    for (let k = 1; k < twos; k++) {
      x = (x * x) % candidate;
      if (x === candidate - 1n) return true;
    }
    return false;
  });
}

/**
 * `count` primes p ≡ 1 (mod 2n) nearest to 2^bits, by turns above and below, none of them in `except`; with `below`, the largest ones under 2^bits. Chains of CKKS want the
 * first, so that scales stay near 2^bits; special primes and plaintext primes the second. `bits` is 49 at most, and then all lie below.
 * Throws a `usage` error where there are not so many.
 */
export function transformPrimes(
  n: number,
  bits: number,
  count: number,
  options: { readonly below?: boolean; readonly except?: ReadonlySet<number> } = {},
): number[] {
  const step = 2n * BigInt(n);
  const centre = 1n << BigInt(bits);
  const below = options.below === true || bits >= maximumPrimeBits;
  const limit = 1n << BigInt(maximumPrimeBits);
  const found: number[] = [];
  for (let k = 0n; found.length < count; k++) {
    const down = centre + 1n - k * step;
    if (down <= centre >> 1n)
      throw new SottoError('usage', `there are not ${count} primes of ${bits} bits for the dimension ${n}`, {
        remedy: 'take more bits, fewer primes or a smaller dimension',
      });
    const candidates = below || k === 0n ? [down] : [down, centre + 1n + k * step];
    for (const candidate of candidates) {
      const prime = Number(candidate);
      if (found.length < count && candidate < limit && !options.except?.has(prime) && isPrime(candidate)) found.push(prime);
    }
  }
  return found;
}

/** The smallest primitive 2n-th root of unity modulo p ≡ 1 (mod 2n): the choice of other libraries, whose values are then in the same places. */
export function minimalRoot(n: number, prime: number): bigint {
  const p = BigInt(prime);
  const order = 2n * BigInt(n);
  let root = 0n;
  for (let base = 2n; ; base++) {
    root = powerModulo(base, (p - 1n) / order, p);
    if (powerModulo(root, order >> 1n, p) === p - 1n) break;
  }
  let least = root;
  const square = (root * root) % p;
  for (let k = 1; k < n; k++) {
    root = (root * square) % p;
    if (root < least) least = root;
  }
  return least;
}

export function bitReversed(value: number, bits: number): number {
  let result = 0;
  for (let k = 0; k < bits; k++) result |= ((value >>> k) & 1) << (bits - 1 - k);
  return result;
}

export function checkDimension(n: number): void {
  if (Number.isInteger(n) && n >= minimumDimension && n <= maximumDimension && (n & (n - 1)) === 0) return;
  throw new SottoError('usage', `${n} is no ring dimension`, {
    remedy: `take a power of two from ${minimumDimension} to ${maximumDimension}`,
  });
}

/** A prime that the kernels transform in dimension n. Throws a `usage` error elsewhere. */
export function checkPrime(n: number, prime: number): void {
  checkDimension(n);
  const fits = Number.isSafeInteger(prime) && prime > 2 * n && prime < 2 ** maximumPrimeBits && prime % (2 * n) === 1;
  if (fits && isPrime(BigInt(prime))) return;
  throw new SottoError('usage', `${prime} is no prime of the kernels for the dimension ${n}`, {
    remedy: `take a prime below 2^${maximumPrimeBits} that is 1 modulo ${2 * n}`,
  });
}
