import { maskedError, type PublicKey, type SecretKey } from './keys.ts';
import type { Polynomial, Rns } from './rns.ts';
import { freshSeed, type LatticeRandomness, type SecretSampler, uniformFromSeed } from './sampling.ts';

/** (c0, c1), in values: c0 + c1·s is the message and an error. `seed` is there while c1 still is what it gives, and halves the wire. */
export interface Ciphertext {
  readonly c0: Polynomial;
  readonly c1: Polynomial;
  readonly seed?: Uint8Array;
}

export const ciphertextPurpose = 'ciphertext';

export const freeCiphertext = (rns: Rns, { c0, c1 }: Ciphertext): void => rns.free(c0, c1);

/** A fresh encryption under the secret key: (m − a·s + e, a). The message is in values, at the level of the result. */
export function encrypt(
  rns: Rns,
  randomness: LatticeRandomness,
  sampler: SecretSampler,
  secret: SecretKey,
  message: Polynomial,
): Ciphertext {
  const seed = freshSeed(randomness);
  const c1 = uniformFromSeed(rns, randomness, seed, ciphertextPurpose, { level: message.level, special: false });
  const c0 = maskedError(rns, sampler, secret, c1);
  rns.add(c0, c0, message);
  return { c0, c1, seed };
}

/** An encryption of zero under the public key: (b·u + e0, a·u + e1) with u ternary. Added to another ciphertext it makes that one fresh to look at. */
export function encryptZero(rns: Rns, sampler: SecretSampler, key: PublicKey, level: number): Ciphertext {
  const small = (coefficients: Float64Array) => {
    const polynomial = rns.fromSmall(coefficients, level);
    coefficients.fill(0);
    return polynomial;
  };
  const u = small(sampler.ternary());
  const [c0, c1] = [small(sampler.error()), small(sampler.error())];
  rns.multiplyAdd(c0, key.b, u);
  rns.multiplyAdd(c1, key.a, u);
  rns.free(u);
  return { c0, c1 };
}

/** c0 + c1·s, in values: the message with its error. */
export function decrypt(rns: Rns, secret: SecretKey, { c0, c1 }: Pick<Ciphertext, 'c0' | 'c1'>): Polynomial {
  const out = rns.copy(c0);
  rns.multiplyAdd(out, c1, secret.polynomial);
  return out;
}
