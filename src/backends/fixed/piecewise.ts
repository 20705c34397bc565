import { type Block, fresh, type RingKernels } from '../../kernels/index.ts';
import type { RingNodeOf } from '../ring/index.ts';
import type { FixedValue, RangeGuard } from './checks.ts';

/**
 * A piecewise polynomial on plain integers, exactly as its shares add up: the index is ⌊(x − ρ) / 2^drop⌋, with ρ in the middle where a
 * run's offsets are not given. A value outside of the declared bits is a `range` error.
 */
export function piecewise(
  kernels: RingKernels,
  guard: RangeGuard,
  node: RingNodeOf<'piecewise'>,
  x: FixedValue,
  offsets: Float64Array | undefined,
): FixedValue {
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
