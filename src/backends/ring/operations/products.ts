import { size } from '../../../program/index.ts';
import { contract, times } from '../exact.ts';
import { type AnyNode, type AnyProgram, modulusOf } from '../node.ts';
import type { RingRow } from './row.ts';

/** Masks a pinned value and gives it to the client. */
export const open: RingRow<'open', object> = {
  messages: (node, program) => ({ serverToClient: [{ count: size(node.shape), width: modulusOf(node, program) }] }),
  meaning: (_, __, x) => x!,
};

/** The server's share of the product of what is masked. */
const whole = (node: AnyNode, program: AnyProgram) => [modulusOf(node, program)];

/** (pinned, its opening). */
export const square: RingRow<'square', object> = {
  corrections: whole,
  meaning: (exact, node, x) => times(exact, node, x!, x!),
};

/** (x, y, opening of x, opening of y), elementwise. */
export const product: RingRow<'product', object> = {
  corrections: whole,
  meaning: (exact, node, x, y) => times(exact, node, x!, y!),
};

/** The same for batches of matrices. */
export const matrixProduct: RingRow<
  'matrixProduct',
  { readonly batch: number; readonly m: number; readonly k: number; readonly n: number }
> = {
  corrections: whole,
  work: ({ parameters: { batch, m, k, n } }) => ({ products: { count: batch * m * k * n, rows: m } }),
  meaning: (exact, node, x, y) => contract(exact, node, x!, y!, node.parameters),
};
