import { contract, times } from '../exact.ts';
import type { RingRow } from './row.ts';

/** (pinned (m, k), server (k, n)). */
export const linear: RingRow<
  'linear',
  { readonly m: number; readonly k: number; readonly n: number; readonly modulus?: number }
> = {
  masksWeight: true,
  corrections: ({ parameters }, { ring }) => [parameters.modulus ?? ring.bits],
  work: ({ parameters: { m, k, n } }) => ({ products: { count: m * k * n, rows: m } }),
  meaning: (exact, node, x, w) => contract(exact, node, x!, w!, { batch: 1, ...node.parameters }),
};

/** (pinned, server) of one shape, elementwise. */
export const diagonal: RingRow<'diagonal', object> = {
  masksWeight: true,
  corrections: (_, { ring }) => [ring.bits],
  meaning: (exact, node, x, w) => times(exact, node, x!, w!),
};
