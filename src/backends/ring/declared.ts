import { size } from '../../program/index.ts';
import type { AnyNode, AnyProgram } from './node.ts';
import { ringRows } from './operations/index.ts';
import type { RingRow, Work } from './operations/row.ts';
import { type Material, type Messages, type Piece, packedBytes } from './sizes.ts';

/** What a node's operation declares (operations/row.ts), by node: schedules, forecasts and checks read it here. */

type Row = RingRow<string, unknown>;
/** A row with every field, so that reading one is the same for all operations: this is asked for every node of long programs. */
const whole = ({ messages, corrections, keys, pieces, late, source, reveals, masksWeight, form, work, meaning }: Row) => ({
  ...{ messages, corrections, keys, pieces, late, source, reveals, masksWeight, form, work, meaning },
});
const rows = new Map(Object.entries(ringRows).map(([operation, row]) => [operation, whole(row as Row) as Row]));

export const rowOf = ({ operation }: AnyNode): Row => rows.get(operation)!;

const silent: Messages = {};
/** What a node sends online each way, as packed fields: the protocol's declaration, checked against every run. */
export const messagesOf = (node: AnyNode, program: AnyProgram): Messages => rowOf(node).messages?.(node, program) ?? silent;

/** Bits of a node's corrections, field behind field; empty where it has none. */
export const correctionsOf = (node: AnyNode, program: AnyProgram): readonly number[] =>
  rowOf(node).corrections?.(node, program) ?? [];

const nothing: Material = { dealerToServer: 0, dealerToClient: 0, clientToServer: 0 };

/** What a node costs offline under the dealer and the helper: the declaration that every run is checked against. */
export function materialOf(node: AnyNode, program: AnyProgram): Material {
  const { keys, corrections, masksWeight } = rowOf(node);
  if (keys !== undefined) return { ...keys(node, program), clientToServer: 0 };
  if (corrections === undefined) return nothing;
  let bytes = 0;
  for (const width of corrections(node, program)) bytes += packedBytes(size(node.shape), width);
  return { dealerToServer: bytes, dealerToClient: 0, clientToServer: masksWeight === true ? bytes : 0 };
}

/** Whether the dealer's material is needed for a node. */
export function isDealt(node: AnyNode): boolean {
  const { corrections, keys } = rowOf(node);
  return corrections !== undefined || keys !== undefined;
}

/** Keys of comparison functions are made, sent, loaded and used in pieces of at most this many bytes, whatever the layer's size. */
export const pieceBytes = 8 * 2 ** 20;

/** How a node's material from the dealer is cut: into pieces of at most `limitBytes` where its operation can be cut. */
export function piecesOf(node: AnyNode, program: AnyProgram, limitBytes = pieceBytes): Piece[] {
  const cut = rowOf(node).pieces?.(node, program, limitBytes);
  if (cut !== undefined) return cut;
  const { dealerToServer, dealerToClient } = materialOf(node, program);
  return [{ first: 0, rows: size(node.shape), dealerToServer, dealerToClient }];
}

export const workOf = (node: AnyNode): Work => rowOf(node).work?.(node) ?? {};

/** A node's operation, with what its speed depends on beside that. */
export const formOf = (node: AnyNode, program: AnyProgram): string => rowOf(node).form?.(node, program) ?? node.operation;

/** The server inputs that meet a secret in a linear map: their masked form is what the setup hands to the dealer. */
export function maskedWeights(program: AnyProgram): number[] {
  const marks = maskedNodes(program);
  return program.nodes.flatMap((node, index) => (marks[index] === 1 && rowOf(node).source === 'server' ? [index] : []));
}

/** For every node, whether a mask of it exists (the server's weights of linear maps and their moves). */
export function maskedNodes(program: AnyProgram): Uint8Array {
  const marks = new Uint8Array(program.nodes.length);
  const visit = (index: number): void => {
    if (marks[index] === 1) return;
    marks[index] = 1;
    for (const input of program.nodes[index]!.inputs) visit(input);
  };
  for (const node of program.nodes) if (rowOf(node).masksWeight === true) visit(node.inputs[1]!);
  return marks;
}
