import { size } from '../../../program/index.ts';
import { materialOf, packedBytes, piecewiseShape, type RingNode, type RingProgram, wordBitsOf } from '../../ring/index.ts';
import { comparisonBytes } from './dcf-format.ts';

/** Keys of comparison functions are made, sent, loaded and used in pieces of at most this many bytes, whatever the layer's size. */
export const pieceBytes = 8 * 2 ** 20;

/** Part of one node's material: its rows, and the bytes to each party. */
export interface Piece {
  readonly first: number;
  readonly rows: number;
  readonly dealerToServer: number;
  readonly dealerToClient: number;
}

/**
 * How a node's material from the dealer is cut: a piecewise polynomial's into keys of some rows, followed for the server by the words of
 * those rows where a knot has a slope; everything else is one piece. Rows of a piece are a multiple of 8, so that packed words add up to
 * what they take together.
 */
export function piecesOf(node: RingNode, program: RingProgram, limitBytes = pieceBytes): Piece[] {
  const { dealerToServer, dealerToClient } = materialOf(node, program);
  const count = size(node.shape);
  if (node.operation !== 'piecewise') return [{ first: 0, rows: count, dealerToServer, dealerToClient }];
  const shape = piecewiseShape(node.parameters);
  const keyBytes = comparisonBytes({ ...shape, wordBits: wordBitsOf(program.ring.bits) });
  const atOnce = Math.max(8, Math.floor(limitBytes / keyBytes / 8) * 8);
  return Array.from({ length: Math.ceil(count / atOnce) }, (_, piece) => {
    const first = piece * atOnce;
    const rows = Math.min(atOnce, count - first);
    const words = shape.valueWords === 2 ? packedBytes(rows, program.ring.bits) : 0;
    return { first, rows, dealerToServer: rows * keyBytes + words, dealerToClient: rows * keyBytes };
  });
}
