import type { Block } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import { type Piece, piecesOf, piecewiseShape, type RingNodeOf } from '../../ring/index.ts';
import { type Held, type Numbered, nothing, Scratch } from '../protocol.ts';
import { purpose } from './contract.ts';
import { generateComparisonKeys } from './dcf.ts';
import type { DealerOptions, Outbox } from './dealer.ts';

type Node = Numbered<RingNodeOf<'piecewise'>>;

/** The dealer's part of piecewise.ts: keys for the point y ≫ f, and the server's share of y where a knot has a slope, by pieces. */
export function piecewiseKeys(options: DealerOptions, outbox: Outbox, node: Node, x: Held): Held {
  outbox.pieces = keyPieces(options, node, x);
  return nothing;
}

/** Whole tensors are y, and in the end the client's share of it and both parties' seeds; keys are made a piece at a time. */
function* keyPieces(options: DealerOptions, node: Node, x: Held): Generator<{ toServer: Uint8Array; toClient: Uint8Array }> {
  const { kernels, clientPads, serverPads, ring, program } = options;
  const count = size(node.shape);
  const scratch = new Scratch(kernels);
  try {
    const y = scratch.own(serverPads.words(node.index, purpose.mask, count));
    kernels.add(y, y, x.block!);
    kernels.mask(y, y, node.parameters.bits);
    const sloped = piecewiseShape(node.parameters).valueWords === 2;
    const share = sloped ? scratch.own(clientPads.words(node.index, purpose.share, count)) : undefined;
    const seeds0 = clientPads.bytes(node.index, purpose.seeds, count * 16);
    const seeds1 = serverPads.bytes(node.index, purpose.seeds, count * 16);
    for (const piece of piecesOf(node, program)) {
      const part = (block: Block): Block => ({
        offset: block.offset + (piece.first * kernels.wordBits) / 8,
        length: piece.rows,
      });
      const seedsOf = (seeds: Uint8Array): Uint8Array => seeds.subarray(16 * piece.first, 16 * (piece.first + piece.rows));
      const keys = keysOf(options, node, part(y), { seeds0: seedsOf(seeds0), seeds1: seedsOf(seeds1) });
      if (share === undefined) yield { toServer: keys, toClient: keys };
      else yield { toServer: withWords(kernels, keys, part(y), part(share), ring.bits, piece), toClient: keys };
    }
  } finally {
    scratch.freeAll();
  }
}

/** Keys, and behind them the server's share of y. */
function withWords(
  kernels: DealerOptions['kernels'],
  keys: Uint8Array,
  y: Block,
  share: Block,
  bits: number,
  { dealerToServer }: Piece,
): Uint8Array {
  const both = new Uint8Array(dealerToServer);
  both.set(keys);
  kernels.subtract(y, y, share);
  both.set(kernels.pack(y, bits), keys.length);
  return both;
}

/** The keys of some rows. */
function keysOf(
  { kernels, cipher }: DealerOptions,
  node: Node,
  y: Block,
  seeds: { readonly seeds0: Uint8Array; readonly seeds1: Uint8Array },
): Uint8Array {
  const { bits, drop } = node.parameters;
  const shape = piecewiseShape(node.parameters);
  const count = y.length;
  const scratch = new Scratch(kernels);
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
    ...seeds,
    encryptBlocks: cipher,
  });
  scratch.freeAll();
  return keys;
}
