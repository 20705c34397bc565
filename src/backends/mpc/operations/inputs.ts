import type { Block, RingKernels } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import { encodeClientInput } from '../encode.ts';
import { nothing, receive, type Step, send } from '../protocol.ts';
import { byClient } from '../random.ts';
import type { SecureRow } from './row.ts';

const own = { share: byClient(0) };

export const clientInput: SecureRow<'clientInput'> = {
  pads: own,
  /** 1. x_c ← r. 2. Send x − r. */
  *client({ kernels, ring, correlations, input }, node) {
    const r = correlations.pads.words(node.index, own.share, size(node.shape));
    const x = encodeClientInput(kernels, ring, node, input(node.parameters.name));
    kernels.subtract(x, x, r);
    const message = kernels.pack(x, node.parameters.modulus ?? ring.bits);
    kernels.free(x);
    yield* send(message);
    return { block: r };
  },
  server: ({ kernels, ring }, node) => takeOver(kernels, size(node.shape), undefined, node.parameters.modulus ?? ring.bits),
  share: ({ pads }, node) => ({ block: pads.words(node.index, own.share, size(node.shape)) }),
};

/** A share that arrives as x − r, or moves from the client as x_c − y_c: added to what the server has. */
export function* takeOver(kernels: RingKernels, count: number, has: Block | undefined, width: number): Step {
  const message = yield* receive();
  const block = kernels.allocate(count);
  kernels.unpack(block, message, width);
  if (has !== undefined) kernels.add(block, block, has);
  return { block };
}

export const serverInput: SecureRow<'serverInput'> = {
  client: () => nothing,
  server: ({ weight }, node) => ({ block: weight(node.index) }),
};
