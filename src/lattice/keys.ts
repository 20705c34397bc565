import { SottoError } from '../errors/index.ts';
import type { Polynomial, Rns } from './rns.ts';
import { freshSeed, type LatticeRandomness, type SecretSampler, uniformFromSeed } from './sampling.ts';

/** s, ternary, modulo every prime, in values. Whoever has it reads everything: it stays with the party that made it, and is freed by it. */
export interface SecretKey {
  readonly polynomial: Polynomial;
}

/** (b, a) with b = −a·s + e modulo Q; a comes from the seed. */
export interface PublicKey {
  readonly b: Polynomial;
  readonly a: Polynomial;
  readonly seed: Uint8Array;
}

/**
 * A switching key from s′ to s: for each digit d of primes with product Q_d a pair (b_d, a_d) modulo QP with b_d = −a_d·s + e_d + P·g_d·s′, where g_d is 1 modulo
 * the primes of the digit and 0 modulo the others. s′ is s(X^element), or s² where the element is 0, which is no automorphism.
 */
export interface SwitchingKey {
  readonly element: number;
  readonly digits: readonly { readonly b: Polynomial; readonly a: Polynomial }[];
  readonly seed: Uint8Array;
}

export const square = 0;
/** The purpose of the uniform half of one digit. */
export const digitPurpose = (element: number, digit: number): string => `switching key ${element}, digit ${digit}`;
export const publicPurpose = 'public key';

export function secretKey(rns: Rns, sampler: SecretSampler): SecretKey {
  const coefficients = sampler.ternary();
  const polynomial = rns.fromSmall(coefficients, rns.topLevel, true);
  coefficients.fill(0);
  return { polynomial };
}

export function publicKey(rns: Rns, randomness: LatticeRandomness, sampler: SecretSampler, secret: SecretKey): PublicKey {
  const seed = freshSeed(randomness);
  const a = uniformFromSeed(rns, randomness, seed, publicPurpose, { level: rns.topLevel, special: false });
  const b = maskedError(rns, sampler, secret, a);
  return { a, b, seed };
}

/** −a·s + e on the limbs of a. */
export function maskedError(rns: Rns, sampler: SecretSampler, secret: SecretKey, a: Polynomial): Polynomial {
  const coefficients = sampler.error();
  const b = rns.fromSmall(coefficients, a.level, a.special);
  coefficients.fill(0);
  const product = rns.allocate(a.level, a.special);
  rns.multiply(product, a, secret.polynomial);
  rns.subtract(b, b, product);
  rns.free(product);
  return b;
}

/** The key that relinearises: from s² to s. */
export function relinearisationKey(
  rns: Rns,
  randomness: LatticeRandomness,
  sampler: SecretSampler,
  secret: SecretKey,
): SwitchingKey {
  const squared = rns.allocate(rns.topLevel, true);
  rns.multiply(squared, secret.polynomial, secret.polynomial);
  const key = switchingKey(rns, randomness, sampler, secret, squared, square);
  rns.free(squared);
  return key;
}

/** The key of X → X^element: from s(X^element) to s. */
export function automorphismKey(
  rns: Rns,
  randomness: LatticeRandomness,
  sampler: SecretSampler,
  secret: SecretKey,
  element: number,
): SwitchingKey {
  const moved = rns.allocate(rns.topLevel, true);
  rns.automorphism(moved, secret.polynomial, element);
  const key = switchingKey(rns, randomness, sampler, secret, moved, element);
  rns.free(moved);
  return key;
}

function switchingKey(
  rns: Rns,
  randomness: LatticeRandomness,
  sampler: SecretSampler,
  secret: SecretKey,
  from: Polynomial,
  element: number,
): SwitchingKey {
  const { p, q, digits } = rns.parameters;
  if (p.length === 0)
    throw new SottoError('usage', 'these parameters have no special primes, and so no switching keys', {
      place: { field: 'p' },
      remedy: 'add special primes',
    });
  const special = p.reduce((whole, prime) => whole * BigInt(prime), 1n);
  const seed = freshSeed(randomness);
  const shape = { level: rns.topLevel, special: true };
  const pairs = digits.map((members, d) => {
    const a = uniformFromSeed(rns, randomness, seed, digitPurpose(element, d), shape);
    const b = maskedError(rns, sampler, secret, a);
    const scaled = rns.kernels.allocate(rns.parameters.n);
    for (const index of members) {
      const ring = rns.rings[index]!;
      rns.kernels.multiplyScalar(ring, scaled, rns.limb(from, index), special % BigInt(q[index]!));
      rns.kernels.add(ring, rns.limb(b, index), rns.limb(b, index), scaled);
    }
    rns.kernels.free(scaled);
    return { a, b };
  });
  return { element, digits: pairs, seed };
}

export function freeSwitchingKey(rns: Rns, key: SwitchingKey): void {
  for (const { a, b } of key.digits) rns.free(a, b);
}
