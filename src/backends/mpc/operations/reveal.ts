import { size } from '../../../program/index.ts';
import { nothing, receive, send } from '../protocol.ts';
import type { SecureRow } from './row.ts';

export const reveal: SecureRow<'reveal'> = {
  /** x = x_c + x_s, with x_s from the server. */
  *client({ kernels, ring, output }, node, x) {
    const message = yield* receive();
    const value = kernels.allocate(size(node.shape));
    kernels.unpack(value, message, ring.bits);
    kernels.add(value, value, x!.block!);
    const { name, fraction } = node.parameters;
    output(name, { shape: node.shape, values: kernels.decode(value, fraction, ring.bits) });
    return { block: value };
  },
  /** Send x_s. */
  *server({ kernels, ring }, _, x) {
    yield* send(kernels.pack(x!.block!, ring.bits));
    return nothing;
  },
};
