import { size } from '../../../program/index.ts';
import { truncated } from '../exact.ts';
import { type AnyNode, type AnyProgram, ofPinned } from '../node.ts';
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
 * Truncation into the smaller ring Z_2^(L − bits): no wrap bit, and for a pinned input no message. Its result enters only what
 * accepts narrow values: subtract, move, lookup (which looks at low bits alone) and openNarrow.
 */
export const narrow: RingRow<'narrow', { readonly bits: number }> = {
  form,
  messages: (node, program) =>
    ofPinned(node, program)
      ? {}
      : { clientToServer: [{ count: size(node.shape), width: program.ring.bits - node.parameters.bits }] },
  meaning: (exact, node, x) => truncated(exact, node, x!, node.parameters.bits),
};

/** A floating value gets a client share that was fixed before; with `width`, only its low bits stay valid. */
export const pin: RingRow<'pin', { readonly width?: number }> = {
  messages: ({ shape, parameters }, { ring }) => ({
    clientToServer: [{ count: size(shape), width: parameters.width ?? ring.bits }],
  }),
  meaning: (_, __, x) => x!,
};
