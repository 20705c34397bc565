import type { Domains, Node, NodeOf, Program } from '../../program/index.ts';

/** What is the same in a smaller ring: moves and sums. */
const passes: ReadonlySet<Node['operation']> = new Set([
  ...(['reshape', 'transpose', 'slice', 'broadcast', 'concat', 'add', 'subtract'] as const),
]);

/**
 * For every node of a lowered program, whether all that reads its value takes it from a smaller ring as well as from the whole one: squares,
 * elementwise products, maps by weights, outputs. Matrix products of two secrets, functions and public factors want its upper bits.
 */
export function takenFromSmaller({ nodes }: Program, isServers: (node: number) => boolean): boolean[] {
  const taken = nodes.map(() => true);
  for (let index = nodes.length - 1; index >= 0; index--) {
    const node = nodes[index]!;
    node.inputs.forEach((input, at) => {
      if (!takes(node, at, (other) => isServers(node.inputs[other]!), taken[index]!)) taken[input] = false;
    });
  }
  return taken;
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
