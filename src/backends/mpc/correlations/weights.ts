import type { Block, RingKernels } from '../../../kernels/index.ts';
import type { KeyDerivation, PrgFactory } from '../../../math/random.ts';
import { size } from '../../../program/index.ts';
import type { RingNodeOf } from '../../ring/index.ts';

/** How a weight is told apart from every other one of its model: tensor, fraction bits, folded factor. */
export const weightKey = (node: RingNodeOf<'serverInput'>): string =>
  `${node.parameters.name}|${node.parameters.fraction}|${node.parameters.factor}|${node.shape.join('x')}`;

/**
 * A, the mask of one weight: V = W − A goes to the dealer, the seed of A to the client. Never use one seed for two models, two
 * versions of a model or two holders: the difference of two V under one A is the difference of the weights.
 */
export function weightMask(
  kernels: RingKernels,
  node: RingNodeOf<'serverInput'>,
  seed: Uint8Array,
  random: { derive: KeyDerivation; prg: PrgFactory },
): Block {
  const own = random.derive(seed, 'sotto weight mask/v1', [new TextEncoder().encode(weightKey(node))]);
  const block = kernels.allocate(size(node.shape));
  const prg = random.prg(own);
  prg.fill(0, kernels.bytes(block));
  prg.close?.();
  own.fill(0);
  return block;
}
