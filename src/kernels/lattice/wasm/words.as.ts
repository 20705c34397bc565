// Residues as integers of a fixed number of bits, little endian and without gaps: what goes over a wire.

import { canonicalLanes } from './arithmetic.as';

/** Packs n residues at `bits` each; the last word is filled up with zeros. */
export function pack(to: usize, from: usize, n: usize, bits: u32, prime: f64, primeInverse: f64): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  let held: u64 = 0;
  let have: u32 = 0;
  for (let k: usize = 0; k < n; k++) {
    const residue = canonicalLanes(v128.load64_zero(from + (k << 3)), p, inverse);
    const word = <u64>(<i64>f64x2.extract_lane(residue, 0));
    held |= word << have;
    have += bits;
    if (have >= 64) {
      store<u64>(to, held);
      to += 8;
      have -= 64;
      held = have == 0 ? 0 : word >> (bits - have);
    }
  }
  if (have > 0) store<u64>(to, held);
}

/** The converse. Gives the index of the first integer that is not below the prime, or −1. */
export function unpack(to: usize, from: usize, n: usize, bits: u32, prime: f64): i32 {
  const mask = (<u64>1 << bits) - 1;
  const bound = <u64>prime;
  let held: u64 = 0;
  let have: u32 = 0;
  let wrong: i32 = -1;
  for (let k: usize = 0; k < n; k++) {
    let word = held;
    if (have < bits) {
      const next = load<u64>(from);
      from += 8;
      word |= next << have;
      const taken = bits - have;
      held = next >> taken;
      have = 64 - taken;
    } else {
      held >>= bits;
      have -= bits;
    }
    word &= mask;
    if (word >= bound && wrong < 0) wrong = <i32>k;
    store<f64>(to + (k << 3), <f64>(<i64>word));
  }
  return wrong;
}
