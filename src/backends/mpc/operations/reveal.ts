import { size } from '../../../program/index.ts';
import { modulusOf } from '../../ring/index.ts';
import { nothing, receive, send } from '../protocol.ts';
import type { SecureRow } from './row.ts';

export const reveal: SecureRow<'reveal'> = {
  /** x = x_c + x_s, with x_s from the server. */
  *client({ kernels, program, output }, node, x) {
    const modulus = modulusOf(node, program);
    const message = yield* receive();
    const value = kernels.allocate(size(node.shape));
    kernels.unpack(value, message, modulus);
    kernels.add(value, value, x!.block!);
    const { name, fraction } = node.parameters;
    output(name, { shape: node.shape, values: kernels.decode(value, fraction, modulus) });
    return { block: value };
  },
  /** Send x_s. */
  *server({ kernels, program }, node, x) {
    yield* send(kernels.pack(x!.block!, modulusOf(node, program)));
    return nothing;
  },
};
