import { size } from '../../../program/index.ts';
import { truncated } from '../exact.ts';
import { type AnyNode, type AnyProgram, modulusOf, ofPinned } from '../node.ts';
import type { RingRow } from './row.ts';

/** A pinned value's truncation is another protocol than a floating one's. */
const form = (node: AnyNode, program: AnyProgram): string =>
  ofPinned(node, program) ? `${node.operation} pinned` : node.operation;

export const truncate: RingRow<'truncate', { readonly bits: number }> = {
  form,
  messages: (node, program) => {
    const count = size(node.shape);
    const answer = ofPinned(node, program)
      ? [{ count, width: node.parameters.bits }]
      : [
          { count, width: 1 },
          { count, width: program.ring.bits },
        ];
    return { serverToClient: [{ count, width: 1 }], clientToServer: answer };
  },
  corrections: ({ parameters }) => [parameters.bits],
  meaning: (exact, node, x) => truncated(exact, node, x!, node.parameters.bits),
};

/**
 * Truncation from Z_2^M, the whole ring or a smaller one, into Z_2^(M − bits): no wrap bit, and for a pinned input no message. Its result enters
 * only what accepts values of smaller rings: sums, moves, openings, linear maps and matrix products there, lookups (which look at low bits alone).
 */
export const narrow: RingRow<'narrow', { readonly bits: number }> = {
  form,
  messages: (node, program) =>
    ofPinned(node, program) ? {} : { clientToServer: [{ count: size(node.shape), width: modulusOf(node, program) }] },
  meaning: (exact, node, x) => truncated(exact, node, x!, node.parameters.bits),
};

/** A floating value gets a client share that was fixed before; with `width`, only its low bits stay valid. */
export const pin: RingRow<'pin', { readonly width?: number }> = {
  messages: (node, program) => ({
    clientToServer: [{ count: size(node.shape), width: node.parameters.width ?? modulusOf(node, program) }],
  }),
  meaning: (_, __, x) => x!,
};
