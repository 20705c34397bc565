import { size } from '../../program/index.ts';
import type { RingNode, RingProgram } from './types.ts';

export type Direction = 'clientToServer' | 'serverToClient';

/** One node's words in one frame. `bits` lists the packed fields: count elements of width bits each. */
export interface Message {
  readonly node: number;
  readonly fields: readonly { readonly count: number; readonly width: number }[];
  readonly bytes: number;
}

/** What one party says in its turn: one frame in the order of the run, or several where it has more than `mostFrameBytes`. */
export interface Hop {
  readonly direction: Direction;
  readonly messages: readonly Message[];
  readonly bytes: number;
  /** Frames, full but for the last one; the messages are cut where they end. */
  readonly frames: number;
  /** On the heels of the frame before, in its direction: what it says took time to compute, but nobody had to wait for an answer. */
  readonly follows: boolean;
}

/** No frame of a run is longer, whatever the model: what a party builds, a channel holds and a peer takes at once. */
export const mostFrameBytes = 16 * 2 ** 20;

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

const bytesOf = (fields: readonly { count: number; width: number }[]): number =>
  fields.reduce((sum, field) => sum + packedBytes(field.count, field.width), 0);

/** Hops alternate, the client first: odd ones are the client's. */
const nextHop = (direction: Direction, after: number): number => {
  const parity = direction === 'clientToServer' ? 1 : 0;
  return after + 1 + ((after + 1) % 2 === parity ? 0 : 1);
};

/**
 * Which hop carries which message: every message goes with the first hop of its direction after its sender has what it needs. Both
 * parties derive this from the program alone, so frames have no tags and a frame of the wrong size is refused. A client's input
 * waits for every output revealed before it in the program (a token is chosen from them). What the server computes from a piecewise
 * polynomial goes in a frame of its own behind the masked argument, so that the client evaluates its keys at the same time.
 */
export function schedule(program: RingProgram): Hop[] {
  const clientHas = new Int32Array(program.nodes.length);
  const serverHas = new Int32Array(program.nodes.length);
  /** The hop whose first frame leaves before the server computes this value. */
  const serverLate = new Int32Array(program.nodes.length);
  const hops: { direction: Direction; messages: Message[]; late: Message[] }[] = [];
  let revealed = 0;
  const send = (
    direction: Direction,
    after: number,
    node: number,
    fields: { count: number; width: number }[],
    late = 0,
  ): number => {
    const hop = nextHop(direction, after);
    while (hops.length < hop) {
      const turn = hops.length % 2 === 0 ? 'clientToServer' : 'serverToClient';
      hops.push({ direction: turn, messages: [], late: [] });
    }
    const at = hops[hop - 1]!;
    (late === hop ? at.late : at.messages).push({ node, fields, bytes: bytesOf(fields) });
    return hop;
  };
  program.nodes.forEach((node, index) => {
    let client = 0;
    let server = 0;
    let late = 0;
    for (const input of node.inputs) {
      client = Math.max(client, clientHas[input]!);
      server = Math.max(server, serverHas[input]!);
      late = Math.max(late, serverLate[input]!);
    }
    const { clientToServer, serverToClient } = messagesOf(node, program);
    if (node.operation === 'clientInput') client = revealed;
    if (serverToClient !== undefined) {
      const hop = send('serverToClient', server, index, serverToClient, late);
      client = Math.max(client, hop);
      if (node.operation === 'piecewise') late = Math.max(late, hop);
    }
    if (clientToServer !== undefined) server = Math.max(server, send('clientToServer', client, index, clientToServer));
    // What the server sends about a value, it does not need itself: a product waits for the client's side of the opening only.
    clientHas[index] = client;
    serverHas[index] = server;
    serverLate[index] = late;
    if (node.operation === 'reveal') revealed = Math.max(revealed, client);
  });
  const frame = (direction: Direction, messages: Message[], follows: boolean): Hop => {
    const bytes = messages.reduce((sum, message) => sum + message.bytes, 0);
    return { direction, messages, bytes, frames: Math.ceil(bytes / mostFrameBytes), follows };
  };
  return hops
    .flatMap(({ direction, messages, late }) => [frame(direction, messages, false), frame(direction, late, true)])
    .filter((hop) => hop.messages.length > 0);
}
