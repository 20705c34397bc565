import { setFlagsFromString } from 'node:v8';
import { createLatticeKernels, hasFusedArithmetic, type LatticeKernels, type LatticeOptions } from '../kernels/lattice/index.ts';

/**
 * The lattice kernels with the fastest arithmetic that this Node has. Node 20 holds relaxed SIMD behind a flag, which may be set while it runs
 * and then holds for the whole process; newer ones have it.
 */
export function createNodeLatticeKernels(options: LatticeOptions = {}): LatticeKernels {
  const major = Number(process.versions.node.split('.')[0]);
  if (options.arithmetic !== 'split' && major < 22 && !hasFusedArithmetic())
    setFlagsFromString('--experimental-wasm-relaxed-simd');
  return createLatticeKernels(options);
}
