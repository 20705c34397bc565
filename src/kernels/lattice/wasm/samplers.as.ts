// Samplers over pseudorandom bytes that lie in memory. Which words come out depends on the bytes alone; the ternary and the Gaussian take the same
// steps whatever the bytes are. The uniform one skips words, which tells how many were too large and nothing of those that it kept.

/**
 * Words below `prime` of the `available` 64-bit words at `from`, each cut to its low `bits`, in order, until `out` has n of them. Gives how many
 * `out` has.
 */
export function uniform(out: usize, from: usize, available: usize, n: usize, bits: u32, prime: f64): usize {
  const mask = (<u64>1 << bits) - 1;
  const bound = <u64>prime;
  let have: usize = 0;
  for (let k: usize = 0; k < available && have < n; k++) {
    const word = load<u64>(from + (k << 3)) & mask;
    store<f64>(out + (have << 3), <f64>(<i64>word));
    have += word < bound ? 1 : 0;
  }
  return have;
}

/** −1, 0 and 1, each of one third of the 2^64 words (one word more for −1). */
export function ternary(out: usize, from: usize, n: usize): void {
  const third: u64 = 6148914691236517205;
  for (let k: usize = 0; k < n; k++) {
    const word = load<u64>(from + (k << 3));
    const above = <i32>(word > third) + <i32>(word > third + third);
    store<f64>(out + (k << 3), <f64>(above - 1));
  }
}

/**
 * A discrete Gaussian by its cumulative table: the magnitude is how many of the `count` thresholds the upper 63 bits of a word reach, the sign its
 * lowest bit. Thresholds are 63-bit words at `table`; all are compared, for every sample.
 */
export function gaussian(out: usize, from: usize, table: usize, count: usize, n: usize): void {
  const last = table + (count << 3);
  const one = i64x2.splat(1);
  for (let k: usize = 0; k < n; k += 2) {
    const words = v128.load(from + (k << 3));
    const high = i64x2.shr_u(words, 1);
    let magnitude = i64x2.splat(0);
    // A comparison that holds is −1 in its lane; of signed words, since both have 63 bits.
    for (let t = table; t < last; t += 8) magnitude = i64x2.sub(magnitude, i64x2.ge_s(high, v128.load64_splat(t)));
    const negative = i64x2.neg(v128.and(words, one));
    const signed = i64x2.sub(v128.xor(magnitude, negative), negative);
    store<f64>(out + (k << 3), <f64>i64x2.extract_lane(signed, 0));
    store<f64>(out + (k << 3), <f64>i64x2.extract_lane(signed, 1), 8);
  }
}
