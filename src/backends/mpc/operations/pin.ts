import { size } from '../../../program/index.ts';
import { modulusOf } from '../../ring/index.ts';
import { Scratch, send } from '../protocol.ts';
import { byClient } from '../random.ts';
import { takeOver } from './inputs.ts';
import type { SecureRow } from './row.ts';

const own = { share: byClient(0) };

export const pin: SecureRow<'pin'> = {
  pads: own,
  /** 1. y_c ← pad. 2. Send x_c − y_c. */
  *client({ kernels, program, correlations }, node, x) {
    const y = correlations.pads.words(node.index, own.share, size(node.shape));
    const scratch = new Scratch(kernels);
    const difference = scratch.new(y.length);
    kernels.subtract(difference, x!.block!, y);
    yield* send(kernels.pack(difference, node.parameters.width ?? modulusOf(node, program)));
    return scratch.end(y);
  },
  server: ({ kernels, program }, node, x) =>
    takeOver(kernels, size(node.shape), x!.block, node.parameters.width ?? modulusOf(node, program)),
  share: ({ pads }, node) => ({ block: pads.words(node.index, own.share, size(node.shape)) }),
};
