import { type Block, constant, fresh, type RingKernels } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import { type Held, nothing } from '../protocol.ts';
import { alone } from './row.ts';

/**
 * Sharing is linear, so sums and public factors act on a share, a mask or an opening alike; what only one side adds (a public constant,
 * the server's plaintext) goes onto the server's share.
 */
const both = (kernels: RingKernels, x: Held, y: Held, write: (out: Block, a: Block, b: Block) => void): Held => {
  const [a, b] = [x.block, y.block];
  return a === undefined || b === undefined ? nothing : { block: fresh(kernels, a.length, (out) => write(out, a, b)) };
};

export const add = alone<'add'>(
  ({ kernels }) =>
    (_, x, y) =>
      both(kernels, x!, y!, (out, a, b) => kernels.add(out, a, b)),
);

export const subtract = alone<'subtract'>(
  ({ kernels }) =>
    (_, x, y) =>
      both(kernels, x!, y!, (out, a, b) => kernels.subtract(out, a, b)),
);

export const addServer = alone<'addServer'>(
  ({ kernels }, side) =>
    (_, x, y) =>
      side === 'server' ? both(kernels, x!, y!, (out, a, b) => kernels.add(out, a, b)) : x!,
);

export const fromServer = alone<'fromServer'>(
  ({ kernels }, side) =>
    (node, x) =>
      side === 'server' ? x! : { block: fresh(kernels, size(node.shape), (out) => kernels.fill(out, 0n)) },
);

export const addConstant = alone<'addConstant'>(({ kernels }, side) => (node, x) => {
  if (side === 'client' || x!.block === undefined) return x!;
  const c = constant(kernels, node.parameters.values, node.parameters.constantShape, node.shape);
  kernels.add(c, c, x!.block);
  return { block: c };
});

export const multiplyConstant = alone<'multiplyConstant'>(({ kernels }) => (node, x) => {
  if (x!.block === undefined) return nothing;
  const c = constant(kernels, node.parameters.values, node.parameters.constantShape, node.shape);
  kernels.multiply(c, c, x!.block);
  return { block: c };
});

export const multiplyInteger = alone<'multiplyInteger'>(({ kernels }) => (node, x) => {
  const block = x!.block;
  if (block === undefined) return nothing;
  return { block: fresh(kernels, block.length, (out) => kernels.multiplyScalar(out, block, BigInt(node.parameters.by))) };
});

export const sum = alone<'sum'>(({ kernels }) => (node, x) => {
  const block = x!.block;
  const { outer, axis, inner } = node.parameters;
  if (block === undefined) return nothing;
  return { block: fresh(kernels, outer * inner, (out) => kernels.sum(out, block, outer, axis, inner)) };
});
