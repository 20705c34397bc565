import { size } from '../../program/index.ts';
import { packedBytes } from './messages.ts';
import type { Piecewise, RingNode, RingProgram } from './types.ts';

/** Bytes of correlated material that one node needs, by who sends them to whom in the offline phase. */
export interface Material {
  readonly dealerToServer: number;
  readonly dealerToClient: number;
  readonly clientToServer: number;
}

/** Operations that the dealer's material is needed for. */
export const dealtOperations: ReadonlySet<string> = new Set([
  'linear',
  'diagonal',
  'square',
  'product',
  'matrixProduct',
  'truncate',
  'lookup',
  'piecewise',
  'unmask',
  'narrowSquare',
  'narrowProduct',
] satisfies RingNode['operation'][]);

const nothing: Material = { dealerToServer: 0, dealerToClient: 0, clientToServer: 0 };

/** 32-bit words serve rings up to 32 bits, 64-bit words the wider ones. */
export const wordBitsOf = (ringBits: number): 32 | 64 => (ringBits <= 32 ? 32 : 64);

/**
 * Correction bytes of one distributed point function over 2^indexBits points: a seed and two control bits a level, and one block of
 * words at the leaf, which holds up to 128 bits of them.
 */
export function pointFunctionBytes(indexBits: number, wordBits: 32 | 64): number {
  const leafBits = Math.min(indexBits, wordBits === 64 ? 1 : 2);
  const levels = indexBits - leafBits;
  return 16 * levels + Math.ceil(levels / 8) + 2 ** leafBits * (wordBits / 8);
}

/** Index bits and key words of a piecewise polynomial: (1, x) where a knot has a slope, (1, r, r²) up to its table's degree. */
export function piecewiseShape({ bits, drop, knots, slopes, coefficients }: Piecewise): {
  k: number;
  valueWords: number;
  leafWords: number;
} {
  const valueWords = knots.length === 0 ? 0 : slopes.some((slope) => slope !== 0) ? 2 : 1;
  return { k: bits - drop, valueWords, leafWords: coefficients.length };
}

/** Correction bytes of one key of a piecewise polynomial. */
function piecewiseBytes(parameters: Piecewise, wordBits: 32 | 64): number {
  const { k, valueWords, leafWords } = piecewiseShape(parameters);
  return 16 * k + ((k + 1) * valueWords + leafWords) * (wordBits / 8);
}

/**
 * Bits of every correction of the operations on narrow values, in the order in which they are sent: the carry of the masks and the top
 * bit of α for `unmask`; α² or α_x α_y, then the top bits times α, for the products. What is multiplied by 2^m counts modulo 2^(L − m).
 */
export function correctionWidths(node: RingNode, bits: number): number[] {
  switch (node.operation) {
    case 'unmask':
      return [bits - node.parameters.modulus, bits - node.parameters.modulus];
    case 'narrowSquare':
      return [bits, bits - node.parameters.modulus];
    case 'narrowProduct':
      return [bits, ...node.parameters.moduli.map((modulus) => bits - modulus).filter((width) => width > 0)];
    default:
      return [];
  }
}

/** What a node costs offline under the dealer and the helper: the declaration that every run is checked against. */
export function materialOf(node: RingNode, program: RingProgram): Material {
  const count = size(node.shape);
  const { bits } = program.ring;
  switch (node.operation) {
    case 'linear': {
      const bytes = packedBytes(count, node.parameters.modulus ?? bits);
      return { ...nothing, dealerToServer: bytes, clientToServer: bytes };
    }
    case 'diagonal':
      return { ...nothing, dealerToServer: packedBytes(count, bits), clientToServer: packedBytes(count, bits) };
    case 'square':
    case 'product':
    case 'matrixProduct':
      return { ...nothing, dealerToServer: packedBytes(count, bits) };
    case 'truncate':
      return { ...nothing, dealerToServer: packedBytes(count, node.parameters.bits) };
    case 'unmask':
    case 'narrowSquare':
    case 'narrowProduct': {
      const widths = correctionWidths(node, bits);
      return { ...nothing, dealerToServer: widths.reduce((sum, width) => sum + packedBytes(count, width), 0) };
    }
    case 'lookup': {
      const keys = (count / node.parameters.tables.length) * pointFunctionBytes(node.parameters.indexBits, wordBitsOf(bits));
      return { ...nothing, dealerToServer: keys, dealerToClient: keys };
    }
    case 'piecewise': {
      const keys = count * piecewiseBytes(node.parameters, wordBitsOf(bits));
      const masks = piecewiseShape(node.parameters).valueWords === 2 ? packedBytes(count, bits) : 0;
      return { ...nothing, dealerToServer: keys + masks, dealerToClient: keys };
    }
    default:
      return nothing;
  }
}

/** The server inputs that meet a secret in a linear map: their masked form is what the setup hands to the dealer. */
export function maskedWeights(program: RingProgram): number[] {
  const masked = new Set<number>();
  const visit = (index: number): void => {
    const node = program.nodes[index]!;
    if (node.operation === 'serverInput') masked.add(index);
    else for (const input of node.inputs) visit(input);
  };
  for (const node of program.nodes) if (node.operation === 'linear' || node.operation === 'diagonal') visit(node.inputs[1]!);
  return [...masked].sort((a, b) => a - b);
}

/** For every node, whether a mask of it exists (the server's weights of linear maps and their moves). */
export function maskedNodes(program: RingProgram): Uint8Array {
  const marks = new Uint8Array(program.nodes.length);
  const visit = (index: number): void => {
    if (marks[index] === 1) return;
    marks[index] = 1;
    for (const input of program.nodes[index]!.inputs) visit(input);
  };
  for (const node of program.nodes) if (node.operation === 'linear' || node.operation === 'diagonal') visit(node.inputs[1]!);
  return marks;
}
