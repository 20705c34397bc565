// The negacyclic number-theoretic transform: evaluation at the odd powers of ψ, a primitive 2n-th root of unity modulo p, in bit-reversed
// order (Longa and Naehrig 2016). Two levels of butterflies are one pass; passes go over the whole vector while it is larger than the first
// cache and then block by block. `tw[i]` = ψ^(bit reversal of i), balanced: |tw[i]| ≤ p/2, so that |x| ≤ 8p is within the bound of `times`.

import { reduced, times } from './arithmetic.as';

/** Elements of a block that is finished before the next one: 16 KiB. */
const BLOCK: usize = 2048;

/**
 * Two levels on `groups` runs of 4 · quarter elements. Bounds, in units of p: outputs ≤ |x| + (½ + 3|x|/32) + (½ + 3(|x| + …)/32), so that ≤ 1 becomes ≤ 2.3
 * and that ≤ 3.8; with `reduce` the untouched half is reduced first, and ≤ 3.8 becomes ≤ 2. Every second pass reduces.
 */
function forwardPass(a: usize, groups: usize, quarter: usize, twOne: usize, twTwo: usize, p: v128, inverse: v128, reduce: bool): void {
  const step = quarter << 3;
  for (let g: usize = 0; g < groups; g++) {
    const w1 = v128.load64_splat(twOne);
    const w2 = v128.load64_splat(twTwo);
    const w3 = v128.load64_splat(twTwo, 8);
    twOne += 8;
    twTwo += 16;
    const end = a + step;
    let p0 = a;
    let p1 = end;
    let p2 = end + step;
    let p3 = end + 2 * step;
    if (reduce) {
      for (; p0 < end; p0 += 16, p1 += 16, p2 += 16, p3 += 16) {
        const x0 = reduced(v128.load(p0), p, inverse);
        const x1 = reduced(v128.load(p1), p, inverse);
        const t2 = times(v128.load(p2), w1, p, inverse);
        const t3 = times(v128.load(p3), w1, p, inverse);
        const y0 = f64x2.add(x0, t2);
        const y2 = f64x2.sub(x0, t2);
        const t1 = times(f64x2.add(x1, t3), w2, p, inverse);
        const s3 = times(f64x2.sub(x1, t3), w3, p, inverse);
        v128.store(p0, f64x2.add(y0, t1));
        v128.store(p1, f64x2.sub(y0, t1));
        v128.store(p2, f64x2.add(y2, s3));
        v128.store(p3, f64x2.sub(y2, s3));
      }
    } else {
      for (; p0 < end; p0 += 16, p1 += 16, p2 += 16, p3 += 16) {
        const x0 = v128.load(p0);
        const x1 = v128.load(p1);
        const t2 = times(v128.load(p2), w1, p, inverse);
        const t3 = times(v128.load(p3), w1, p, inverse);
        const y0 = f64x2.add(x0, t2);
        const y2 = f64x2.sub(x0, t2);
        const t1 = times(f64x2.add(x1, t3), w2, p, inverse);
        const s3 = times(f64x2.sub(x1, t3), w3, p, inverse);
        v128.store(p0, f64x2.add(y0, t1));
        v128.store(p1, f64x2.sub(y0, t1));
        v128.store(p2, f64x2.add(y2, s3));
        v128.store(p3, f64x2.sub(y2, s3));
      }
    }
    a += 4 * step;
  }
}

/** The last two levels: groups of four neighbours. Outputs ≤ 2p for inputs ≤ 4p. */
function forwardLast(a: usize, groups: usize, twOne: usize, twTwo: usize, p: v128, inverse: v128): void {
  const end = a + (groups << 5);
  for (; a < end; a += 32, twOne += 8, twTwo += 16) {
    const w1 = v128.load64_splat(twOne);
    const w23 = v128.load(twTwo);
    const x01 = reduced(v128.load(a), p, inverse);
    const t = times(v128.load(a, 16), w1, p, inverse);
    const y01 = f64x2.add(x01, t);
    const y23 = f64x2.sub(x01, t);
    const even = v128.shuffle<u64>(y01, y23, 0, 2);
    const odd = times(v128.shuffle<u64>(y01, y23, 1, 3), w23, p, inverse);
    const plus = f64x2.add(even, odd);
    const minus = f64x2.sub(even, odd);
    v128.store(a, v128.shuffle<u64>(plus, minus, 0, 2));
    v128.store(a, v128.shuffle<u64>(plus, minus, 1, 3), 16);
  }
}

/** One level, the first of an odd number of them. Outputs ≤ |x| + ½ + 3|x|/32. */
function forwardSingle(a: usize, half: usize, w: v128, p: v128, inverse: v128): void {
  const step = half << 3;
  const end = a + step;
  for (let low = a, high = end; low < end; low += 16, high += 16) {
    const x = v128.load(low);
    const t = times(v128.load(high), w, p, inverse);
    v128.store(low, f64x2.add(x, t));
    v128.store(high, f64x2.sub(x, t));
  }
}

/** Passes over one block of `length` elements, the `place`-th of `m` groups at this level; `unreduced` levels lie behind the last reduction. */
function forwardBlock(base: usize, length: usize, m: usize, place: usize, unreduced: i32, tw: usize, p: v128, inverse: v128): void {
  let groups: usize = 1;
  let first = m + place;
  while (length > 4) {
    const reduce = unreduced >= 4;
    if (reduce) unreduced = 0;
    forwardPass(base, groups, length >> 2, tw + (first << 3), tw + (first << 4), p, inverse, reduce);
    groups <<= 2;
    length >>= 2;
    first <<= 2;
    unreduced += 2;
  }
  forwardLast(base, groups, tw + (first << 3), tw + (first << 4), p, inverse);
}

/** In place: n coefficients in natural order, |x| ≤ 2p, to n values in bit-reversed order. n = 2^4 … 2^17. */
export function forward(a: usize, n: usize, tw: usize, prime: f64, primeInverse: f64): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  let m: usize = 1;
  let length = n;
  // Inputs may be as large as after one pass.
  let unreduced: i32 = 2;
  if ((ctz(n) & 1) != 0) {
    forwardSingle(a, n >> 1, v128.load64_splat(tw, 8), p, inverse);
    m = 2;
    length = n >> 1;
    // ≤ 2.7p becomes ≤ 4.3p, and that ≤ 2.1p behind a reduction; with one pass in all the last levels would leave 2.03p.
    if (n == 32) unreduced = 4;
  }
  while (length > BLOCK) {
    const reduce = unreduced >= 4;
    if (reduce) unreduced = 0;
    forwardPass(a, m, length >> 2, tw + (m << 3), tw + (m << 4), p, inverse, reduce);
    m <<= 2;
    length >>= 2;
    unreduced += 2;
  }
  for (let block: usize = 0; block < m; block++)
    forwardBlock(a + ((block * length) << 3), length, m, block, unreduced, tw, p, inverse);
}

/**
 * The same for a polynomial of which only the first `length` coefficients, a power of 4 from 4 to n, are not zero: the levels above only copy.
 */
export function forwardShort(a: usize, n: usize, length: usize, tw: usize, prime: f64, primeInverse: f64): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  const m = n / length;
  for (let block: usize = 1; block < m; block++) memory.copy(a + ((block * length) << 3), a, length << 3);
  for (let block: usize = 0; block < m; block++) forwardBlock(a + ((block * length) << 3), length, m, block, 2, tw, p, inverse);
}

/** The first two levels of the inverse. Outputs ≤ 2p for inputs ≤ 16p. */
function inverseFirst(a: usize, groups: usize, twOne: usize, twTwo: usize, p: v128, inverse: v128): void {
  const end = a + (groups << 5);
  for (; a < end; a += 32, twOne += 8, twTwo += 16) {
    const w1 = v128.load64_splat(twOne);
    const w23 = v128.load(twTwo);
    const x = reduced(v128.load(a), p, inverse);
    const y = reduced(v128.load(a, 16), p, inverse);
    const even = v128.shuffle<u64>(x, y, 0, 2);
    const odd = v128.shuffle<u64>(x, y, 1, 3);
    const sums = f64x2.add(even, odd);
    const differences = times(f64x2.sub(even, odd), w23, p, inverse);
    const low = v128.shuffle<u64>(sums, differences, 0, 2);
    const high = v128.shuffle<u64>(sums, differences, 1, 3);
    v128.store(a, f64x2.add(low, high));
    v128.store(a, times(f64x2.sub(low, high), w1, p, inverse), 16);
  }
}

/** Two levels of the inverse: inputs ≤ 2p, sums ≤ 8p, outputs ≤ 2(½ + 3 · 4/32)p < 2p. */
function inversePass(a: usize, groups: usize, quarter: usize, twOne: usize, twTwo: usize, p: v128, inverse: v128): void {
  const step = quarter << 3;
  for (let g: usize = 0; g < groups; g++) {
    const w1 = v128.load64_splat(twOne);
    const w2 = v128.load64_splat(twTwo);
    const w3 = v128.load64_splat(twTwo, 8);
    twOne += 8;
    twTwo += 16;
    const end = a + step;
    let p0 = a;
    let p1 = end;
    let p2 = end + step;
    let p3 = end + 2 * step;
    for (; p0 < end; p0 += 16, p1 += 16, p2 += 16, p3 += 16) {
      const x0 = v128.load(p0);
      const x1 = v128.load(p1);
      const x2 = v128.load(p2);
      const x3 = v128.load(p3);
      const s0 = f64x2.add(x0, x1);
      const s1 = f64x2.add(x2, x3);
      const d0 = times(f64x2.sub(x0, x1), w2, p, inverse);
      const d1 = times(f64x2.sub(x2, x3), w3, p, inverse);
      v128.store(p0, reduced(f64x2.add(s0, s1), p, inverse));
      v128.store(p1, f64x2.add(d0, d1));
      v128.store(p2, times(f64x2.sub(s0, s1), w1, p, inverse));
      v128.store(p3, times(f64x2.sub(d0, d1), w1, p, inverse));
    }
    a += 4 * step;
  }
}

/** The last two levels of the inverse with a factor taken in: `w1` is the twiddle times the factor. Outputs ≤ 1.25p. */
function inverseLast(a: usize, quarter: usize, tw: usize, w1: v128, factor: v128, p: v128, inverse: v128): void {
  const step = quarter << 3;
  const end = a + step;
  const w2 = v128.load64_splat(tw, 16);
  const w3 = v128.load64_splat(tw, 24);
  for (let p0 = a, p1 = end, p2 = end + step, p3 = end + 2 * step; p0 < end; p0 += 16, p1 += 16, p2 += 16, p3 += 16) {
    const x0 = v128.load(p0);
    const x1 = v128.load(p1);
    const x2 = v128.load(p2);
    const x3 = v128.load(p3);
    const s0 = f64x2.add(x0, x1);
    const s1 = f64x2.add(x2, x3);
    const d0 = times(f64x2.sub(x0, x1), w2, p, inverse);
    const d1 = times(f64x2.sub(x2, x3), w3, p, inverse);
    v128.store(p0, times(f64x2.add(s0, s1), factor, p, inverse));
    v128.store(p1, times(f64x2.add(d0, d1), factor, p, inverse));
    v128.store(p2, times(f64x2.sub(s0, s1), w1, p, inverse));
    v128.store(p3, times(f64x2.sub(d0, d1), w1, p, inverse));
  }
}

/** The last level where their number is odd, with the factor. */
function inverseSingle(a: usize, half: usize, w: v128, factor: v128, p: v128, inverse: v128): void {
  const step = half << 3;
  const end = a + step;
  for (let low = a, high = end; low < end; low += 16, high += 16) {
    const x = v128.load(low);
    const y = v128.load(high);
    v128.store(low, times(f64x2.add(x, y), factor, p, inverse));
    v128.store(high, times(f64x2.sub(x, y), w, p, inverse));
  }
}

/**
 * In place: n values in bit-reversed order, |x| ≤ 2p, to n coefficients in natural order times a factor; |result| ≤ 1.25p. `tw[i]` =
 * ψ^−(bit reversal of i); `factor` is n^−1 times whatever else is wanted, `factorTimesLast` that times tw[1]; both balanced.
 */
export function inverse(a: usize, n: usize, tw: usize, prime: f64, primeInverse: f64, factor: f64, factorTimesLast: f64): void {
  const p = f64x2.splat(prime);
  const pi = f64x2.splat(primeInverse);
  const odd = (ctz(n) & 1) != 0;
  // Levels that the last pass leaves to the others: all but one where their number is odd, all but two where it is even.
  const whole = odd ? n >> 1 : n >> 2;
  let length = n;
  let m: usize = 1;
  while (length > BLOCK) {
    const down: i32 = m == 1 && odd ? 1 : 2;
    m <<= down;
    length >>= down;
  }
  if (m == 1) {
    // One block: its last pass is the one with the factor.
    m = odd ? 2 : 4;
    length = whole;
  }
  for (let block: usize = 0; block < m; block++) {
    const base = a + ((block * length) << 3);
    let groups = length >> 2;
    let first = m * groups + block * groups;
    inverseFirst(base, groups, tw + (first << 3), tw + (first << 4), p, pi);
    for (let run: usize = 16; run <= length; run <<= 2) {
      groups >>= 2;
      first = m * groups + block * groups;
      inversePass(base, groups, run >> 2, tw + (first << 3), tw + (first << 4), p, pi);
    }
  }
  for (let run = length << 2; run <= whole; run <<= 2) {
    m >>= 2;
    inversePass(a, m, run >> 2, tw + (m << 3), tw + (m << 4), p, pi);
  }
  if (odd) inverseSingle(a, n >> 1, f64x2.splat(factorTimesLast), f64x2.splat(factor), p, pi);
  else inverseLast(a, n >> 2, tw, f64x2.splat(factorTimesLast), f64x2.splat(factor), p, pi);
}
