import { size } from '../../../program/index.ts';
import { projected } from '../../ring/index.ts';
import { nothing, receive, type Step, send } from '../protocol.ts';
import { alone, type SecureRow } from './row.ts';

/** Signs are public, so each party sums up its shares. */
export const project = alone<'project'>(({ kernels }, _, node, x) =>
  x!.block === undefined ? nothing : { block: projected(kernels, x!.block, node.parameters) },
);

/**
 * The lowest bit of x = x_c + x_s, which is all that x has. Adversary: a semi-honest client. It sees the lowest bit of x_s, which is that of x
 * and of its own share.
 */
export const flag: SecureRow<'flag'> = {
  *client({ kernels, output }, node, x): Step {
    const message = yield* receive();
    const value = kernels.allocate(size(node.shape));
    kernels.unpack(value, message, 1);
    kernels.add(value, value, x!.block!);
    kernels.mask(value, value, 1);
    output(node.parameters.name, { shape: node.shape, values: kernels.decode(value, 0, kernels.wordBits) });
    return { block: value };
  },
  /** Send the lowest bit of x_s. */
  *server({ kernels }, node, x): Step {
    const low = kernels.allocate(size(node.shape));
    kernels.mask(low, x!.block!, 1);
    yield* send(kernels.pack(low, 1));
    kernels.free(low);
    return nothing;
  },
};
