import type { Domains, Node, NodeOf, Program } from '../../program/index.ts';

const moves: ReadonlySet<Node['operation']> = new Set(['reshape', 'transpose', 'slice', 'broadcast', 'concat']);
/** What is the same in a smaller ring. */
const passes: ReadonlySet<Node['operation']> = new Set([...moves, 'add', 'subtract']);

/**
 * What reads a value of a lowered program. `whole`: something that wants all bits of the ring. `taken`: only what takes it from a smaller one as well,
 * squares, elementwise products, maps by weights, through sums and moves. `shown`: the same, and it is an output as it is. Matrix products of
 * two secrets, functions and public factors want the whole ring.
 */
export type Use = 'whole' | 'taken' | 'shown';

export function usesOf({ nodes, outputs }: Program, isServers: (node: number) => boolean): Use[] {
  const taken = nodes.map(() => true);
  const shown = nodes.map(() => false);
  for (const [, index] of outputs) shown[index] = true;
  for (let index = nodes.length - 1; index >= 0; index--) {
    const node = nodes[index]!;
    node.inputs.forEach((input, at) => {
      if (!takes(node, at, (other) => isServers(node.inputs[other]!), taken[index]!)) taken[input] = false;
      if (shown[index]! && moves.has(node.operation)) shown[input] = true;
    });
  }
  return nodes.map((_, index) => (!taken[index]! ? 'whole' : shown[index]! ? 'shown' : 'taken'));
}

function takes({ operation }: Node, at: number, isServers: (input: number) => boolean, itself: boolean): boolean {
  if (passes.has(operation)) return itself;
  if (operation === 'square') return true;
  if (operation === 'matmul') return at === 0 && isServers(1);
  return operation === 'multiply' && !isServers(1 - at);
}

/** Integer bits of the largest number that any norm of a program may meet, by its table, its iteration or its domain; zero where nothing is known. */
export function normedBits({ nodes }: Program, domains: Domains = {}): number {
  return nodes.reduce(
    (most, node) => (node.operation === 'inverseSquareRoot' ? Math.max(most, squaresBits(node, domains) / 2) : most),
    0,
  );
}

/** Of a row's sum of squares. */
function squaresBits({ parameters: { factor, table }, scope }: NodeOf<'inverseSquareRoot'>, domains: Domains): number {
  if (table?.method === 'newton') return Math.log2(table.high);
  if (table !== undefined) return table.rangeBits;
  const high = Object.hasOwn(domains, scope) ? domains[scope]!.high : undefined;
  return high === undefined ? 0 : high - Math.log2(factor);
}
