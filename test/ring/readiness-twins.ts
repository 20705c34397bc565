import { sectionEnds } from '../../src/backends/cost/index.ts';
import {
  type Direction,
  type Hop,
  type Message,
  materialOf,
  messagesOf,
  mostFrameBytes,
  packedBytes,
  type RingProgram,
  type Side,
  schedule,
} from '../../src/backends/ring/index.ts';

/** The analyses of who waits for whom as they stood apart, for one commit: what readiness.ts must say of every program. */
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
export function oldSchedule(program: RingProgram): Hop[] {
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

export function oldDue(program: RingProgram): Float64Array {
  const count = program.nodes.length;
  const comesTo = { client: new Int32Array(count), server: new Int32Array(count) };
  schedule(program).forEach(({ direction, messages }, hop) => {
    const receives = direction === 'clientToServer' ? comesTo.server : comesTo.client;
    for (const { node } of messages) receives[node] = hop + 1;
  });
  const has = { client: new Int32Array(count), server: new Int32Array(count) };
  const due = new Float64Array(count + 1).fill(Number.POSITIVE_INFINITY);
  // As the runner has it: a client's input waits for the outputs before it.
  let revealed = 0;
  program.nodes.forEach((node, index) => {
    const material = materialOf(node, program);
    const none = material.dealerToServer + material.dealerToClient + material.clientToServer === 0;
    for (const side of ['client', 'server'] as const) {
      const least = side === 'client' && node.operation === 'clientInput' ? revealed : 0;
      const starts = node.inputs.reduce((latest, input) => Math.max(latest, has[side][input]!), least);
      has[side][index] = Math.max(starts, comesTo[side][index]!);
      if (!none) due[index] = Math.min(due[index]!, starts);
    }
    if (node.operation === 'reveal') revealed = Math.max(revealed, has.client[index]!);
  });
  for (let index = count - 1; index >= 0; index--) due[index] = Math.min(due[index]!, due[index + 1]!);
  // The parts of a section go out as each is whole: one party's may be behind the other's.
  let first = 0;
  for (const end of sectionEnds(program)) {
    due.fill(due[first]!, first, end);
    first = end;
  }
  return due;
}

/** What a side's nodes waited for in the runner and in the timeline: a client's input for all outputs before it. */
export function oldAwaited({ nodes }: RingProgram, side: Side): Set<number>[] {
  const reveals: number[] = [];
  return nodes.map((node, index) => {
    if (node.operation === 'reveal') reveals.push(index);
    if (node.state === 'server') return new Set();
    const awaited = new Set(node.inputs.filter((input) => nodes[input]!.state !== 'server'));
    if (node.operation === 'clientInput' && side === 'client') for (const reveal of reveals) awaited.add(reveal);
    return awaited;
  });
}
