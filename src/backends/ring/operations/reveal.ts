import { size } from '../../../program/index.ts';
import { modulusOf } from '../node.ts';
import type { RingRow } from './row.ts';

/** To the client, with `fraction` bits. */
export const reveal: RingRow<'reveal', { readonly name: string; readonly fraction: number }> = {
  reveals: true,
  messages: (node, program) => ({ serverToClient: [{ count: size(node.shape), width: modulusOf(node, program) }] }),
  meaning: ({ kernels, guard, program, output }, node, x) => {
    const modulus = modulusOf(node, program);
    // A slice keeps the bound of the whole that it was cut from.
    if (modulus < program.ring.bits && guard.measured(x!.block).most >= 2 ** (modulus - 1))
      guard.fail(node, x!.most, 'an output of');
    const { name, fraction } = node.parameters;
    output(name, { shape: node.shape, values: kernels.decode(x!.block, fraction, program.ring.bits) });
    return x!;
  },
};
