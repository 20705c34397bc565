import { size } from '../../../program/index.ts';
import type { NodeWith } from '../node.ts';
import { wordBitsOf } from '../sizes.ts';
import type { RingRow } from './row.ts';

export interface Lookup {
  readonly indexBits: number;
  readonly tables: readonly Float64Array[];
}

/** Secret indices of a lookup: one row of the result each, in every table. */
export const lookupRows = ({ shape, parameters }: NodeWith<string, Lookup>): number => size(shape) / parameters.tables.length;

/**
 * Correction bytes of one distributed point function over 2^indexBits points: a seed and two control bits a level, and one block of
 * words at the leaf, which holds up to 128 bits of them.
 */
export function pointFunctionBytes(indexBits: number, wordBits: 32 | 64): number {
  const leafBits = Math.min(indexBits, wordBits === 64 ? 1 : 2);
  const levels = indexBits - leafBits;
  return 16 * levels + Math.ceil(levels / 8) + 2 ** leafBits * (wordBits / 8);
}

/**
 * Public tables of 2^indexBits integers, read at a shared index; the result has a leading axis, one entry a table. A floating index comes with
 * its exchange, and nothing is sent then.
 */
export const lookup: RingRow<'lookup', Lookup> = {
  messages: (node) =>
    node.inputs.length > 1 ? {} : { serverToClient: [{ count: lookupRows(node), width: node.parameters.indexBits }] },
  keys: (node, { ring }) => {
    const keys = lookupRows(node) * pointFunctionBytes(node.parameters.indexBits, wordBitsOf(ring.bits));
    return { dealerToServer: keys, dealerToClient: keys };
  },
  work: (node) => ({
    expandedPoints: lookupRows(node) * 2 ** node.parameters.indexBits,
    keyLevels: lookupRows(node) * node.parameters.indexBits,
  }),
  meaning: ({ kernels, guard }, node, x) => {
    const { indexBits, tables } = node.parameters;
    const indices = guard.integers(x!.block);
    const results = new Float64Array(tables.length * indices.length);
    indices.forEach((index, row) => {
      // The rounding of an index may reach one past either end, where rotation reads the other end's entry.
      if (index < 0 || index >= 2 ** indexBits) guard.beyondTable(node, index, 2 ** indexBits);
      tables.forEach((values, t) => {
        results[t * indices.length + row] = values[index]!;
      });
    });
    const block = kernels.allocate(results.length);
    kernels.encode(block, results, 0, kernels.wordBits);
    return guard.measured(block);
  },
};
