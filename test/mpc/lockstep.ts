import { type Exchange, type Held, type NumberedNode, nothing, type Protocol } from '../../src/backends/mpc/protocol.ts';
import type { Side } from './draws.ts';

/** One side's part of a node: its value, or a generator to be run. */
export function start(protocol: Protocol, node: NumberedNode, values: Held[]): Held | ReturnType<typeof stepOf> {
  const inputs = node.inputs.map((input) => values[input] ?? nothing);
  const result = (
    protocol[node.operation] as (node: NumberedNode, ...inputs: Held[]) => Held | Generator<Exchange, Held, Uint8Array>
  )(node, ...inputs);
  return 'next' in result ? stepOf(result) : result;
}

const stepOf = (step: Generator<Exchange, Held, Uint8Array>) => ({ step, inbox: [] as Uint8Array[] });

/** Both sides' generators of one node, until both are done. */
export function exchange(
  client: Held | ReturnType<typeof stepOf>,
  server: Held | ReturnType<typeof stepOf>,
  sent: (from: Side, bytes: Uint8Array) => void,
): [Held, Held] {
  const sides = { client, server };
  const results: Partial<Record<Side, Held>> = {};
  const pending: Partial<Record<Side, IteratorResult<Exchange, Held>>> = {};
  const advance = (side: Side): boolean => {
    const own = sides[side];
    if (!('step' in own)) {
      results[side] = own;
      return false;
    }
    let moved = false;
    for (;;) {
      const result = (pending[side] ??= own.step.next());
      if (result.done) {
        results[side] = result.value;
        return moved;
      }
      let answer = new Uint8Array(0) as Uint8Array;
      if ('send' in result.value) {
        const other = sides[side === 'client' ? 'server' : 'client'];
        if ('inbox' in other) other.inbox.push(result.value.send);
        sent(side, result.value.send);
      } else {
        const bytes = own.inbox.shift();
        if (bytes === undefined) return moved;
        answer = bytes;
      }
      pending[side] = own.step.next(answer);
      moved = true;
    }
  };
  for (let moved = true; moved; ) moved = [advance('client'), advance('server')].some(Boolean);
  if (results.client === undefined || results.server === undefined) throw new Error('the parties wait for each other');
  return [results.client, results.server];
}
