export type { InverseFactor, LatticeKernels, PrimeRing } from './contract.ts';
export { gaussianTable } from './gaussian.ts';
export { createExactLatticeKernels } from './js/kernels.ts';
export { balanced, inverseModulo, transformPrimes } from './primes.ts';
export { createLatticeKernels, type LatticeOptions } from './wasm/kernels.ts';
export { hasFusedArithmetic } from './wasm/module.ts';
