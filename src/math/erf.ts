import { exponential } from './elementary.ts';

/**
 * The error function, to within a few units of the last place. Below 3 by its series of positive terms,
 * erf x = 2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (2n+1)!! (Abramowitz and Stegun 7.1.6); above by the continued fraction of erfc (7.1.14),
 * whose own error vanishes beside 1.
 */
export function erf(x: number): number {
  if (x < 0) return -erf(-x);
  if (!(x < 6)) return Number.isNaN(x) ? x : 1;
  const bell = exponential(-x * x) / Math.sqrt(Math.PI);
  if (x < 3) {
    let term = x;
    let total = x;
    for (let n = 1; term > total * 1e-17; n++) total += term *= (2 * x * x) / (2 * n + 1);
    return 2 * bell * total;
  }
  let tail = x;
  for (let n = 40; n >= 1; n--) tail = x + n / 2 / tail;
  return 1 - bell / tail;
}
