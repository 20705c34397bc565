// Residues modulo a prime p < 2^49 on f64 lanes. A residue is any integer x ≡ value (mod p) with |x| ≤ 2p, its lazy form; every kernel
// takes lazy residues and leaves lazy residues. `Fused` is u64 where the machine's relaxed multiply-add is one rounding, u32 where it is not:
// the build compiles these sources once for each. Both give the same residues, though not always the same representatives.

/** Splits a double into two halves of 26 bits (Dekker 1971). */
const SPLITTER: f64 = 134217729.0;

/** 1.5 · 2^52: added and taken off again it rounds |x| ≤ 2^51 to the nearest integer. */
const ROUNDER: f64 = 6755399441055744.0;

/** The integer nearest to h / p, or its neighbour where h / p is near a half. */
// @ts-ignore: decorator
@inline
function quotient(h: v128, inverse: v128): v128 {
  const rounder = f64x2.splat(ROUNDER);
  if (sizeof<Fused>() == 8) return f64x2.sub(f64x2.relaxed_madd(h, inverse, rounder), rounder);
  return f64x2.nearest(f64x2.mul(h, inverse));
}

/** x · w − h, exactly, where h = round(x · w). Negated, since the fused form has it so. */
// @ts-ignore: decorator
@inline
function negatedLow(x: v128, w: v128, h: v128): v128 {
  if (sizeof<Fused>() == 8) return f64x2.relaxed_nmadd(x, w, h);
  const c = f64x2.splat(SPLITTER);
  const xc = f64x2.mul(x, c);
  const wc = f64x2.mul(w, c);
  const xh = f64x2.sub(xc, f64x2.sub(xc, x));
  const wh = f64x2.sub(wc, f64x2.sub(wc, w));
  const xl = f64x2.sub(x, xh);
  const wl = f64x2.sub(w, wh);
  const first = f64x2.sub(h, f64x2.mul(xh, wh));
  const second = f64x2.sub(first, f64x2.mul(xh, wl));
  return f64x2.sub(f64x2.sub(second, f64x2.mul(xl, wh)), f64x2.mul(xl, wl));
}

/** h − q · p, exactly; |h − q · p| < 2^53. */
// @ts-ignore: decorator
@inline
function exactRest(h: v128, q: v128, p: v128): v128 {
  if (sizeof<Fused>() == 8) return f64x2.relaxed_nmadd(q, p, h);
  const g = f64x2.mul(q, p);
  return f64x2.add(f64x2.sub(h, g), negatedLow(q, p, g));
}

/**
 * x · w mod p for |x · w| ≤ 2^51 · p, which two lazy residues keep: 4p² < 2^51 · p. With h = round(x · w), l = x · w − h and q = nearest(h / p)
 * the quotient is off by at most ½ + 3 · 2^−53 · |x · w| / p ≤ ½ + ¾ (three roundings), so that |result| ≤ 1.25p; h − q · p and the result are
 * integers below 2^53 and exact.
 */
// @ts-ignore: decorator
@inline
export function times(x: v128, w: v128, p: v128, inverse: v128): v128 {
  const h = f64x2.mul(x, w);
  const negated = negatedLow(x, w, h);
  const q = quotient(h, inverse);
  return f64x2.sub(exactRest(h, q, p), negated);
}

/** x mod p for |x| ≤ 16p; |result| ≤ p/2 + 8. */
// @ts-ignore: decorator
@inline
export function reduced(x: v128, p: v128, inverse: v128): v128 {
  const q = quotient(x, inverse);
  if (sizeof<Fused>() == 8) return f64x2.relaxed_nmadd(q, p, x);
  // |q| ≤ 16, so that q · p < 2^53 is exact.
  return f64x2.sub(x, f64x2.mul(q, p));
}

/** The representative in [0, p) of |x| ≤ 16p, without a branch. */
// @ts-ignore: decorator
@inline
export function canonicalLanes(x: v128, p: v128, inverse: v128): v128 {
  const r = reduced(x, p, inverse);
  const raised = f64x2.add(r, v128.and(p, f64x2.lt(r, f64x2.splat(0))));
  return f64x2.sub(raised, v128.and(p, f64x2.ge(raised, p)));
}

/** The most bytes of one stream that are worked on before the next stream comes: what is added to stays in the first cache. */
export const TILE_BYTES: usize = 4096;
