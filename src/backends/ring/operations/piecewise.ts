import { type Block, fresh, type RingKernels } from '../../../kernels/index.ts';
import { size } from '../../../program/index.ts';
import type { Exact, FixedValue } from '../exact.ts';
import type { NodeWith, Numbered } from '../node.ts';
import { type Piece, packedBytes, wordBitsOf } from '../sizes.ts';
import type { RingRow } from './row.ts';

/**
 * f(x) for x in [−2^(bits−1) + 2^drop, 2^(bits−1)), read by the index i = ⌊(x − ρ) / 2^drop⌋ with ρ = (the mask) mod 2^drop:
 * Σ over knots t ≤ i of offset + slope · x, plus, for start ≤ i < start + 2^m, the polynomial Σ coefficients[d][i − start] · r^d of
 * r = x − i · 2^drop in [0, 2^(drop+1)). All are ring integers; degree ≤ 2.
 */
export interface Piecewise {
  readonly bits: number;
  readonly drop: number;
  /** Signed indices, ascending, above −2^(bits−drop−1). */
  readonly knots: Float64Array;
  readonly offsets: Float64Array;
  readonly slopes: Float64Array;
  readonly start: number;
  /** 2^m numbers a degree; empty without a table. */
  readonly coefficients: readonly Float64Array[];
}
type Node = NodeWith<'piecewise', Piecewise>;

/** Index bits and key words of a piecewise polynomial: (1, x) where a knot has a slope, (1, r, r²) up to its table's degree. */
export function piecewiseShape({ bits, drop, knots, slopes, coefficients }: Piecewise): {
  k: number;
  valueWords: number;
  leafWords: number;
} {
  const valueWords = knots.length === 0 ? 0 : slopes.some((slope) => slope !== 0) ? 2 : 1;
  return { k: bits - drop, valueWords, leafWords: coefficients.length };
}

/** Correction bytes of one key. */
function keyBytes(parameters: Piecewise, wordBits: 32 | 64): number {
  const { k, valueWords, leafWords } = piecewiseShape(parameters);
  return 16 * k + ((k + 1) * valueWords + leafWords) * (wordBits / 8);
}

/** Keys for each side; the server's are followed by its share of the masked argument where a knot has a slope. */
function keysOf(parameters: Piecewise, rows: number, bits: number) {
  const keys = rows * keyBytes(parameters, wordBitsOf(bits));
  const words = piecewiseShape(parameters).valueWords === 2 ? packedBytes(rows, bits) : 0;
  return { dealerToServer: keys + words, dealerToClient: keys };
}

/** A piecewise polynomial of a pinned value, of which only the low `bits` bits count. */
export const piecewise: RingRow<'piecewise', Piecewise> = {
  late: true,
  messages: ({ shape, parameters }) => ({ serverToClient: [{ count: size(shape), width: parameters.bits }] }),
  keys: ({ shape, parameters }, { ring }) => keysOf(parameters, size(shape), ring.bits),
  /** Keys of some rows, and behind them their words. Rows of a piece are a multiple of 8, so that packed words add up to what they take together. */
  pieces: ({ shape, parameters }, { ring }, limitBytes) => {
    const count = size(shape);
    const atOnce = Math.max(8, Math.floor(limitBytes / keyBytes(parameters, wordBitsOf(ring.bits)) / 8) * 8);
    return Array.from({ length: Math.ceil(count / atOnce) }, (_, piece): Piece => {
      const first = piece * atOnce;
      const rows = Math.min(atOnce, count - first);
      return { first, rows, ...keysOf(parameters, rows, ring.bits) };
    });
  },
  work: ({ shape, parameters: { bits, drop, knots, coefficients } }) => {
    const count = size(shape);
    return {
      ...(knots.length > 0 ? { comparisons: count * (knots.length + 1) * (bits - drop) } : {}),
      windowPoints: count * 2 * (coefficients[0]?.length ?? 0),
      keyLevels: count * (bits - drop),
    };
  },
  meaning: (exact, node, x) => evaluated(exact, node, x!),
};

/**
 * On plain integers, exactly as its shares add up: the index is ⌊(x − ρ) / 2^drop⌋, with ρ in the middle where a run's offsets are not
 * given. A value outside of the declared bits is a `range` error.
 */
function evaluated({ kernels, guard, ...exact }: Exact, node: Numbered<Node>, x: FixedValue): FixedValue {
  const offsets = exact.offsets?.(node.index, x.block.length, node.parameters.drop);
  const { bits, drop, knots, start, coefficients } = node.parameters;
  const values = guard.integers(x.block);
  const limit = 2 ** (bits - 1);
  const unit = 2 ** drop;
  const count = values.length;
  const [piece, place, rest] = [new Int32Array(count), new Int32Array(count), new Float64Array(count)];
  const nodes = coefficients[0]?.length ?? 0;
  values.forEach((value, at) => {
    if (value < -limit + (drop > 0 ? unit : 0) || value >= limit) guard.fail(node, value, 'an argument of');
    const index = Math.floor((value - (offsets?.[at] ?? Math.floor(unit / 2))) / unit);
    piece[at] = knotsUpTo(knots, index);
    const inside = index >= start && index < start + nodes;
    place[at] = inside ? index - start : nodes;
    rest[at] = inside ? value - index * unit : 0;
  });
  const taken: Block[] = [];
  const own = (block: Block): Block => {
    taken.push(block);
    return block;
  };
  // Each coefficient by element, as ring words: intermediate products may wrap, the result may not.
  const pick = (choices: readonly bigint[], which: Int32Array): Block =>
    own(fresh(kernels, count, (out) => copyWords(kernels, out, choices, which)));
  const sums = (steps: Float64Array): bigint[] => {
    const totals = [0n];
    for (const step of steps) totals.push(totals.at(-1)! + BigInt(step));
    return totals;
  };
  const table = coefficients.map((values) => pick([...Array.from(values, BigInt), 0n], place));
  const r = own(kernels.allocate(count));
  kernels.encode(r, rest, 0, kernels.wordBits);
  const out = kernels.allocate(count);
  kernels.fill(out, 0n);
  for (const coefficient of table.reverse()) {
    kernels.multiply(out, out, r);
    kernels.add(out, out, coefficient);
  }
  const [offset, slope] = [node.parameters.offsets, node.parameters.slopes].map(sums) as [bigint[], bigint[]];
  kernels.add(out, out, pick(offset, piece));
  kernels.multiplyAdd(out, pick(slope, piece), x.block);
  for (const block of taken) kernels.free(block);
  const near = (at: number): number => {
    let total = Number(offset[piece[at]!]!) + Number(slope[piece[at]!]!) * values[at]!;
    coefficients.forEach((choices, degree) => {
      total += (choices[place[at]!] ?? 0) * rest[at]! ** degree;
    });
    return total;
  };
  guard.within(node, Number.POSITIVE_INFINITY, () => values.reduce((most, _, at) => Math.max(most, Math.abs(near(at))), 0));
  return guard.measured(out);
}

/** How many knots are at or below an index. */
function knotsUpTo(knots: Float64Array, index: number): number {
  let [low, high] = [0, knots.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (knots[middle]! <= index) low = middle + 1;
    else high = middle;
  }
  return low;
}

function copyWords(kernels: RingKernels, out: Block, choices: readonly bigint[], which: Int32Array): void {
  const bytes = kernels.bytes(out);
  if (kernels.wordBits === 64) {
    const words = BigUint64Array.from(choices, (choice) => BigInt.asUintN(64, choice));
    const target = new BigUint64Array(bytes.buffer, bytes.byteOffset, which.length);
    for (let at = 0; at < which.length; at++) target[at] = words[which[at]!]!;
  } else {
    const words = Uint32Array.from(choices, (choice) => Number(BigInt.asUintN(32, choice)));
    const target = new Uint32Array(bytes.buffer, bytes.byteOffset, which.length);
    for (let at = 0; at < which.length; at++) target[at] = words[which[at]!]!;
  }
}
