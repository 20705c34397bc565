import type { Block } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import { correctionsOf } from '../../ring/index.ts';
import { type Held, type NumberedNode, nothing, type Protocol, Scratch } from '../protocol.ts';
import { purpose } from './contract.ts';
import type { DealerOptions, Outbox } from './dealer.ts';
import type { Offline } from './pinned.ts';

type NarrowCorrections = Pick<Offline, 'openNarrow' | 'openedSign' | 'unmask' | 'narrowSquare' | 'narrowProduct'>;

/**
 * The dealer's part of narrow.ts: from b and x_c it knows α = x_c + b mod 2^m, its carry κ and its top bit M, and gives the server the
 * differences to the client's pads of κ, M, α_x α_y and M α. The value that stands for `unmask` here is α.
 */
export function narrowCorrections(options: DealerOptions, outbox: Outbox): NarrowCorrections {
  const { kernels, clientPads, serverPads, ring, program } = options;
  const L = ring.bits;
  /** Emits every f_i less the client's pad of it, in its own width. */
  const emit = (node: NumberedNode, scratch: Scratch, values: readonly Block[]): void => {
    const parts = correctionsOf(node, program).map((width, field) => {
      const value = values[field]!;
      const pad = scratch.own(clientPads.bits(node.index, purpose.fields + field, value.length, width));
      kernels.subtract(pad, value, pad);
      return kernels.pack(pad, width);
    });
    const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      bytes.set(part, at);
      at += part.length;
    }
    outbox.toServer = bytes;
  };
  const topBit = (scratch: Scratch, alpha: Block, modulus: number): Block => {
    const top = scratch.new(alpha.length);
    kernels.shiftRight(top, alpha, modulus - 1, modulus);
    return top;
  };
  const times = (scratch: Scratch, a: Block, b: Block): Block => {
    const out = scratch.new(a.length);
    kernels.multiply(out, a, b);
    return out;
  };
  return {
    openNarrow: (node) => ({ block: serverPads.bits(node.index, purpose.mask, size(node.shape), node.parameters.modulus) }),
    openedSign: () => nothing,
    unmask(node, x, b) {
      const { modulus } = node.parameters;
      const alpha = kernels.allocate(size(node.shape));
      kernels.mask(alpha, x!.block!, modulus);
      kernels.add(alpha, alpha, b!.block!);
      if (modulus === L) return { block: alpha };
      const scratch = new Scratch(kernels);
      const carry = scratch.new(alpha.length);
      // x_c mod 2^m + b < 2^(m + 1) ≤ 2^L: the bit above m is the carry.
      kernels.shiftRight(carry, alpha, modulus, L);
      kernels.mask(alpha, alpha, modulus);
      emit(node as Parameters<Protocol['unmask']>[0], scratch, [carry, topBit(scratch, alpha, modulus)]);
      scratch.freeAll();
      return { block: alpha };
    },
    narrowSquare(node, _, alpha) {
      const scratch = new Scratch(kernels);
      const a = alpha!.block!;
      emit(node, scratch, [times(scratch, a, a), times(scratch, topBit(scratch, a, node.parameters.modulus), a)]);
      scratch.freeAll();
      return nothing;
    },
    narrowProduct(node, _, alphaX, __, ___, alphaY) {
      const scratch = new Scratch(kernels);
      const [x, y] = [alphaX, alphaY].map((held?: Held) => held!.block!) as [Block, Block];
      const wrapped = [
        [x, y],
        [y, x],
      ] as const;
      const values = node.parameters.moduli.flatMap((modulus, side) => {
        const [own, other] = wrapped[side]!;
        return modulus < L ? [times(scratch, topBit(scratch, own, modulus), other)] : [];
      });
      emit(node, scratch, [times(scratch, x, y), ...values]);
      scratch.freeAll();
      return nothing;
    },
  };
}
