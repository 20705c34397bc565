import type { Block, RingKernels } from '../../kernels/index.ts';
import { constant } from '../../kernels/index.ts';
import { size } from '../../program/index.ts';
import { packedBytes, piecewiseShape, type RingNodeOf, wordBitsOf } from '../ring/index.ts';
import { type ClientCorrelations, type PointFunctionCipher, purpose, type ServerCorrelations } from './correlations/contract.ts';
import { comparisonBytes, evaluateComparisons } from './correlations/dcf.ts';
import { expandWindows } from './correlations/dcf-window.ts';
import { type Held, type Machine, type Numbered, receive, Scratch, type Step, send } from './protocol.ts';

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

interface Side {
  readonly party: 0 | 1;
  /** δ; freed here. */
  readonly delta: Block;
  readonly seeds: Uint8Array;
  readonly keys: Uint8Array;
  /** This side's share of y, where a knot has a slope; freed here. */
  readonly mask: Block | undefined;
}

/** Comparisons evaluated at a time. */
const pointsAtOnce = 2 ** 16;
/** Points of windows expanded at a time. */
const leavesAtOnce = 2 ** 15;

export function* clientPiecewise(
  machine: Machine & { cipher: PointFunctionCipher; correlations: ClientCorrelations },
  node: Node,
): Step {
  const { kernels, correlations } = machine;
  const count = size(node.shape);
  const message = yield* receive();
  const delta = kernels.allocate(count);
  kernels.unpack(delta, message, node.parameters.bits);
  const sloped = piecewiseShape(node.parameters).valueWords === 2;
  return shares(machine, node, {
    party: 0,
    delta,
    seeds: correlations.pads.bytes(node.index, purpose.seeds, count * 16),
    keys: correlations.lookup(node.index, 0),
    mask: sloped ? correlations.pads.words(node.index, purpose.share, count) : undefined,
  });
}

export function* serverPiecewise(
  machine: Machine & { cipher: PointFunctionCipher; correlations: ServerCorrelations },
  node: Node,
  x: Held,
): Step {
  const { kernels, correlations, ring } = machine;
  const count = size(node.shape);
  const { bits } = node.parameters;
  const delta = correlations.pads.words(node.index, purpose.mask, count);
  kernels.subtract(delta, x.block!, delta);
  kernels.mask(delta, delta, bits);
  yield* send(kernels.pack(delta, bits));
  const material = correlations.lookup(node.index, 0);
  const shape = piecewiseShape(node.parameters);
  const keyBytes = count * comparisonBytes({ ...shape, wordBits: wordBitsOf(ring.bits) });
  let mask: Block | undefined;
  if (shape.valueWords === 2) {
    mask = kernels.allocate(count);
    kernels.unpack(mask, material.subarray(keyBytes, keyBytes + packedBytes(count, ring.bits)), ring.bits);
  }
  const seeds = correlations.pads.bytes(node.index, purpose.seeds, count * 16);
  return shares(machine, node, { party: 1, delta, seeds, keys: material.subarray(0, keyBytes), mask });
}

function shares(machine: Machine & { cipher: PointFunctionCipher }, node: Node, side: Side): Held {
  const { kernels } = machine;
  const { bits, knots, coefficients } = node.parameters;
  const scratch = new Scratch(kernels);
  const e = scratch.own(side.delta);
  if (side.mask !== undefined) scratch.own(side.mask);
  kernels.addScalar(e, e, 1n << BigInt(bits - 1));
  kernels.mask(e, e, bits);
  const out = scratch.new(e.length);
  kernels.fill(out, 0n);
  if (knots.length > 0) addKnots(machine, node, side, e, out);
  if (coefficients.length > 0) addTable(machine, node, side, e, out);
  return scratch.end(out);
}

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

const part = (kernels: RingKernels, block: Block, first: number, length: number): Block => ({
  offset: block.offset + (first * kernels.wordBits) / 8,
  length,
});

/** Step 3, a bounded number of elements at a time. */
function addKnots(machine: Machine & { cipher: PointFunctionCipher }, node: Node, side: Side, e: Block, out: Block): void {
  const { kernels } = machine;
  const { bits, drop, knots, offsets, slopes } = node.parameters;
  const shape = piecewiseShape(node.parameters);
  const { k } = shape;
  const P = knots.length;
  const half = 1n << BigInt(bits - 1);
  // offset + slope · x = (offset − slope · 2^{n−1}) + slope · X.
  const shifted = Array.from(offsets, (offset, p) => BigInt(offset) - BigInt(slopes[p]!) * half);
  const sum = (values: Iterable<bigint>): bigint => [...values].reduce((total, value) => total + value, 0n);
  const bigSlopes = Array.from(slopes, BigInt);
  const outer = new Scratch(kernels);
  const [o, s] = [outer.own(words(kernels, shifted)), outer.own(words(kernels, bigSlopes))];
  const limits = Float64Array.from([...Array.from(knots, (knot) => knot + 2 ** (k - 1) - 1), 2 ** k - 1]);
  const keyBytes = comparisonBytes({ ...shape, wordBits: kernels.wordBits });
  const atOnce = Math.max(1, Math.floor(pointsAtOnce / (P + 1)));
  for (let first = 0; first < e.length; first += atOnce) {
    const rows = Math.min(atOnce, e.length - first);
    const scratch = new Scratch(kernels);
    const [eHere, outHere] = [part(kernels, e, first, rows), part(kernels, out, first, rows)];
    const index = scratch.new(rows);
    kernels.shiftRight(index, eHere, drop, bits);
    const wide = scratch.new(rows * (P + 1));
    kernels.gather(wide, index, [rows, P + 1], [1, 0], 0);
    const points = scratch.own(constant(kernels, limits, [P + 1], [rows, P + 1]));
    kernels.subtract(points, points, wide);
    const omega = scratch.new(rows * P);
    kernels.gather(omega, points, [rows, P], [P + 1, 1], 0);
    kernels.shiftRight(omega, omega, kernels.wordBits - 1, kernels.wordBits);
    kernels.mask(points, points, k);
    const V = shape.valueWords;
    const values = evaluateComparisons({
      ...shape,
      wordBits: kernels.wordBits,
      party: side.party,
      seeds: side.seeds.subarray(first * 16, (first + rows) * 16),
      corrections: side.keys.subarray(first * keyBytes, (first + rows) * keyBytes),
      encryptBlocks: machine.cipher,
      points: kernels.bytes(points).slice(),
      pointsPerKey: P + 1,
    });
    const D = scratch.new(rows * (P + 1) * V);
    kernels.bytes(D).set(values);
    const atKnots = (word: number): Block => {
      const block = scratch.new(rows * P);
      kernels.gather(block, D, [rows, P], [(P + 1) * V, V], word);
      return block;
    };
    const atEnd = (word: number): Block => {
      const block = scratch.new(rows);
      kernels.gather(block, D, [rows], [(P + 1) * V], P * V + word);
      return block;
    };
    const times = { batch: 1, m: rows, k: P, n: 1 };
    const product = (matrix: Block, vector: Block): Block => {
      const block = scratch.new(rows);
      kernels.matmul(block, matrix, vector, times);
      return block;
    };
    const [one, end] = [atKnots(0), atEnd(0)];
    kernels.add(outHere, outHere, product(one, o));
    const ends = scratch.new(rows);
    kernels.multiplyScalar(ends, end, sum(shifted));
    kernels.subtract(outHere, outHere, ends);
    if (side.party === 1) kernels.add(outHere, outHere, product(omega, o));
    if (V === 2) {
      const factor = product(one, s);
      kernels.multiplyScalar(ends, end, sum(bigSlopes));
      kernels.subtract(factor, factor, ends);
      const slopeOmega = product(omega, s);
      if (side.party === 1) kernels.add(factor, factor, slopeOmega);
      kernels.multiplyAdd(outHere, eHere, factor);
      kernels.add(outHere, outHere, product(atKnots(1), s));
      kernels.multiplyScalar(ends, atEnd(1), sum(bigSlopes));
      kernels.subtract(outHere, outHere, ends);
      kernels.multiplyAdd(outHere, slopeOmega, part(kernels, side.mask!, first, rows));
      kernels.multiply(one, one, omega);
      const wrapped = product(one, s);
      kernels.shiftLeft(wrapped, wrapped, bits);
      kernels.subtract(outHere, outHere, wrapped);
    }
    scratch.freeAll();
  }
  outer.freeAll();
}

/** Step 4. */
function addTable(machine: Machine & { cipher: PointFunctionCipher }, node: Node, side: Side, e: Block, out: Block): void {
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
  expandWindows(
    {
      ...shape,
      wordBits: kernels.wordBits,
      party: side.party,
      seeds: side.seeds,
      corrections: side.keys,
      encryptBlocks: machine.cipher,
      windowBits,
      windows: kernels.bytes(windows).slice(),
      chunk: atOnce,
    },
    (first, count, parts) => {
      parts.forEach((bytes, q) => {
        const vector = part(kernels, vectors[q]!, 0, count * 2 * nodes);
        kernels.bytes(vector).set(bytes);
        tables.forEach((table, d) => {
          if (q > d) return;
          kernels.rotatedInner(part(kernels, inner[d]![q]!, first, count), vector, table, part(kernels, turn, first, count));
        });
      });
    },
  );
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
