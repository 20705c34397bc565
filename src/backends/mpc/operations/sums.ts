import { type Block, constant, fresh } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import { type Held, type Machine, nothing } from '../protocol.ts';
import { alone } from './row.ts';

/**
 * Sharing is linear, so sums and public factors act on a share, a mask or an opening alike; what only one side adds (a public constant,
 * the server's plaintext) goes onto the server's share.
 */
const both = ({ kernels }: Machine, operation: 'add' | 'subtract', x: Held, y: Held): Held => {
  const [a, b] = [x.block, y.block];
  return a === undefined || b === undefined
    ? nothing
    : { block: fresh(kernels, a.length, (out) => kernels[operation](out, a, b)) };
};

export const add = alone<'add'>((machine, _, __, x, y) => both(machine, 'add', x!, y!));
export const subtract = alone<'subtract'>((machine, _, __, x, y) => both(machine, 'subtract', x!, y!));
export const addServer = alone<'addServer'>((machine, side, _, x, y) => (side === 'server' ? both(machine, 'add', x!, y!) : x!));
export const fromServer = alone<'fromServer'>(({ kernels }, side, node, x) =>
  side === 'server' ? x! : { block: fresh(kernels, size(node.shape), (out) => kernels.fill(out, 0n)) },
);

export const addConstant = alone<'addConstant'>(({ kernels }, side, node, x) => {
  if (side === 'client' || x!.block === undefined) return x!;
  const c = constant(kernels, node.parameters.values, node.parameters.constantShape, node.shape);
  kernels.add(c, c, x!.block);
  return { block: c };
});

export const multiplyConstant = alone<'multiplyConstant'>(({ kernels }, _, node, x) => {
  if (x!.block === undefined) return nothing;
  const c = constant(kernels, node.parameters.values, node.parameters.constantShape, node.shape);
  kernels.multiply(c, c, x!.block);
  return { block: c };
});

/** A block of `length` words made of the input's; nothing of nothing. */
const made = ({ kernels }: Machine, x: Held, length: number | undefined, write: (out: Block, a: Block) => void): Held => {
  const { block } = x;
  return block === undefined ? nothing : { block: fresh(kernels, length ?? block.length, (out) => write(out, block)) };
};

export const multiplyInteger = alone<'multiplyInteger'>((machine, _, { parameters }, x) =>
  made(machine, x!, undefined, (out, a) => machine.kernels.multiplyScalar(out, a, BigInt(parameters.by))),
);

export const sum = alone<'sum'>((machine, _, { parameters: { outer, axis, inner } }, x) =>
  made(machine, x!, outer * inner, (out, a) => machine.kernels.sum(out, a, outer, axis, inner)),
);
