import { size } from '../../program/index.ts';
import type { RingNode, RingProgram } from './types.ts';

export type Direction = 'clientToServer' | 'serverToClient';

/** ⌈count·width / 8⌉: fields are packed without gaps and padded to whole bytes. */
export const packedBytes = (count: number, width: number): number => Math.ceil((count * width) / 8);

/** What a node sends online each way, as packed fields: the protocol's declaration, checked against every run. */
export function messagesOf(node: RingNode, program: RingProgram): { [D in Direction]?: { count: number; width: number }[] } {
  const count = size(node.shape);
  const { bits } = program.ring;
  switch (node.operation) {
    case 'pin':
      return { clientToServer: [{ count, width: node.parameters.width ?? bits }] };
    case 'piecewise':
      return { serverToClient: [{ count, width: node.parameters.bits }] };
    case 'clientInput':
      return { clientToServer: [{ count, width: node.parameters.modulus ?? bits }] };
    case 'open':
    case 'reveal':
      return { serverToClient: [{ count, width: bits }] };
    case 'narrow':
      if (program.nodes[node.inputs[0]!]!.state === 'pinned') return {};
      return { clientToServer: [{ count, width: bits - node.parameters.bits }] };
    case 'openNarrow':
      return { serverToClient: [{ count, width: node.parameters.modulus }] };
    case 'lookup':
      return { serverToClient: [{ count: count / node.parameters.tables.length, width: node.parameters.indexBits }] };
    case 'truncate': {
      const pinned = program.nodes[node.inputs[0]!]!.state === 'pinned';
      const answer = pinned
        ? [{ count, width: node.parameters.bits }]
        : [
            { count, width: 1 },
            { count, width: bits },
          ];
      return { serverToClient: [{ count, width: 1 }], clientToServer: answer };
    }
    default:
      return {};
  }
}
