import type { Block, RingKernels } from '../../kernels/index.ts';
import type { Prg } from '../../math/random.ts';
import type { Side } from '../ring/index.ts';

/** A pad of an operation: the number of its stream among a node's, frozen for good, and whose seed it is drawn from. The dealer draws all. */
export interface Pad<By extends Side = Side> {
  readonly stream: number;
  readonly by: By;
}
export const byClient = (stream: number): Pad<'client'> => ({ stream, by: 'client' });
export const byServer = (stream: number): Pad<'server'> => ({ stream, by: 'server' });

/** As many pads of one kind as a node has corrections, on the streams from this one on. */
export interface PadFamily<By extends Side = Side> extends Pad<By> {
  readonly several: true;
}
export const severalByClient = (stream: number): PadFamily<'client'> => ({ ...byClient(stream), several: true });
export const oneOf = <By extends Side>({ stream, by }: PadFamily<By>, at: number): Pad<By> => ({ stream: stream + at, by });

/**
 * Randomness of one role in one run. Every pad is a stream of its own: node · purposes + the pad's. A ring program is straight-line and
 * a bundle's seed serves one run of one program, so a stream is used once by construction: a regenerated token is a new node.
 */
export interface Pads<By extends Side = Side> {
  /** Fresh uniform words. */
  words(node: number, pad: Pad<By>, length: number): Block;
  /** Fresh uniform words below 2^width. */
  bits(node: number, pad: Pad<By>, length: number, width: number): Block;
  /** Fresh bytes: seeds of point functions. */
  bytes(node: number, pad: Pad<By>, length: number): Uint8Array<ArrayBuffer>;
}

/** Most pads that one node draws from one party's seed. */
export const purposes = 4;

export function pads<By extends Side>(kernels: RingKernels, prg: Prg): Pads<By> {
  const words = (node: number, { stream }: Pad<By>, length: number): Block => {
    const block = kernels.allocate(length);
    prg.fill(node * purposes + stream, kernels.bytes(block));
    return block;
  };
  return {
    words,
    bits(node, pad, length, width) {
      const block = words(node, pad, length);
      kernels.mask(block, block, width);
      return block;
    },
    bytes(node, { stream }, length) {
      const out = new Uint8Array(length);
      prg.fill(node * purposes + stream, out);
      return out;
    },
  };
}
