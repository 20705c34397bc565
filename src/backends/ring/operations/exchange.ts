import { size } from '../../../program/index.ts';
import type { RingRow } from './row.ts';

/**
 * What an exchanged value is good for. `whole`: a factor of products in the whole ring, as of `open`. `narrow`: of products of narrow values, as
 * of `openNarrow`. `index`: the low bits that a lookup reads.
 */
export type ExchangeUse = 'whole' | 'narrow' | 'index';

export interface Exchange {
  /** Bits that are dropped before, as in `narrow`. */
  readonly bits: number;
  /** Both halves are sent modulo 2^modulus. */
  readonly modulus: number;
  readonly use: ExchangeUse;
  /** As of `openNarrow`. */
  readonly range?: readonly [low: number, high: number];
}

/**
 * The server's half of a floating value's opening, which it sends before it has heard the client's (`pin` or `narrow` of the same value):
 * the two cross, where an opening of the pinned value waits for the pin.
 */
export const exchange: RingRow<'exchange', Exchange> = {
  messages: ({ shape, parameters }) => ({ serverToClient: [{ count: size(shape), width: parameters.modulus }] }),
  meaning: (_, __, x) => x!,
};

/** (the server's half, the floating value, the same pinned) → what `open` or `openNarrow` of the pinned one is. Nothing is sent. */
export const exchanged: RingRow<'exchanged', Exchange> = {
  meaning: ({ guard }, node, _, __, x) => {
    const { modulus, use, range } = node.parameters;
    if (use === 'narrow' && x!.most >= 2 ** (modulus - 2)) guard.fail(node, x!.most, 'a value of');
    if (range !== undefined) for (const value of guard.integers(x!.block)) guard.between(node, value, range);
    return x!;
  },
};
