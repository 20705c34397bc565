import { SottoError } from '../errors/index.ts';
import type { Ciphertext } from './ciphertext.ts';
import { type SwitchingKey, square } from './keys.ts';
import type { Polynomial, Rns } from './rns.ts';

/*
 * Hybrid key switching (Han and Ki, CT-RSA 2020; Gentry, Halevi and Smart, CRYPTO 2012). For c under s′ at level l:
 *   1. decompose: digit d of c is c modulo its primes, nearest to zero, continued to all of q_0 … q_l and p (|digit| ≤ Q_d / 2);
 *   2. multiply: Σ_d digit_d · (b_d, a_d) modulo QP, which is P·c·s′ + Σ digit_d·e_d under s;
 *   3. divide by P, rounding.
 * Error: Σ_d digit_d·e_d / P, of variance ≤ n · digits · (Q_d² / 12) · σ² / P², and of the rounding (1 + ‖s‖²) / 12.
 */

/** A polynomial cut into digits, each continued to all primes, in values: made once for any number of automorphisms (hoisting). */
export interface Decomposition {
  readonly level: number;
  readonly digits: readonly Polynomial[];
}

export function decompose(rns: Rns, polynomial: Polynomial): Decomposition {
  const { level } = polynomial;
  const all = rns.indices(level, true);
  const digits = rns.parameters.digits
    .map((members) => members.filter((index) => index <= level))
    .filter((members) => members.length > 0)
    .map((members) => {
      const digit = rns.allocate(level, true);
      for (const index of members)
        rns.kernels.values(rns.limb(digit, index)).set(rns.kernels.values(rns.limb(polynomial, index)));
      const targets = all.filter((index) => !members.includes(index));
      rns.extend(
        members.map((index) => rns.limb(polynomial, index)),
        members,
        targets,
        targets.map((index) => rns.limb(digit, index)),
      );
      return digit;
    });
  return { level, digits };
}

export const freeDecomposition = (rns: Rns, { digits }: Decomposition): void => rns.free(...digits);

/** Σ_d digit_d · (b_d, a_d) modulo QP, with X → X^element on the digits first. */
export function multiplyKey(
  rns: Rns,
  { level, digits }: Decomposition,
  key: SwitchingKey,
  element = 1,
): [Polynomial, Polynomial] {
  const out0 = rns.allocate(level, true);
  const out1 = rns.allocate(level, true);
  rns.each(out0, (ring, limb, k) => {
    const index = rns.indexAt(out0, k);
    const terms = digits.map((digit, d) => ({
      a: rns.limb(digit, index),
      b: rns.limb(key.digits[d]!.b, index),
      c: rns.limb(key.digits[d]!.a, index),
    }));
    rns.kernels.innerProducts(ring, limb, rns.limb(out1, index), terms, element);
  });
  return [out0, out1];
}

/** The special primes' ring indices. */
const specialIndices = ({ parameters: { q, p } }: Rns): number[] => p.map((_, i) => q.length + i);

/** (c0 + …, …) = c0 and the switched c1, at the level of c0. */
function switched(rns: Rns, decomposition: Decomposition, key: SwitchingKey, element: number, c0: Polynomial): Ciphertext {
  const wide = multiplyKey(rns, decomposition, key, element);
  const out = divided(rns, wide, decomposition.level, specialIndices(rns));
  rns.add(out.c0, out.c0, c0);
  rns.free(...wide);
  return out;
}

/** X → X^element of what is encrypted. With a decomposition of c1 it is used and left; without, one is made. */
export function applyAutomorphism(
  rns: Rns,
  ciphertext: Ciphertext,
  key: SwitchingKey,
  element: number,
  hoisted?: Decomposition,
): Ciphertext {
  checkElement(key, element);
  const decomposition = hoisted ?? decompose(rns, ciphertext.c1);
  const moved = rns.allocate(ciphertext.c0.level);
  rns.automorphism(moved, ciphertext.c0, element);
  const out = switched(rns, decomposition, key, element, moved);
  rns.free(moved);
  if (hoisted === undefined) freeDecomposition(rns, decomposition);
  return out;
}

/**
 * d0 + d1·s + d2·s² as a ciphertext under s, divided by the last `drop` primes: P·(d0, d1) is added before the one division by P and those primes, which
 * takes fewer transforms than two divisions and rounds once.
 */
export function relinearise(
  rns: Rns,
  [d0, d1, d2]: readonly [Polynomial, Polynomial, Polynomial],
  key: SwitchingKey,
  drop = 0,
): Ciphertext {
  checkElement(key, square);
  const { level } = d0;
  const lower = droppedLevel(level, drop);
  const decomposition = decompose(rns, d2);
  const wide = multiplyKey(rns, decomposition, key);
  freeDecomposition(rns, decomposition);
  const special = rns.parameters.p.reduce((whole, prime) => whole * BigInt(prime), 1n);
  const scaled = rns.kernels.allocate(rns.parameters.n);
  const addScaled = (half: Polynomial, part: Polynomial): void => {
    for (let index = 0; index <= level; index++) {
      const ring = rns.rings[index]!;
      rns.kernels.multiplyScalar(ring, scaled, rns.limb(part, index), special % BigInt(ring.prime));
      rns.kernels.add(ring, rns.limb(half, index), rns.limb(half, index), scaled);
    }
  };
  addScaled(wide[0], d0);
  addScaled(wide[1], d1);
  rns.kernels.free(scaled);
  const out = divided(rns, wide, lower, [...lastIndices(level, drop), ...specialIndices(rns)]);
  rns.free(...wide);
  return out;
}

/** The level that is left; throws a `usage` error where there is none. */
function droppedLevel(level: number, drop: number): number {
  if (level - drop >= 0) return level - drop;
  throw new SottoError('usage', `a ciphertext of level ${level} has no ${drop} primes to drop`, {
    remedy: 'take parameters with more primes',
  });
}

const lastIndices = (level: number, drop: number): number[] => Array.from({ length: drop }, (_, i) => level - drop + 1 + i);

/** Both halves divided by the product of some primes, rounded. */
function divided(rns: Rns, [a0, a1]: readonly [Polynomial, Polynomial], level: number, by: readonly number[]): Ciphertext {
  const [c0, c1] = [rns.allocate(level), rns.allocate(level)];
  rns.divide(c0, a0, by);
  rns.divide(c1, a1, by);
  return { c0, c1 };
}

/** The three parts of a product of two ciphertexts at one level. */
export function tensor(rns: Rns, a: Ciphertext, b: Ciphertext): [Polynomial, Polynomial, Polynomial] {
  if (a.c0.level !== b.c0.level)
    throw new SottoError('usage', `ciphertexts of levels ${a.c0.level} and ${b.c0.level} are multiplied`, {
      remedy: 'bring both to the lower level',
    });
  const { level } = a.c0;
  const parts = [rns.allocate(level), rns.allocate(level), rns.allocate(level)] as const;
  for (let index = 0; index <= level; index++) {
    const at = (polynomial: Polynomial) => rns.limb(polynomial, index);
    rns.kernels.tensor(rns.rings[index]!, [at(parts[0]), at(parts[1]), at(parts[2])], [at(a.c0), at(a.c1)], [at(b.c0), at(b.c1)]);
  }
  return [...parts];
}

/** Both halves divided by the last `primes` primes, rounded: the message and its error shrink alike. */
export function switchModulus(rns: Rns, { c0, c1 }: Ciphertext, primes = 1): Ciphertext {
  const level = droppedLevel(c0.level, primes);
  return divided(rns, [c0, c1], level, lastIndices(c0.level, primes));
}

function checkElement(key: SwitchingKey, element: number): void {
  const name = (each: number): string => (each === square ? 'the square' : `the automorphism ${each}`);
  if (key.element !== element)
    throw new SottoError('usage', `a key for ${name(key.element)} is used for ${name(element)}`, {
      remedy: 'make or send the key of that name',
    });
}
