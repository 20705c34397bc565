import { type Block, constant, type RingKernels } from '../../../kernels/index.ts';
import { piecewiseShape, type RingNodeOf } from '../../ring/index.ts';
import type { PointFunctionCipher } from '../correlations/contract.ts';
import { compareInto, comparisonBytes } from '../correlations/dcf.ts';
import { windowsInto } from '../correlations/dcf-window.ts';
import { type Machine, type Numbered, Scratch } from '../protocol.ts';

/** Steps 3 and 4 of piecewise.ts: a side's shares of knots and tables from its keys, some rows at a time. */
type Node = Numbered<RingNodeOf<'piecewise'>>;

/** The rows of one piece of keys. */
export interface Rows {
  readonly party: 0 | 1;
  readonly seeds: Uint8Array;
  readonly keys: Uint8Array;
  readonly mask: Block | undefined;
}

/** Comparisons evaluated at a time. */
const pointsAtOnce = 2 ** 16;
/** Points of windows expanded at a time. */
const leavesAtOnce = 2 ** 17;

/** A block of integers modulo 2^wordBits. */
function words(kernels: RingKernels, values: readonly bigint[]): Block {
  const block = kernels.allocate(values.length);
  const bytes = kernels.bytes(block);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  values.forEach((value, at) => {
    if (kernels.wordBits === 64) view.setBigUint64(8 * at, BigInt.asUintN(64, value), true);
    else view.setUint32(4 * at, Number(BigInt.asUintN(32, value)), true);
  });
  return block;
}

export const part = (kernels: RingKernels, block: Block, first: number, length: number): Block => ({
  offset: block.offset + (first * kernels.wordBits) / 8,
  length,
});

/** What step 3 knows of a function's knots, for all rows alike. */
interface Knots {
  readonly count: number;
  /** offset + slope · x = (offset − slope · 2^{n−1}) + slope · X: the offsets of X, as words, and their sum. */
  readonly shifted: Block;
  readonly shiftedSum: bigint;
  readonly slopes: Block;
  readonly slopesSum: bigint;
  /** What a row's index is taken from: the knots, and the end of the comparison's domain. */
  readonly limits: Float64Array;
}

function knotsOf(kernels: RingKernels, scratch: Scratch, node: Node): Knots {
  const { bits, knots, offsets, slopes } = node.parameters;
  const { k } = piecewiseShape(node.parameters);
  const half = 1n << BigInt(bits - 1);
  const sum = (values: readonly bigint[]): bigint => values.reduce((total, value) => total + value, 0n);
  const bigSlopes = Array.from(slopes, BigInt);
  const shifted = Array.from(offsets, (offset, p) => BigInt(offset) - bigSlopes[p]! * half);
  return {
    count: knots.length,
    shifted: scratch.own(words(kernels, shifted)),
    shiftedSum: sum(shifted),
    slopes: scratch.own(words(kernels, bigSlopes)),
    slopesSum: sum(bigSlopes),
    limits: Float64Array.from([...Array.from(knots, (knot) => knot + 2 ** (k - 1) - 1), 2 ** k - 1]),
  };
}

/** Step 3, a bounded number of elements at a time. */
export function addKnots(machine: Machine & { cipher: PointFunctionCipher }, node: Node, side: Rows, e: Block, out: Block): void {
  const { kernels } = machine;
  const outer = new Scratch(kernels);
  const knots = knotsOf(kernels, outer, node);
  const atOnce = Math.max(1, Math.floor(pointsAtOnce / (knots.count + 1)));
  for (let first = 0; first < e.length; first += atOnce) {
    const rows = Math.min(atOnce, e.length - first);
    const scratch = new Scratch(kernels);
    addRows(
      machine,
      scratch,
      { node, knots, side, first, rows, e: part(kernels, e, first, rows) },
      part(kernels, out, first, rows),
    );
    scratch.freeAll();
  }
  outer.freeAll();
}

/** Some rows of step 3. */
interface KnotRows {
  readonly node: Node;
  readonly knots: Knots;
  readonly side: Rows;
  readonly first: number;
  readonly rows: number;
  readonly e: Block;
}

/** The comparisons of some rows with all knots and the domain's end: their values, and where a difference wrapped (rows × knots). */
function compareKnots(
  { kernels, cipher }: Machine & { cipher: PointFunctionCipher },
  scratch: Scratch,
  { node, knots, side, first, rows, e }: KnotRows,
): { values: Block; omega: Block } {
  const { bits, drop } = node.parameters;
  const shape = piecewiseShape(node.parameters);
  const P = knots.count;
  const keyBytes = comparisonBytes({ ...shape, wordBits: kernels.wordBits });
  const index = scratch.new(rows);
  kernels.shiftRight(index, e, drop, bits);
  const wide = scratch.new(rows * (P + 1));
  kernels.gather(wide, index, [rows, P + 1], [1, 0], 0);
  const points = scratch.own(constant(kernels, knots.limits, [P + 1], [rows, P + 1]));
  kernels.subtract(points, points, wide);
  const omega = scratch.new(rows * P);
  kernels.gather(omega, points, [rows, P], [P + 1, 1], 0);
  kernels.shiftRight(omega, omega, kernels.wordBits - 1, kernels.wordBits);
  kernels.mask(points, points, shape.k);
  const values = scratch.new(rows * (P + 1) * shape.valueWords);
  compareInto(kernels, values, {
    ...shape,
    wordBits: kernels.wordBits,
    party: side.party,
    seeds: side.seeds.subarray(first * 16, (first + rows) * 16),
    corrections: side.keys.subarray(first * keyBytes, (first + rows) * keyBytes),
    encryptBlocks: cipher,
    points,
    pointsPerKey: P + 1,
  });
  return { values, omega };
}

function addRows(machine: Machine & { cipher: PointFunctionCipher }, scratch: Scratch, here: KnotRows, out: Block): void {
  const { kernels } = machine;
  const { node, knots, side, first, rows, e } = here;
  const { bits } = node.parameters;
  const V = piecewiseShape(node.parameters).valueWords;
  const P = knots.count;
  const { values, omega } = compareKnots(machine, scratch, here);
  const atKnots = (word: number): Block => {
    const block = scratch.new(rows * P);
    kernels.gather(block, values, [rows, P], [(P + 1) * V, V], word);
    return block;
  };
  const atEnd = (word: number): Block => {
    const block = scratch.new(rows);
    kernels.gather(block, values, [rows], [(P + 1) * V], P * V + word);
    return block;
  };
  const product = (matrix: Block, vector: Block): Block => {
    const block = scratch.new(rows);
    kernels.matmul(block, matrix, vector, { batch: 1, m: rows, k: P, n: 1 });
    return block;
  };
  const [one, end] = [atKnots(0), atEnd(0)];
  kernels.add(out, out, product(one, knots.shifted));
  const ends = scratch.new(rows);
  kernels.multiplyScalar(ends, end, knots.shiftedSum);
  kernels.subtract(out, out, ends);
  if (side.party === 1) kernels.add(out, out, product(omega, knots.shifted));
  if (V !== 2) return;
  const factor = product(one, knots.slopes);
  kernels.multiplyScalar(ends, end, knots.slopesSum);
  kernels.subtract(factor, factor, ends);
  const slopeOmega = product(omega, knots.slopes);
  if (side.party === 1) kernels.add(factor, factor, slopeOmega);
  kernels.multiplyAdd(out, e, factor);
  kernels.add(out, out, product(atKnots(1), knots.slopes));
  kernels.multiplyScalar(ends, atEnd(1), knots.slopesSum);
  kernels.subtract(out, out, ends);
  kernels.multiplyAdd(out, slopeOmega, part(kernels, side.mask!, first, rows));
  kernels.multiply(one, one, omega);
  const wrapped = product(one, knots.slopes);
  kernels.shiftLeft(wrapped, wrapped, bits);
  kernels.subtract(out, out, wrapped);
}

/** Step 4. */
export function addTable(machine: Machine & { cipher: PointFunctionCipher }, node: Node, side: Rows, e: Block, out: Block): void {
  const { kernels } = machine;
  const { bits, drop, start, coefficients } = node.parameters;
  const shape = piecewiseShape(node.parameters);
  const { k } = shape;
  const nodes = coefficients[0]!.length;
  const windowBits = Math.log2(nodes);
  const rows = e.length;
  const scratch = new Scratch(kernels);
  const base = scratch.new(rows);
  kernels.shiftRight(base, e, drop, bits);
  kernels.negate(base, base);
  kernels.addScalar(base, base, BigInt(start) + (1n << BigInt(k - 1)));
  kernels.mask(base, base, k);
  const windows = scratch.new(rows);
  kernels.shiftRight(windows, base, windowBits, k);
  // A node's place in its two windows is its number plus this; the table turns the other way.
  const turn = scratch.new(rows);
  kernels.mask(turn, base, windowBits);
  kernels.negate(turn, turn);
  kernels.mask(turn, turn, windowBits + 1);
  const tables = coefficients.map((values) => {
    const padded = new Float64Array(2 * nodes);
    padded.set(values);
    const block = scratch.new(2 * nodes);
    kernels.encode(block, padded, 0, kernels.wordBits);
    return block;
  });
  const atOnce = Math.min(rows, Math.max(1, Math.floor(leavesAtOnce / (2 * nodes))));
  const vectors = coefficients.map(() => scratch.new(atOnce * 2 * nodes));
  // inner[d][q]: Σ r^q-vector · coefficients of r^d, q ≤ d.
  const inner = coefficients.map((_, d) => Array.from({ length: d + 1 }, () => scratch.new(rows)));
  const keyBytes = comparisonBytes({ ...shape, wordBits: kernels.wordBits });
  for (let first = 0; first < rows; first += atOnce) {
    const count = Math.min(atOnce, rows - first);
    const outs = vectors.map((vector) => part(kernels, vector, 0, count * 2 * nodes));
    windowsInto(kernels, outs, {
      ...shape,
      wordBits: kernels.wordBits,
      party: side.party,
      seeds: side.seeds.subarray(16 * first, 16 * (first + count)),
      corrections: side.keys.subarray(first * keyBytes, (first + count) * keyBytes),
      encryptBlocks: machine.cipher,
      windowBits,
      windows: part(kernels, windows, first, count),
    });
    outs.forEach((vector, q) => {
      tables.forEach((table, d) => {
        if (q > d) return;
        kernels.rotatedInner(part(kernels, inner[d]![q]!, first, count), vector, table, part(kernels, turn, first, count));
      });
    });
  }
  const low = scratch.new(rows);
  kernels.mask(low, e, drop);
  // (e_low + r)^d = Σ binomial(d, q) e_low^{d−q} r^q.
  for (const [d, parts] of inner.entries()) {
    kernels.add(out, out, parts[d]!);
    if (d === 1) kernels.multiplyAdd(out, low, parts[0]!);
    if (d === 2) {
      const factor = parts[0]!;
      kernels.multiply(factor, factor, low);
      kernels.add(factor, factor, parts[1]!);
      kernels.add(factor, factor, parts[1]!);
      kernels.multiplyAdd(out, factor, low);
    }
  }
  scratch.freeAll();
}
