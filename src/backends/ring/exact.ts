import { SottoError } from '../../errors/index.ts';
import { type Block, fresh, type RingKernels } from '../../kernels/index.ts';
import type { Tensor } from '../../program/index.ts';
import type { AnyNode, AnyProgram, RingParameters } from './node.ts';

/** A value of the simulation: its words, and the largest magnitude among them as signed integers. */
export interface FixedValue {
  readonly block: Block;
  readonly most: number;
}

/** Watches that no integer leaves the ring: outside, results are wrong without a sign of it. */
export class RangeGuard {
  readonly #kernels: RingKernels;
  readonly #ring: RingParameters;
  /** Signed integers of the ring lie below this. */
  readonly #limit: number;

  constructor(kernels: RingKernels, ring: RingParameters) {
    this.#kernels = kernels;
    this.#ring = ring;
    this.#limit = 2 ** (ring.bits - 1);
  }

  measured(block: Block): FixedValue {
    return { block, most: this.#kernels.maxAbs(block, this.#ring.bits).value };
  }

  fail(node: AnyNode, integer: number, what: string): never {
    const { bits, fraction } = this.#ring;
    const value = integer / 2 ** node.fraction;
    throw new SottoError(
      'range',
      `${node.operation}: ${what} ${value.toPrecision(4)} does not fit ${bits} bits with ${node.fraction} of fraction`,
      {
        place: { scope: node.scope },
        remedy: `use a wider ring than ${bits} bits, fewer than ${fraction} fraction bits, or recalibrate the plan on data like this`,
      },
    );
  }

  /** A table index is a plain integer: it has no fraction bits, and what helps is another table. */
  beyondTable(node: AnyNode, index: number, entries: number): never {
    throw new SottoError('range', `lookup: index ${index} of a table of ${entries} entries`, {
      place: { scope: node.scope },
      remedy: 'recalibrate the plan on data like this, or with a larger --margin',
    });
  }

  /** The range that an iteration was made for. */
  between(node: AnyNode, value: number, [low, high]: readonly [number, number]): void {
    if (value >= low && value <= high) return;
    const real = (integer: number): string => (integer / 2 ** node.fraction).toPrecision(4);
    const reason = `an argument is ${real(value)} of the power of two above its range, which spans ${real(low)} to ${real(high)} of it`;
    throw new SottoError('range', reason, {
      place: { scope: node.scope },
      remedy: 'recalibrate the plan on data like this, or with a larger --margin',
    });
  }

  /** A cheap bound first; where it does not settle the question, the exact result in float64 does. */
  within(node: AnyNode, bound: number, exact: () => number): void {
    if (bound < this.#limit) return;
    const most = exact();
    if (!(most < this.#limit)) this.fail(node, most, 'a result of');
  }

  /** The range in which truncation is exact. */
  truncatable(node: AnyNode, x: FixedValue, bits: number): void {
    if (x.most > 2 ** (this.#ring.bits - 2) - 2 ** bits) this.fail(node, x.most / 2 ** bits, 'a value of');
  }

  integers(x: Block): Float64Array {
    return this.#kernels.decode(x, 0, this.#ring.bits);
  }
}

/** Rounding offsets ρ of a truncation: x ↦ ⌊(x + 2^f − 1 − ρ) / 2^f⌋. The client's share modulo 2^f in a private run. */
export type RoundingOffsets = (node: number, count: number, bits: number) => Float64Array | undefined;

/** What the exact meaning of an operation is made with. */
export interface Exact {
  readonly kernels: RingKernels;
  readonly program: AnyProgram;
  readonly guard: RangeGuard;
  /** Nearest rounding where a run's are not given. */
  readonly offsets: RoundingOffsets | undefined;
  /** The tensor that this node stands for: the client's, or the server's. */
  readonly source: () => Tensor;
  readonly output: (name: string, value: Tensor) => void;
}

export const made = ({ kernels, guard }: Exact, length: number, write: (out: Block) => void): FixedValue =>
  guard.measured(fresh(kernels, length, write));

export function sum(exact: Exact, node: AnyNode, x: FixedValue, y: FixedValue, sign: 1 | -1): FixedValue {
  const { kernels, guard } = exact;
  guard.within(node, x.most + y.most, () => largest(guard.integers(x.block), guard.integers(y.block), (a, b) => a + sign * b));
  return made(exact, x.block.length, (out) =>
    sign === 1 ? kernels.add(out, x.block, y.block) : kernels.subtract(out, x.block, y.block),
  );
}

export function times(exact: Exact, node: AnyNode, x: FixedValue, y: FixedValue): FixedValue {
  const { kernels, guard } = exact;
  guard.within(node, x.most * y.most, () => largest(guard.integers(x.block), guard.integers(y.block), (a, b) => a * b));
  return made(exact, x.block.length, (out) => kernels.multiply(out, x.block, y.block));
}

export function contract(
  exact: Exact,
  node: AnyNode,
  x: FixedValue,
  y: FixedValue,
  extents: { readonly batch: number; readonly m: number; readonly k: number; readonly n: number },
): FixedValue {
  const { kernels, guard } = exact;
  guard.within(node, extents.k * x.most * y.most, () =>
    largestProduct(guard.integers(x.block), guard.integers(y.block), extents),
  );
  return made(exact, extents.batch * extents.m * extents.n, (out) => kernels.matmul(out, x.block, y.block, extents));
}

/** ⌊(x + 2^f − 1 − ρ) / 2^f⌋. */
export function truncated(exact: Exact, node: AnyNode & { readonly index: number }, x: FixedValue, f: number): FixedValue {
  const { kernels, guard, program } = exact;
  guard.truncatable(node, x, f);
  const offsets = exact.offsets?.(node.index, x.block.length, f);
  return made(exact, x.block.length, (out) => {
    if (offsets === undefined) kernels.addScalar(out, x.block, BigInt(2) ** BigInt(f - 1) - 1n);
    else {
      kernels.encode(
        out,
        offsets.map((rho) => 2 ** f - 1 - rho),
        0,
        kernels.wordBits,
      );
      kernels.add(out, out, x.block);
    }
    kernels.shiftRightSigned(out, out, f, program.ring.bits);
  });
}

/** max |Σ a·b| over the results of a batch of matrix products, in float64. */
export function largestProduct(
  a: Float64Array,
  b: Float64Array,
  size: { batch: number; m: number; k: number; n: number },
): number {
  const { batch, m, k, n } = size;
  const row = new Float64Array(n);
  let most = 0;
  for (let at = 0; at < batch * m; at++) {
    row.fill(0);
    const base = Math.floor(at / m) * k * n;
    for (let l = 0; l < k; l++) {
      const x = a[at * k + l]!;
      if (x === 0) continue;
      for (let j = 0; j < n; j++) row[j]! += x * b[base + l * n + j]!;
    }
    for (let j = 0; j < n; j++) most = Math.max(most, Math.abs(row[j]!));
  }
  return most;
}

/** max |f(a, b)| elementwise. */
function largest(a: Float64Array, b: Float64Array, f: (x: number, y: number) => number): number {
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(f(a[i]!, b[i]!)));
  return most;
}
