import { messagesOf } from './declared.ts';
import { type Carry, readiness } from './readiness.ts';
import { type Direction, type Fields, packedBytes } from './sizes.ts';
import type { RingProgram } from './types.ts';

/** One node's words in one frame. */
export interface Message {
  readonly node: number;
  readonly fields: Fields;
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

const bytesOf = (fields: Fields): number => fields.reduce((sum, field) => sum + packedBytes(field.count, field.width), 0);

/**
 * A time of a run, by turns: 2 t once turn t is over, 2 t − 1 once the first frame of the server's turn t has left. Turns alternate, the
 * client's are odd. Whoever has what it needs at `after` says it in this turn.
 */
function turnAfter(direction: Direction, after: number): number {
  if (after % 2 === 1) return (after + 1) / 2;
  const next = after / 2 + 1;
  return next + (next % 2 === (direction === 'clientToServer' ? 1 : 0) ? 0 : 1);
}

/**
 * Which hop carries which message: every message goes with the first hop of its direction after its sender has what it needs
 * (readiness.ts). Both parties derive this from the program alone, so frames have no tags and a frame of the wrong size is refused. What
 * the server computes behind a message of the same turn goes in a frame of its own, so that the client works at the same time.
 */
export function schedule(program: RingProgram): Hop[] {
  const turns: { direction: Direction; messages: Message[]; late: Message[] }[] = [];
  const carry: Carry = (direction, node, after) => {
    const turn = turnAfter(direction, after);
    while (turns.length < turn) {
      const speaks = turns.length % 2 === 0 ? 'clientToServer' : 'serverToClient';
      turns.push({ direction: speaks, messages: [], late: [] });
    }
    const late = after % 2 === 1;
    const fields = messagesOf(program.nodes[node]!, program)[direction]!;
    turns[turn - 1]![late ? 'late' : 'messages'].push({ node, fields, bytes: bytesOf(fields) });
    return { left: late ? 2 * turn : 2 * turn - 1, arrives: 2 * turn };
  };
  readiness(program, carry);
  const frame = (direction: Direction, messages: Message[], follows: boolean): Hop => {
    const bytes = messages.reduce((sum, message) => sum + message.bytes, 0);
    return { direction, messages, bytes, frames: Math.ceil(bytes / mostFrameBytes), follows };
  };
  return turns
    .flatMap(({ direction, messages, late }) => [frame(direction, messages, false), frame(direction, late, true)])
    .filter((hop) => hop.messages.length > 0);
}
