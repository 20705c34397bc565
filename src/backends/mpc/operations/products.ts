import type { Block } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import { modulusOf } from '../../ring/index.ts';
import { nothing, receive, Scratch, send } from '../protocol.ts';
import { byClient, byServer } from '../random.ts';
import { type Client, correct, type SecureRow } from './row.ts';

const opening = {
  /** b. */
  mask: byServer(0),
};

export const open: SecureRow<'open'> = {
  pads: opening,
  /** e ← x_s − b, from the server. */
  *client({ kernels, program }, node) {
    const e = yield* receive();
    const block = kernels.allocate(size(node.shape));
    kernels.unpack(block, e, modulusOf(node, program));
    return { block };
  },
  /** Send e = x_s − b. */
  *server({ kernels, program, correlations }, node, x) {
    const b = correlations.pads.words(node.index, opening.mask, size(node.shape));
    kernels.subtract(b, x!.block!, b);
    const message = kernels.pack(b, modulusOf(node, program));
    kernels.free(b);
    yield* send(message);
    return nothing;
  },
  /** b. */
  dealer: ({ serverPads }, node) => ({ block: serverPads.words(node.index, opening.mask, size(node.shape)) }),
};

const own = {
  /** q_c. */
  share: byClient(0),
};

export const square: SecureRow<'square'> = {
  pads: own,
  /** z_c = x_c (x_c + 2e) + q_c. */
  client({ kernels, correlations }, node, x, e) {
    const scratch = new Scratch(kernels);
    const sum = scratch.new(x!.block!.length);
    const result = correlations.pads.words(node.index, own.share, size(node.shape));
    kernels.add(sum, e!.block!, e!.block!);
    kernels.add(sum, sum, x!.block!);
    kernels.multiplyAdd(result, x!.block!, sum);
    return scratch.end(result);
  },
  /** z_s = x_s² + q_s. */
  server({ kernels, program, correlations }, node, x) {
    const result = correlations.product(node.index, size(node.shape), modulusOf(node, program));
    kernels.multiplyAdd(result, x!.block!, x!.block!);
    return { block: result };
  },
  /** q_s = 2 x_c b − q_c. */
  dealer: (dealer, node, x, b) =>
    correct(dealer, node, own.share, modulusOf(node, dealer.program), (out) => {
      dealer.kernels.multiplyAdd(out, x!.block!, b!.block!);
      dealer.kernels.multiplyAdd(out, x!.block!, b!.block!);
    }),
};

/** q_c, and e_y + y_c. */
function begun({ kernels, correlations }: Client, index: number, length: number, y: Block, ey: Block, scratch: Scratch) {
  const sum = scratch.new(y.length);
  const result = correlations.pads.words(index, own.share, length);
  kernels.add(sum, ey, y);
  return { sum, result };
}

export const product: SecureRow<'product'> = {
  pads: own,
  /** z_c = x_c (e_y + y_c) + e_x y_c + q_c. */
  client(party, node, x, y, ex, ey) {
    const scratch = new Scratch(party.kernels);
    const { sum, result } = begun(party, node.index, size(node.shape), y!.block!, ey!.block!, scratch);
    party.kernels.multiplyAdd(result, x!.block!, sum);
    party.kernels.multiplyAdd(result, ex!.block!, y!.block!);
    return scratch.end(result);
  },
  server({ kernels, program, correlations }, node, x, y) {
    const result = correlations.product(node.index, size(node.shape), modulusOf(node, program));
    kernels.multiplyAdd(result, x!.block!, y!.block!);
    return { block: result };
  },
  /** q_s = x_c b_y + b_x y_c − q_c. */
  dealer: (dealer, node, x, y, bx, by) =>
    correct(dealer, node, own.share, modulusOf(node, dealer.program), (out) => {
      dealer.kernels.multiplyAdd(out, x!.block!, by!.block!);
      dealer.kernels.multiplyAdd(out, bx!.block!, y!.block!);
    }),
};

export const matrixProduct: SecureRow<'matrixProduct'> = {
  pads: own,
  client(party, node, x, y, ex, ey) {
    const scratch = new Scratch(party.kernels);
    const { sum, result } = begun(party, node.index, size(node.shape), y!.block!, ey!.block!, scratch);
    party.kernels.matmul(result, x!.block!, sum, node.parameters, true);
    party.kernels.matmul(result, ex!.block!, y!.block!, node.parameters, true);
    return scratch.end(result);
  },
  server({ kernels, program, correlations }, node, x, y) {
    const result = correlations.product(node.index, size(node.shape), modulusOf(node, program));
    kernels.matmul(result, x!.block!, y!.block!, node.parameters, true);
    return { block: result };
  },
  dealer: (dealer, node, x, y, bx, by) =>
    correct(dealer, node, own.share, modulusOf(node, dealer.program), (out) => {
      dealer.kernels.matmul(out, x!.block!, by!.block!, node.parameters, true);
      dealer.kernels.matmul(out, bx!.block!, y!.block!, node.parameters, true);
    }),
};
