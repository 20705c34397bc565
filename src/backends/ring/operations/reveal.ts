import { size } from '../../../program/index.ts';
import type { RingRow } from './row.ts';

/** To the client, with `fraction` bits. */
export const reveal: RingRow<'reveal', { readonly name: string; readonly fraction: number }> = {
  reveals: true,
  messages: ({ shape }, { ring }) => ({ serverToClient: [{ count: size(shape), width: ring.bits }] }),
  meaning: ({ kernels, program, output }, { shape, parameters }, x) => {
    output(parameters.name, { shape, values: kernels.decode(x!.block, parameters.fraction, program.ring.bits) });
    return x!;
  },
};
