import type { Block } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import { packedBytes, piecewiseShape, type RingNodeOf } from '../../ring/index.ts';
import { type Held, type Numbered, nothing, Scratch } from '../protocol.ts';
import { purpose } from './contract.ts';
import { generateComparisonKeys } from './dcf.ts';
import type { DealerOptions, Outbox } from './dealer.ts';

/** The dealer's part of piecewise.ts: keys for the point y ≫ f, and the server's share of y where a knot has a slope. */
export function piecewiseKeys(options: DealerOptions, outbox: Outbox, node: Numbered<RingNodeOf<'piecewise'>>, x: Held): Held {
  const { kernels, clientPads, serverPads, ring } = options;
  const { bits, drop } = node.parameters;
  const shape = piecewiseShape(node.parameters);
  const count = size(node.shape);
  const scratch = new Scratch(kernels);
  const y = scratch.own(serverPads.words(node.index, purpose.mask, count));
  kernels.add(y, y, x.block!);
  kernels.mask(y, y, bits);
  const alpha = scratch.new(count);
  kernels.shiftRight(alpha, y, drop, bits);
  const one = scratch.new(count);
  kernels.fill(one, 1n);
  const low = scratch.new(count);
  kernels.mask(low, y, drop);
  const squared = scratch.new(count);
  kernels.multiply(squared, low, low);
  /** The words of every key side by side. */
  const beside = (parts: readonly Block[]): Uint8Array => {
    if (parts.length === 0) return new Uint8Array(0);
    const block = scratch.new(count * parts.length);
    parts.forEach((part, word) => {
      kernels.scatter(block, part, [count], [parts.length], word);
    });
    return kernels.bytes(block).slice();
  };
  const keys = generateComparisonKeys({
    ...shape,
    wordBits: kernels.wordBits,
    alpha: kernels.bytes(alpha).slice(),
    beta: beside([one, y].slice(0, shape.valueWords)),
    gamma: beside([one, low, squared].slice(0, shape.leafWords)),
    seeds0: clientPads.bytes(node.index, purpose.seeds, count * 16),
    seeds1: serverPads.bytes(node.index, purpose.seeds, count * 16),
    encryptBlocks: options.cipher,
  });
  outbox.toClient = keys;
  outbox.toServer = keys;
  if (shape.valueWords === 2) {
    kernels.subtract(y, y, scratch.own(clientPads.words(node.index, purpose.share, count)));
    const both = new Uint8Array(keys.length + packedBytes(count, ring.bits));
    both.set(keys);
    both.set(kernels.pack(y, ring.bits), keys.length);
    outbox.toServer = both;
  }
  scratch.freeAll();
  return nothing;
}
