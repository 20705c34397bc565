import { SottoError } from '../../errors/index.ts';
import { type Block, oneHot, type RingKernels } from '../../kernels/index.ts';
import { size, type Tensor } from '../../program/index.ts';
import type { RingNodeOf, RingParameters } from '../ring/index.ts';

/** A client's tensor as ring words: fixed point, or one-hot rows. Throws `input` and `range` errors that name the input. */
export function encodeClientInput(
  kernels: RingKernels,
  ring: RingParameters,
  node: RingNodeOf<'clientInput'>,
  tensor: Tensor,
): Block {
  const { name, encoding, fraction } = node.parameters;
  const expected = encoding === 'oneHot' ? node.shape[0]! : size(node.shape);
  if (tensor.values.length !== expected)
    throw new SottoError('input', `${tensor.values.length} values where ${expected} are needed`, {
      place: { field: name },
      remedy: 'give a value of the shape that the session was opened for',
    });
  if (encoding === 'oneHot') return oneHot(kernels, tensor.values, node.shape[1]!, name);
  const block = kernels.allocate(tensor.values.length);
  kernels.encode(block, Float64Array.from(tensor.values), fraction, ring.bits);
  return block;
}
