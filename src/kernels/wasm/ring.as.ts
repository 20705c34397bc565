// The module's entry: everything the TypeScript side calls.
export { add, addScalar, clear, copy, fill, multiply, multiplyAdd, multiplyScalar, negate, select, shift, subtract, xor } from './elementwise.as';
export { rotatedInner, strided, sum } from './layout.as';
export { product, productScratchBytes } from './product.as';
export { decode, encode, indexOfMaxAbs, pack, unpack } from './codec.as';
export {
  bothChildren, endTowards, neighbours, pointLeaves, pointLevel, roots, stepTowards, towards, tweaked, windowLeaves,
} from './trees.as';
