import type { InverseFactor, PrimeRing } from './contract.ts';
import { balanced, inverseModulo, powerModulo } from './primes.ts';

/** n^−1 · factor, and that times the last twiddle of the inverse transform: ψ^−(bit reversal of 1) = ψ^−(n/2). */
export function inverseFactor(ring: PrimeRing, factor: bigint): InverseFactor {
  const p = BigInt(ring.prime);
  const whole = (inverseModulo(BigInt(ring.n), p) * (((factor % p) + p) % p)) % p;
  const last = inverseModulo(powerModulo(ring.root, BigInt(ring.n / 2), p), p);
  return { ring, factor: balanced(whole, p), factorTimesLast: balanced(whole * last, p) };
}
