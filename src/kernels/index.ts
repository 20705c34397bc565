export type { Block, RingKernels, WordBits } from './contract.ts';
export { createReferenceKernels } from './js/kernels.ts';
export { BlockCounts, concat, constant, fresh, move, oneHot, packRows, pad, unpackRows } from './tensors.ts';
export { createWasmKernels, type WasmOptions } from './wasm/kernels.ts';
