import type { Block } from '../../kernels/index.ts';
import { size } from '../../program/index.ts';
import { pointFunctionBytes, type RingNodeOf, wordBitsOf } from '../ring/index.ts';
import { type PointFunctionCipher, purpose } from './correlations/contract.ts';
import { expandInChunks } from './correlations/dpf.ts';
import type { Held, Machine, Numbered } from './protocol.ts';
import type { Pads } from './random.ts';

/** Rows expanded at a time are bounded by this much memory for their shared one-hot vectors. */
const chunkBytes = 2 * 2 ** 20;

/**
 * One party's half of a lookup: for every row the inner product of its share of the one-hot vector at j = i_c + σ with each public
 * table rotated by δ = i_s − σ. Frees `delta`.
 */
export function lookupShares(
  { kernels, ring, cipher }: Machine & { cipher: PointFunctionCipher },
  node: Numbered<RingNodeOf<'lookup'>>,
  side: { party: 0 | 1; delta: Block; pads: Pads; keys: (bytes: number) => Uint8Array },
): Held {
  const { indexBits, tables } = node.parameters;
  const rows = size(node.shape) / tables.length;
  const wordBits = wordBitsOf(ring.bits);
  const wordBytes = kernels.wordBits / 8;
  const points = 2 ** indexBits;
  const part = (block: Block, from: number, length: number): Block => ({ offset: block.offset + from * wordBytes, length });
  const out = kernels.allocate(size(node.shape));
  const encoded = tables.map((values) => {
    const block = kernels.allocate(points);
    kernels.encode(block, values, 0, kernels.wordBits);
    return block;
  });
  const keysAtOnce = Math.max(1, Math.floor(chunkBytes / (points * wordBytes)));
  const vectors = kernels.allocate(Math.min(rows, keysAtOnce) * points);
  expandInChunks(
    {
      party: side.party,
      seeds: side.pads.bytes(node.index, purpose.seeds, rows * 16),
      corrections: side.keys(rows * pointFunctionBytes(indexBits, wordBits)),
      k: indexBits,
      wordBits,
      encryptBlocks: cipher,
      chunk: keysAtOnce,
    },
    (first, count, words) => {
      const chunk = part(vectors, 0, count * points);
      kernels.bytes(chunk).set(words);
      encoded.forEach((table, t) => {
        kernels.rotatedInner(part(out, t * rows + first, count), chunk, table, part(side.delta, first, count));
      });
    },
  );
  for (const block of [vectors, side.delta, ...encoded]) kernels.free(block);
  return { block: out };
}
