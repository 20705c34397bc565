export type { LatticeKernels, PrimeRing } from './contract.ts';
export { gaussianTable } from './gaussian.ts';
export { createExactLatticeKernels } from './js/kernels.ts';
export { transformPrimes } from './primes.ts';
export { createLatticeKernels, type LatticeOptions } from './wasm/kernels.ts';
export { hasFusedArithmetic } from './wasm/module.ts';
