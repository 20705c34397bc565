import type { Block, RingKernels } from '../../kernels/index.ts';
import type { Prg } from '../../math/random.ts';

/**
 * Randomness of one role in one run. Every pad is a stream of its own: node · purposes + purpose. A ring program is straight-line and
 * a bundle's seed serves one run of one program, so a stream is used once by construction: a regenerated token is a new node.
 */
export interface Pads {
  /** Fresh uniform words. */
  words(node: number, purpose: number, length: number): Block;
  /** Fresh uniform words below 2^width. */
  bits(node: number, purpose: number, length: number, width: number): Block;
  /** Fresh bytes: seeds of point functions. */
  bytes(node: number, purpose: number, length: number): Uint8Array<ArrayBuffer>;
}

/** Most pads that one node draws from one party's seed. */
export const purposes = 4;

export function pads(kernels: RingKernels, prg: Prg): Pads {
  const words = (node: number, purpose: number, length: number): Block => {
    const block = kernels.allocate(length);
    prg.fill(node * purposes + purpose, kernels.bytes(block));
    return block;
  };
  return {
    words,
    bits(node, purpose, length, width) {
      const block = words(node, purpose, length);
      kernels.mask(block, block, width);
      return block;
    },
    bytes(node, purpose, length) {
      const out = new Uint8Array(length);
      prg.fill(node * purposes + purpose, out);
      return out;
    },
  };
}
