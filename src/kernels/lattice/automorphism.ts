import { bitReversed } from './primes.ts';

/**
 * What X → X^g does to values at ψ^(2·rev(i)+1), listed at i: the value of the result there is the value of a at ψ^(g·(2·rev(i)+1)). Gives the place of that
 * value in a.
 */
export function valuePlaces(n: number, element: number): Uint32Array<ArrayBuffer> {
  const bits = Math.log2(n);
  const places = new Uint32Array(n);
  for (let i = 0; i < n; i++) {
    const power = (element * (2 * bitReversed(i, bits) + 1)) % (2 * n);
    places[i] = bitReversed((power - 1) / 2, bits);
  }
  return places;
}

/** What it does to coefficients: that of X^i goes to X^(g·i mod 2n), and X^n = −1. Gives for each i the place and the sign. */
export function coefficientPlaces(
  n: number,
  element: number,
): { places: Uint32Array<ArrayBuffer>; signs: Float64Array<ArrayBuffer> } {
  const places = new Uint32Array(n);
  const signs = new Float64Array(n);
  for (let i = 0; i < n; i++) {
    const power = (element * i) % (2 * n);
    places[i] = power % n;
    signs[i] = power < n ? 1 : -1;
  }
  return { places, signs };
}
