import type { Block } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import type { RingNodeOf } from '../../ring/index.ts';
import { type Held, type Machine, type Numbered, Scratch } from '../protocol.ts';
import type { Pads } from '../random.ts';
import { purpose } from './contract.ts';
import { pinnedShares } from './pinned.ts';
import { walk } from './walk.ts';

export interface PrepareOptions extends Machine {
  readonly pads: Pads;
  /** A of a weight. */
  readonly mask: (node: RingNodeOf<'serverInput'>) => Promise<Block>;
  /** The client's offline stream to the server. */
  readonly toServer: (bytes: Uint8Array) => Promise<void>;
}

/**
 * The client's half of the linear correlations, before the run: t = x_c A + k − z_c to the server. The only place where a client
 * meets the weights' size, and it meets a mask, not a weight.
 */
export async function prepare(options: PrepareOptions): Promise<void> {
  const { kernels, pads, ring } = options;
  let message: Uint8Array | undefined;
  const half = (node: Numbered<RingNodeOf<'linear' | 'diagonal'>>, width: number, addProduct: (out: Block) => void): Held => {
    const scratch = new Scratch(kernels);
    const count = size(node.shape);
    const z = pads.words(node.index, purpose.share, count);
    const t = scratch.own(pads.words(node.index, purpose.blind, count));
    kernels.subtract(t, t, z);
    addProduct(t);
    message = kernels.pack(t, width);
    return scratch.end(z);
  };
  const table = {
    ...pinnedShares(options, pads),
    linear: (node: Numbered<RingNodeOf<'linear'>>, x?: Held, a?: Held) =>
      half(node, node.parameters.modulus ?? ring.bits, (out) =>
        kernels.matmul(out, x!.block!, a!.block!, { batch: 1, ...node.parameters }, true),
      ),
    diagonal: (node: Numbered<RingNodeOf<'diagonal'>>, x?: Held, a?: Held) =>
      half(node, ring.bits, (out) => kernels.multiplyAdd(out, x!.block!, a!.block!)),
  };
  await walk(options, table, {
    weight: async (node) => ({ block: await options.mask(node) }),
    emitted: async () => {
      if (message === undefined) return;
      const bytes = message;
      message = undefined;
      await options.toServer(bytes);
    },
  });
}
