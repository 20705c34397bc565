import { messagesOf, rowOf } from './declared.ts';
import type { Direction } from './sizes.ts';
import type { RingNode, RingProgram } from './types.ts';

/**
 * THE analysis of who waits for whom in a run: the runner and the timeline start nodes by it, the schedule places messages by it, and a
 * party holds material back by it.
 */
export type Side = 'client' | 'server';

/** Whether the server computes a node only when what it says for it has left: the client works on its part at the same time. */
export const isLate = (node: RingNode): boolean => rowOf(node).late === true;

/**
 * For every node, the nodes whose values must be there before this side starts it: its inputs, of which the server's plaintexts hold nobody
 * up. A client's input waits for every output that is revealed before it in the program (a token is chosen from them): for those since
 * the input before, which has waited for the others.
 */
function awaited({ nodes }: RingProgram, side: Side): (readonly number[])[] {
  let latest: number[] = [];
  return nodes.map((node, index) => {
    const { reveals, source } = rowOf(node);
    if (reveals === true) latest.push(index);
    if (source !== 'client' || side === 'server') return node.inputs;
    const before = latest;
    latest = [index];
    return before;
  });
}

/** The nodes of one side that can start: each once everything that it waits for has settled. */
export class ReadyNodes {
  /** Values that a node still waits for; one that is named twice counts twice, here and below. */
  readonly #missing: Int32Array;
  readonly #readers: readonly number[][];
  #ready: number[] = [];

  constructor(program: RingProgram, side: Side) {
    const { nodes } = program;
    this.#missing = new Int32Array(nodes.length);
    this.#readers = nodes.map(() => []);
    awaited(program, side).forEach((others, index) => {
      if (nodes[index]!.state === 'server') return;
      for (const other of others) {
        if (nodes[other]!.state === 'server') continue;
        this.#missing[index]!++;
        this.#readers[other]!.push(index);
      }
      if (this.#missing[index] === 0) this.#ready.push(index);
    });
  }

  /** Those that have become ready since, in that order, and no more: what starting them makes ready is for the next call. */
  take(): readonly number[] {
    const ready = this.#ready;
    this.#ready = [];
    return ready;
  }

  /** This side has the node's value. */
  settle(index: number): void {
    for (const reader of this.#readers[index]!) if (--this.#missing[reader]! === 0) this.#ready.push(reader);
  }
}

/** When a message that its sender can compute at `after` has left, and when the other side has it: the same clock for both. */
export type Carry = (direction: Direction, node: number, after: number) => { readonly left: number; readonly arrives: number };

/** By side and node, on the clock of a `Carry`: when the node can start, and when its value is there. */
export interface Readiness {
  readonly starts: Readonly<Record<Side, Float64Array>>;
  readonly has: Readonly<Record<Side, Float64Array>>;
}

/**
 * Both sides' clocks over a program. What the server sends about a value it does not need itself: a product waits for the client's side
 * of an opening only. What the client sends answers what the server sent for the same node.
 */
export function readiness(program: RingProgram, carry: Carry): Readiness {
  const count = program.nodes.length;
  const clock = () => ({ client: new Float64Array(count), server: new Float64Array(count) });
  const [starts, has] = [clock(), clock()];
  const waits = { client: awaited(program, 'client'), server: awaited(program, 'server') };
  const begin = (side: Side, index: number): number => {
    const clocks = has[side];
    let ready = 0;
    for (const other of waits[side][index]!) ready = Math.max(ready, clocks[other]!);
    starts[side][index] = ready;
    return ready;
  };
  program.nodes.forEach((node, index) => {
    let [client, server] = [begin('client', index), begin('server', index)];
    const { clientToServer, serverToClient } = messagesOf(node, program);
    if (serverToClient !== undefined) {
      const { left, arrives } = carry('serverToClient', index, server);
      client = Math.max(client, arrives);
      if (isLate(node)) server = Math.max(server, left);
    }
    if (clientToServer !== undefined) server = Math.max(server, carry('clientToServer', index, client).arrives);
    has.client[index] = client;
    has.server[index] = server;
  });
  return { starts, has };
}
