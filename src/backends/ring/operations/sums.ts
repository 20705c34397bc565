import { constant } from '../../../kernels/index.ts';
import type { Shape } from '../../../program/index.ts';
import { type Exact, type FixedValue, largestProduct, made, sum as summed, times } from '../exact.ts';
import type { NodeWith } from '../node.ts';
import type { RingRow } from './row.ts';

/** What is the same on shares as on values: sums and public factors. */
export const add: RingRow<'add', object> = { meaning: (exact, node, x, y) => summed(exact, node, x!, y!, 1) };
export const subtract: RingRow<'subtract', object> = { meaning: (exact, node, x, y) => summed(exact, node, x!, y!, -1) };

/** (shared, server's plaintext of the same shape): onto the server's share. */
export const addServer: RingRow<'addServer', object> = { meaning: (exact, node, x, y) => summed(exact, node, x!, y!, 1) };

/** A server's plaintext as a shared value: the client's share is zero. */
export const fromServer: RingRow<'fromServer', object> = { meaning: (_, __, x) => x! };

export interface Constant {
  readonly values: Float64Array;
  readonly constantShape: Shape;
}
/** Integers of shape `constantShape`, broadcast: onto the server's share. */
export const addConstant: RingRow<'addConstant', Constant> = {
  meaning: (exact, node, x) => withConstant(exact, node, (c) => summed(exact, node, x!, c, 1)),
};
export const multiplyConstant: RingRow<'multiplyConstant', Constant> = {
  meaning: (exact, node, x) => withConstant(exact, node, (c) => times(exact, node, x!, c)),
};

function withConstant(
  { kernels, guard }: Exact,
  { parameters, shape }: NodeWith<string, Constant>,
  f: (c: FixedValue) => FixedValue,
): FixedValue {
  const block = constant(kernels, parameters.values, parameters.constantShape, shape);
  const result = f(guard.measured(block));
  kernels.free(block);
  return result;
}

/** With `wraps`, only the low bits of the product are meant. */
export const multiplyInteger: RingRow<'multiplyInteger', { readonly by: number; readonly wraps?: boolean }> = {
  meaning: (exact, node, x) => {
    const { kernels, guard } = exact;
    const { by, wraps } = node.parameters;
    const product = (): FixedValue => made(exact, x!.block.length, (out) => kernels.multiplyScalar(out, x!.block, BigInt(by)));
    if (wraps === true) return product();
    // A slice keeps the bound of the whole that it was cut from: where that is too much, its own values count.
    guard.within(node, x!.most * Math.abs(by), () => guard.measured(x!.block).most * Math.abs(by));
    return product();
  },
};

/** (outer, axis, inner) → (outer, 1, inner). */
export const sum: RingRow<'sum', { readonly outer: number; readonly axis: number; readonly inner: number }> = {
  meaning: (exact, node, x) => {
    const { kernels, guard } = exact;
    const { outer, axis, inner } = node.parameters;
    guard.within(node, x!.most * axis, () =>
      largestProduct(new Float64Array(outer * axis).fill(1), guard.integers(x!.block), { batch: outer, m: 1, k: axis, n: inner }),
    );
    return made(exact, outer * inner, (out) => kernels.sum(out, x!.block, outer, axis, inner));
  },
};
