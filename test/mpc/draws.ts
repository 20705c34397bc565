import { correctionsOf, modulusOf, piecewiseShape, type RingNode, type RingProgram } from '../../src/backends/ring/index.ts';
import { size } from '../../src/program/index.ts';

/** The streams of pads by what they are for, apart from the rows that draw them: these numbers are frozen. */
export const purpose = {
  share: 0,
  blind: 1,
  wrap: 0,
  low: 1,
  top: 1,
  pinned: 2,
  fields: 0,
  mask: 0,
  seeds: 1,
} as const;

export type Side = 'client' | 'server';

/** One draw of a pad: which node and purpose, how many words (or bytes) for all lanes, and how many of their bits are used. */
export interface Draw {
  readonly side: Side;
  readonly purpose: number;
  readonly count: number;
  readonly width: number;
  readonly kind: 'words' | 'bytes';
}

/** THE table of what each operation draws: what the pads test compares runs with, and what is enumerated here. */
export function drawsOf(node: RingNode, program: RingProgram): Draw[] {
  const count = size(node.shape);
  const L = program.ring.bits;
  const own = modulusOf(node, program);
  const words = (side: Side, at: number, width: number, length = count): Draw => ({
    side,
    purpose: at,
    count: length,
    width,
    kind: 'words',
  });
  switch (node.operation) {
    case 'clientInput':
      return [words('client', purpose.share, node.parameters.modulus ?? L)];
    case 'pin':
      return [words('client', purpose.share, node.parameters.width ?? own)];
    case 'square':
    case 'product':
    case 'matrixProduct':
      return [words('client', purpose.share, own)];
    case 'linear': {
      const width = node.parameters.modulus ?? L;
      return [words('client', purpose.share, width), words('client', purpose.blind, width)];
    }
    case 'diagonal':
      return [words('client', purpose.share, L), words('client', purpose.blind, L)];
    case 'open':
      return [words('server', purpose.mask, own)];
    case 'truncate': {
      const f = node.parameters.bits;
      const common = [words('server', purpose.mask, 1), words('client', purpose.wrap, f)];
      return program.nodes[node.inputs[0]!]!.state === 'pinned'
        ? [...common, words('client', purpose.low, f)]
        : [...common, words('client', purpose.top, 1), words('client', purpose.pinned, L)];
    }
    case 'narrow':
      return program.nodes[node.inputs[0]!]!.state === 'pinned' ? [] : [words('client', purpose.share, own)];
    case 'openNarrow':
      return [words('server', purpose.mask, node.parameters.modulus)];
    case 'exchange':
      return [words('server', purpose.mask, node.parameters.modulus)];
    case 'unmask':
    case 'narrowSquare':
    case 'narrowProduct':
      return correctionsOf(node, program).flatMap((width, field) =>
        width === 0 ? [] : [words('client', purpose.fields + field, width)],
      );
    case 'lookup': {
      const rows = count / node.parameters.tables.length;
      const seeds = { purpose: purpose.seeds, count: rows * 16, width: 8, kind: 'bytes' } as const;
      return [
        // A floating index has its exchange's.
        ...(node.inputs.length > 1 ? [] : [words('server', purpose.mask, node.parameters.indexBits, rows)]),
        { side: 'client', ...seeds },
        { side: 'server', ...seeds },
      ];
    }
    case 'piecewise': {
      const seeds = { purpose: purpose.seeds, count: count * 16, width: 8, kind: 'bytes' } as const;
      const shares = piecewiseShape(node.parameters).valueWords === 2 ? [words('client', purpose.share, L)] : [];
      return [
        ...shares,
        words('server', purpose.mask, node.parameters.bits),
        { side: 'client', ...seeds },
        { side: 'server', ...seeds },
      ];
    }
    default:
      return [];
  }
}
