import type { Block } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import { type Piece, piecesOf, piecewiseShape, type RingNodeOf } from '../../ring/index.ts';
import type { ClientCorrelations, PointFunctionCipher } from '../correlations/contract.ts';
import { comparisonBytes, generateComparisonKeys } from '../correlations/dcf.ts';
import { type Machine, type Numbered, nothing, receive, Scratch, type Step, send } from '../protocol.ts';
import { byClient, byServer } from '../random.ts';
import { addKnots, addTable, part, type Rows } from './piecewise-shares.ts';
import type { Dealer, SecureRow } from './row.ts';

/**
 * Piecewise polynomials of a secret: comparisons, ReLU, exponentials, wide reciprocals. One hop, whatever the function.
 *
 * Sources: Boyle et al. (EUROCRYPT 2021) for splines on masked values, with the client's share as part of the mask; dcf.ts for the keys.
 * x is pinned, n = bits, f = drop, k = n − f; σ is the server's pad, so that y = x_c + σ mod 2^n is known to the dealer.
 *   1. The server sends δ = x_s − σ mod 2^n. Both set e = δ + 2^{n−1} mod 2^n, E = e ≫ f. With X = x + 2^{n−1} and j = y ≫ f,
 *      X = e + y − 2^n w and the index of X is (E + j) mod 2^k: one less than ⌊X / 2^f⌋ where the low bits carry.
 *   2. Keys for α = j, β = (1, y), γ = (1, r, r²) with r = y mod 2^f. D(u) stands for the shares of β · [j > u].
 *   3. A knot at index T (offset by 2^{k−1}): a = (T − 1 − E) mod 2^k, b = 2^k − 1 − E, ω = [T ≤ E]:
 *        [I ≥ T] = D₁(a) − D₁(b) + ω,
 *        [I ≥ T] X = e (D₁(a) − D₁(b)) + D_y(a) − D_y(b) + ω (e + y) − ω 2^n D₁(a);
 *      the sum wraps (w = 1) exactly for the indices below E. Shares of the integer y: a pad of the client's and a correction.
 *   4. A table from index T₀ on: its 2^m nodes are a cyclic window of j, which lies in two aligned ones; inner products of the shares of
 *      γ [j = ·] with the rotated coefficients, and x − i 2^f = (e mod 2^f) + r.
 * The result is floating: shares of the exact integer in the whole ring, though only n bits of x were looked at.
 *
 * Adversary: semi-honest server or dealer or client, one of them. The client sees δ, masked by σ; keys say nothing of α, β, γ.
 * Bits online: n from the server. Offline: dcf.ts a key to each side, L more to the server where a knot has a slope.
 * Error: the index may be one too small (as in any truncation with a random offset): pieces must fit on twice their width.
 */
type Node = Numbered<RingNodeOf<'piecewise'>>;

const own = {
  /** The client's share of the integer y, where a knot has a slope. */
  share: byClient(0),
  /** σ. */
  mask: byServer(0),
  /** Seeds of the comparison functions' keys. */
  clientSeeds: byClient(1),
  serverSeeds: byServer(1),
};

export const piecewise: SecureRow<'piecewise'> = {
  pads: own,
  *client(party, node) {
    const { kernels, correlations } = party;
    const count = size(node.shape);
    const message = yield* receive();
    const delta = kernels.allocate(count);
    kernels.unpack(delta, message, node.parameters.bits);
    const sloped = piecewiseShape(node.parameters).valueWords === 2;
    const pad = sloped ? correlations.pads.words(node.index, own.share, count) : undefined;
    return yield* shares(party, node, {
      ...{ party: 0, delta, correlations },
      seeds: correlations.pads.bytes(node.index, own.clientSeeds, count * 16),
      mask: ({ first, rows }) => {
        const mine = kernels.allocate(rows);
        kernels.copy(mine, part(kernels, pad!, first, rows));
        return mine;
      },
      end: () => {
        if (pad !== undefined) kernels.free(pad);
      },
    });
  },
  *server(party, node, x) {
    const { kernels, correlations, ring } = party;
    const count = size(node.shape);
    const { bits } = node.parameters;
    const delta = correlations.pads.words(node.index, own.mask, count);
    kernels.subtract(delta, x!.block!, delta);
    kernels.mask(delta, delta, bits);
    yield* send(kernels.pack(delta, bits));
    return yield* shares(party, node, {
      ...{ party: 1, delta, correlations },
      seeds: correlations.pads.bytes(node.index, own.serverSeeds, count * 16),
      mask: ({ rows }, behind) => {
        const mine = kernels.allocate(rows);
        kernels.unpack(mine, behind, ring.bits);
        return mine;
      },
      end: () => {},
    });
  },
  /** Keys for the point y ≫ f, and the server's share of y where a knot has a slope, by pieces. */
  dealer(dealer, node, x) {
    dealer.outbox.pieces = keyPieces(dealer, node, x!.block!);
    return nothing;
  },
};

/** Where a side's keys come from, and what it adds to every element. */
interface Side {
  readonly party: 0 | 1;
  /** δ; freed here. */
  readonly delta: Block;
  readonly seeds: Uint8Array;
  readonly correlations: Pick<ClientCorrelations, 'more' | 'lookup'>;
  /** This side's share of y for some rows, where a knot has a slope: `behind` is what follows their keys. A part, or freed here. */
  readonly mask: (piece: Piece, behind: Uint8Array) => Block;
  /** Frees what `mask` came from. */
  readonly end: () => void;
}

/** Steps 1 (from δ), 3 and 4, a piece of the keys at a time: between two of them the next one is loaded. */
function* shares(machine: Machine & { cipher: PointFunctionCipher }, node: Node, side: Side): Step {
  const { kernels, program } = machine;
  const { bits, knots, coefficients } = node.parameters;
  const shape = piecewiseShape(node.parameters);
  const keyBytes = comparisonBytes({ ...shape, wordBits: kernels.wordBits });
  const e = side.delta;
  kernels.addScalar(e, e, 1n << BigInt(bits - 1));
  kernels.mask(e, e, bits);
  const out = kernels.allocate(e.length);
  kernels.fill(out, 0n);
  for (const piece of piecesOf(node, program)) {
    const { first, rows } = piece;
    if (first > 0) yield { load: () => side.correlations.more(node.index) };
    const material = side.correlations.lookup(node.index);
    const here: Rows = {
      party: side.party,
      seeds: side.seeds.subarray(16 * first, 16 * (first + rows)),
      keys: material.subarray(0, rows * keyBytes),
      mask: shape.valueWords === 2 ? side.mask(piece, material.subarray(rows * keyBytes)) : undefined,
    };
    const [eHere, outHere] = [part(kernels, e, first, rows), part(kernels, out, first, rows)];
    if (knots.length > 0) addKnots(machine, node, here, eHere, outHere);
    if (coefficients.length > 0) addTable(machine, node, here, eHere, outHere);
    if (here.mask !== undefined) kernels.free(here.mask);
  }
  kernels.free(e);
  side.end();
  return { block: out };
}

/** Whole tensors are y, and in the end the client's share of it and both parties' seeds; keys are made a piece at a time. */
function* keyPieces(options: Dealer, node: Node, x: Block): Generator<{ toServer: Uint8Array; toClient: Uint8Array }> {
  const { kernels, clientPads, serverPads, ring, program } = options;
  const count = size(node.shape);
  const scratch = new Scratch(kernels);
  try {
    const y = scratch.own(serverPads.words(node.index, own.mask, count));
    kernels.add(y, y, x);
    kernels.mask(y, y, node.parameters.bits);
    const sloped = piecewiseShape(node.parameters).valueWords === 2;
    const share = sloped ? scratch.own(clientPads.words(node.index, own.share, count)) : undefined;
    const seeds0 = clientPads.bytes(node.index, own.clientSeeds, count * 16);
    const seeds1 = serverPads.bytes(node.index, own.serverSeeds, count * 16);
    for (const piece of piecesOf(node, program)) {
      const here = (block: Block): Block => part(kernels, block, piece.first, piece.rows);
      const seedsOf = (seeds: Uint8Array): Uint8Array => seeds.subarray(16 * piece.first, 16 * (piece.first + piece.rows));
      const keys = keysOf(options, node, here(y), { seeds0: seedsOf(seeds0), seeds1: seedsOf(seeds1) });
      if (share === undefined) yield { toServer: keys, toClient: keys };
      else yield { toServer: withWords(kernels, keys, here(y), here(share), ring.bits, piece), toClient: keys };
    }
  } finally {
    scratch.freeAll();
  }
}

/** Keys, and behind them the server's share of y. */
function withWords(
  kernels: Dealer['kernels'],
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
  { kernels, cipher }: Dealer,
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
