import type { Block } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import type { RingNodeOf } from '../../ring/index.ts';
import { type Held, type Numbered, Scratch } from '../protocol.ts';
import { byClient } from '../random.ts';
import { type Before, correct, type Preparing, type SecureRow } from './row.ts';

const own = {
  /** The share that the result is pinned to; the product was made offline. */
  share: byClient(0),
  /** k, which hides the dealer's and the client's halves from the server. */
  blind: byClient(1),
};
type Node = Numbered<RingNodeOf<'linear' | 'diagonal'>>;

/** z_c ← its pad. */
const share = ({ pads }: Pick<Before, 'pads'>, node: Node): Held => ({
  block: pads.words(node.index, own.share, size(node.shape)),
});

/** t = x_c A + k − z_c to the server, where the mask A of a weight stands for the weight. */
function half({ kernels, pads, outbox }: Preparing, node: Node, width: number, addProduct: (out: Block) => void): Held {
  const scratch = new Scratch(kernels);
  const count = size(node.shape);
  const z = pads.words(node.index, own.share, count);
  const t = scratch.own(pads.words(node.index, own.blind, count));
  kernels.subtract(t, t, z);
  addProduct(t);
  outbox.toServer = kernels.pack(t, width);
  return scratch.end(z);
}

export const linear: SecureRow<'linear'> = {
  pads: own,
  client: ({ correlations }, node) => share(correlations, node),
  /** z_s = x_s W + c_s. */
  server({ kernels, ring, correlations }, node, x, w) {
    const result = correlations.linear(node.index, size(node.shape), node.parameters.modulus ?? ring.bits);
    kernels.matmul(result, x!.block!, w!.block!, { batch: 1, ...node.parameters }, true);
    return { block: result };
  },
  share,
  /** u = x_c V − k. */
  dealer: (dealer, node, x, v) =>
    correct(dealer, node, own.blind, node.parameters.modulus ?? dealer.ring.bits, (out) =>
      dealer.kernels.matmul(out, x!.block!, v!.block!, { batch: 1, ...node.parameters }, true),
    ),
  half: (client, node, x, a) =>
    half(client, node, node.parameters.modulus ?? client.ring.bits, (out) =>
      client.kernels.matmul(out, x!.block!, a!.block!, { batch: 1, ...node.parameters }, true),
    ),
};

export const diagonal: SecureRow<'diagonal'> = {
  pads: own,
  client: ({ correlations }, node) => share(correlations, node),
  server({ kernels, ring, correlations }, node, x, w) {
    const result = correlations.linear(node.index, size(node.shape), ring.bits);
    kernels.multiplyAdd(result, x!.block!, w!.block!);
    return { block: result };
  },
  share,
  dealer: (dealer, node, x, v) =>
    correct(dealer, node, own.blind, dealer.ring.bits, (out) => dealer.kernels.multiplyAdd(out, x!.block!, v!.block!)),
  half: (client, node, x, a) =>
    half(client, node, client.ring.bits, (out) => client.kernels.multiplyAdd(out, x!.block!, a!.block!)),
};
