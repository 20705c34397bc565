import { prune } from './trace.ts';
import type { Node, Program } from './types.ts';

/** Constants with more elements are told apart without looking at them. */
const smallConstant = 16;

/**
 * The same program where nodes that compute the same from the same are one, so that a gradient that two of them would each carry back
 * is carried back once. The first one's scope stays.
 */
export function merge(program: Program): Program {
  const known = new Map<string, number>();
  const moved: number[] = [];
  const nodes: Node[] = [];
  for (const node of program.nodes) {
    const own = { ...node, inputs: node.inputs.map((input) => moved[input]!) } as Node;
    const key = keyOf(own);
    const found = key === undefined ? undefined : known.get(key);
    if (found === undefined && key !== undefined) known.set(key, nodes.length);
    moved.push(found ?? nodes.push(own) - 1);
  }
  return prune({ nodes, outputs: new Map([...program.outputs].map(([name, index]) => [name, moved[index]!])) });
}

function keyOf(node: Node): string | undefined {
  if (node.operation === 'input') return undefined;
  if (node.operation !== 'constant') return `${node.operation} ${node.inputs} ${JSON.stringify(node.parameters)}`;
  const { shape, values, element } = node.parameters;
  return values.length > smallConstant ? undefined : `constant ${element} [${shape}] ${Array.from(values)}`;
}
