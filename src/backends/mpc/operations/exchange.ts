import type { Block } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import { inputModulus, modulusOf, type RingNodeOf } from '../../ring/index.ts';
import { type Held, type Machine, nothing, receive, send } from '../protocol.ts';
import { byServer } from '../random.ts';
import { centred } from './narrow-products.ts';
import type { SecureRow } from './row.ts';

/**
 * The opening of a floating value x, whose two halves cross. y is what x is pinned to (pin.ts, narrow.ts with f dropped bits):
 * the client sends d = (x_c ≫ f) − y_c for it. 1. The server sends h = (x_s + 2^f − 1 ≫ f) − b mod 2^m, before it has d; b is its pad.
 * 2. Both set e = h + d mod 2^m, which is y_s − b: what an
 * opening of y would send afterwards.
 *
 * Adversary: as in party.ts. The client sees h, masked by b; the server sees d, masked by y_c. Hops: none beside those of the pin.
 */
const own = {
  /** b, which whatever reads the opening draws again. */
  mask: byServer(0),
};

/** The server's half of what is pinned: (x_s + 2^f − 1) ≫ f. */
function shifted({ kernels }: Machine, bits: number, x: Block, modulus: number): Block {
  const out = kernels.allocate(x.length);
  kernels.addScalar(out, x, (1n << BigInt(bits)) - 1n);
  kernels.shiftRight(out, out, bits, modulus);
  return out;
}

export const exchange: SecureRow<'exchange'> = {
  pads: own,
  /** h. */
  *client({ kernels }, node) {
    const message = yield* receive();
    const h = kernels.allocate(size(node.shape));
    kernels.unpack(h, message, node.parameters.modulus);
    return { block: h };
  },
  /** Send h; where a product of narrow values reads it, of X = x + 2^{m−2}. */
  *server(party, node, x) {
    const { kernels, ring, program, correlations } = party;
    const { modulus, use } = node.parameters;
    const h = correlations.pads.bits(node.index, own.mask, size(node.shape), modulus);
    const half = shifted(party, node.parameters.bits, x!.block!, inputModulus(node, program));
    kernels.subtract(h, half, h);
    kernels.free(half);
    if (use === 'narrow' && modulus < ring.bits) kernels.addScalar(h, h, 1n << BigInt(modulus - 2));
    yield* send(kernels.pack(h, modulus));
    if (use !== 'whole') return { block: h };
    kernels.free(h);
    return nothing;
  },
  /** b. */
  dealer: ({ serverPads }, { index, shape, parameters }) => ({
    block: serverPads.bits(index, own.mask, size(shape), parameters.modulus),
  }),
};

/** Bits of the ring of the value that is exchanged. */
const floatingModulus = ({ program }: Machine, { inputs }: RingNodeOf<'exchanged'>): number =>
  modulusOf(program.nodes[inputs[1]!]!, program);

/** e modulo 2^m; of a narrow value Ê (narrow-products.ts). In place. */
function opened(machine: Machine, { parameters }: RingNodeOf<'exchanged'>, e: Block): Held {
  machine.kernels.mask(e, e, parameters.modulus);
  if (parameters.use === 'narrow') centred(machine, e, parameters.modulus);
  return { block: e };
}

export const exchanged: SecureRow<'exchanged'> = {
  /** e = h + d. */
  client(party, node, h, x, y) {
    const { kernels } = party;
    const e = kernels.allocate(size(node.shape));
    kernels.shiftRight(e, x!.block!, node.parameters.bits, floatingModulus(party, node));
    kernels.subtract(e, e, y!.block!);
    kernels.add(e, e, h!.block!);
    return opened(party, node, e);
  },
  /** The same, where d is what came for y. After an exchange in the whole ring no product asks the server for it. */
  server(party, node, h, x, y) {
    if (node.parameters.use === 'whole') return nothing;
    const e = shifted(party, node.parameters.bits, x!.block!, floatingModulus(party, node));
    party.kernels.subtract(e, y!.block!, e);
    party.kernels.add(e, e, h!.block!);
    return opened(party, node, e);
  },
  dealer: (_, __, b) => b!,
};
