// Vectors of residues modulo one prime, and moves between primes. `n` is a number of elements, a multiple of 16.

import { canonicalLanes, reduced, TILE_BYTES, times } from './arithmetic.as';

export function add(out: usize, a: usize, b: usize, n: usize, prime: f64, primeInverse: f64): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  const end = out + (n << 3);
  for (; out < end; out += 16, a += 16, b += 16)
    v128.store(out, reduced(f64x2.add(v128.load(a), v128.load(b)), p, inverse));
}

export function subtract(out: usize, a: usize, b: usize, n: usize, prime: f64, primeInverse: f64): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  const end = out + (n << 3);
  for (; out < end; out += 16, a += 16, b += 16)
    v128.store(out, reduced(f64x2.sub(v128.load(a), v128.load(b)), p, inverse));
}

export function multiply(out: usize, a: usize, b: usize, n: usize, prime: f64, primeInverse: f64): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  const end = out + (n << 3);
  for (; out < end; out += 16, a += 16, b += 16) v128.store(out, times(v128.load(a), v128.load(b), p, inverse));
}

/** out += a · b. */
export function multiplyAdd(out: usize, a: usize, b: usize, n: usize, prime: f64, primeInverse: f64): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  const end = out + (n << 3);
  for (; out < end; out += 16, a += 16, b += 16) {
    const product = times(v128.load(a), v128.load(b), p, inverse);
    v128.store(out, reduced(f64x2.add(v128.load(out), product), p, inverse));
  }
}

export function multiplyScalar(out: usize, a: usize, factor: f64, n: usize, prime: f64, primeInverse: f64): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  const w = f64x2.splat(factor);
  const end = out + (n << 3);
  for (; out < end; out += 16, a += 16) v128.store(out, times(v128.load(a), w, p, inverse));
}

export function addScalar(out: usize, a: usize, value: f64, n: usize, prime: f64, primeInverse: f64): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  const v = f64x2.splat(value);
  const end = out + (n << 3);
  for (; out < end; out += 16, a += 16) v128.store(out, reduced(f64x2.add(v128.load(a), v), p, inverse));
}

/** out = (a − b) · factor: the end of a division by a prime or by P. */
export function differenceTimes(out: usize, a: usize, b: usize, factor: f64, n: usize, prime: f64, primeInverse: f64): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  const w = f64x2.splat(factor);
  const end = out + (n << 3);
  for (; out < end; out += 16, a += 16, b += 16)
    v128.store(out, times(f64x2.sub(v128.load(a), v128.load(b)), w, p, inverse));
}

/** The representative nearest to zero of |x| ≤ 16p, whatever prime x was reduced by before. */
export function balance(out: usize, a: usize, n: usize, prime: f64, primeInverse: f64): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  const end = out + (n << 3);
  for (; out < end; out += 16, a += 16) v128.store(out, reduced(v128.load(a), p, inverse));
}

export function canonical(out: usize, a: usize, n: usize, prime: f64, primeInverse: f64): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  const end = out + (n << 3);
  for (; out < end; out += 16, a += 16) v128.store(out, canonicalLanes(v128.load(a), p, inverse));
}

/** out[i] = a[indices[i]]; indices are words of 32 bits, times 8. */
export function permute(out: usize, a: usize, indices: usize, n: usize): void {
  const end = out + (n << 3);
  for (; out < end; out += 16, indices += 8)
    v128.store(out, v128.load64_lane(a + <usize>load<u32>(indices, 4), v128.load64_zero(a + <usize>load<u32>(indices)), 1));
}

/** out[indices[i]] = signs[i] · a[i]: an automorphism on coefficients; signs are doubles of ±1. */
export function scatterSigned(out: usize, a: usize, indices: usize, signs: usize, n: usize): void {
  const end = a + (n << 3);
  for (; a < end; a += 8, indices += 4, signs += 8) store<f64>(out + <usize>load<u32>(indices), load<f64>(a) * load<f64>(signs));
}

/**
 * Two sums of `count` products with one left factor: (out0, out1) = Σ a_k · (b_k, c_k), `a` read through `indices` where that is not 0.
 * `streams` has three addresses of 32 bits for each k. One tile of every stream after the other; reduced at every eighth product.
 */
export function innerProducts(
  out0: usize,
  out1: usize,
  streams: usize,
  count: usize,
  indices: usize,
  n: usize,
  prime: f64,
  primeInverse: f64,
): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  const total = n << 3;
  for (let tile: usize = 0; tile < total; tile += TILE_BYTES) {
    const end = min(tile + TILE_BYTES, total);
    for (let k: usize = 0; k < count; k++) {
      const a = <usize>load<u32>(streams + 12 * k);
      const b = <usize>load<u32>(streams + 12 * k, 4);
      const c = <usize>load<u32>(streams + 12 * k, 8);
      const closing = (k & 7) == 7 || k + 1 == count;
      let at = indices + (tile >> 1);
      for (let j = tile; j < end; j += 16) {
        let x: v128;
        if (indices != 0) {
          x = v128.load64_lane(a + <usize>load<u32>(at, 4), v128.load64_zero(a + <usize>load<u32>(at)), 1);
          at += 8;
        } else x = v128.load(a + j);
        let y = times(x, v128.load(b + j), p, inverse);
        let z = times(x, v128.load(c + j), p, inverse);
        if (k > 0) {
          y = f64x2.add(y, v128.load(out0 + j));
          z = f64x2.add(z, v128.load(out1 + j));
        }
        if (closing) {
          y = reduced(y, p, inverse);
          z = reduced(z, p, inverse);
        }
        v128.store(out0 + j, y);
        v128.store(out1 + j, z);
      }
    }
  }
}

/** out = Σ a_k · b_k over `count` pairs; `streams` has two addresses of 32 bits for each. */
export function dot(out: usize, streams: usize, count: usize, n: usize, prime: f64, primeInverse: f64): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  const total = n << 3;
  for (let tile: usize = 0; tile < total; tile += TILE_BYTES) {
    const end = min(tile + TILE_BYTES, total);
    for (let k: usize = 0; k < count; k++) {
      const a = <usize>load<u32>(streams + 8 * k);
      const b = <usize>load<u32>(streams + 8 * k, 4);
      const closing = (k & 7) == 7 || k + 1 == count;
      for (let j = tile; j < end; j += 16) {
        let y = times(v128.load(a + j), v128.load(b + j), p, inverse);
        if (k > 0) y = f64x2.add(y, v128.load(out + j));
        if (closing) y = reduced(y, p, inverse);
        v128.store(out + j, y);
      }
    }
  }
}

/** (a0 + a1 s)(b0 + b1 s) = d0 + d1 s + d2 s². */
export function tensor(
  d0: usize,
  d1: usize,
  d2: usize,
  a0: usize,
  a1: usize,
  b0: usize,
  b1: usize,
  n: usize,
  prime: f64,
  primeInverse: f64,
): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  const total = n << 3;
  for (let j: usize = 0; j < total; j += 16) {
    const x0 = v128.load(a0 + j);
    const x1 = v128.load(a1 + j);
    const y0 = v128.load(b0 + j);
    const y1 = v128.load(b1 + j);
    const cross = f64x2.add(times(x0, y1, p, inverse), times(x1, y0, p, inverse));
    v128.store(d0 + j, times(x0, y0, p, inverse));
    v128.store(d1 + j, reduced(cross, p, inverse));
    v128.store(d2 + j, times(x1, y1, p, inverse));
  }
}

/**
 * −round(Σ x_i / q_i): how often Q must be added so that Σ x_i · Q/q_i is the representative nearest to zero. `sources` has 16 bytes for each i: an
 * address of 32 bits, 4 bytes unused, 1/q_i as a double.
 */
export function overflow(out: usize, sources: usize, count: usize, n: usize): void {
  const last = sources + (count << 4);
  const total = n << 3;
  for (let j: usize = 0; j < total; j += 16) {
    let sum = f64x2.splat(0);
    for (let s = sources; s < last; s += 16)
      sum = f64x2.add(sum, f64x2.mul(v128.load(<usize>load<u32>(s) + j), v128.load64_splat(s, 8)));
    v128.store(out + j, f64x2.neg(f64x2.nearest(sum)));
  }
}

/**
 * Σ x_i · c_i + v · Q modulo one more prime: a number known by its balanced residues x_i (each times (Q/q_i)^−1) is continued to it. `sources` as
 * above with c_i = Q/q_i mod p, balanced, in place of 1/q_i; `v` from `overflow` of at most 32 sources, `product` = Q mod p, balanced.
 */
export function extend(
  out: usize,
  sources: usize,
  count: usize,
  v: usize,
  product: f64,
  n: usize,
  prime: f64,
  primeInverse: f64,
): void {
  const p = f64x2.splat(prime);
  const inverse = f64x2.splat(primeInverse);
  const whole = f64x2.splat(product);
  const total = n << 3;
  for (let j: usize = 0; j < total; j += 32) {
    // |v| ≤ 16 and |product| ≤ p/2: with eight terms of at most p behind it the sum stays below 16p.
    let s0 = f64x2.mul(v128.load(v + j), whole);
    let s1 = f64x2.mul(v128.load(v + j, 16), whole);
    for (let k: usize = 0; k < count; k++) {
      const s = sources + (k << 4);
      const a = <usize>load<u32>(s) + j;
      const c = v128.load64_splat(s, 8);
      s0 = f64x2.add(s0, times(v128.load(a), c, p, inverse));
      s1 = f64x2.add(s1, times(v128.load(a, 16), c, p, inverse));
      if ((k & 7) == 7) {
        s0 = reduced(s0, p, inverse);
        s1 = reduced(s1, p, inverse);
      }
    }
    v128.store(out + j, reduced(s0, p, inverse));
    v128.store(out + j, reduced(s1, p, inverse), 16);
  }
}

/** Zeros over secrets. */
export function clear(start: usize, bytes: usize): void {
  memory.fill(start, 0, bytes);
}
