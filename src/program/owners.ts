import type { Node, Owner, Program } from './types.ts';

/** Who may know a value made from others: public values change nothing, two different owners make it shared. */
export function combine(owners: readonly Owner[]): Owner {
  let result: Owner = 'public';
  for (const owner of owners) {
    if (owner === 'public' || owner === result) continue;
    if (result !== 'public') return 'shared';
    result = owner;
  }
  return result;
}

/** The owner of every node, by one walk over the program. */
export function owners(program: Program): Owner[] {
  const result: Owner[] = [];
  for (const node of program.nodes) result.push(ownerOf(node, result));
  return result;
}

function ownerOf(node: Node, known: readonly Owner[]): Owner {
  if (node.operation === 'input') return node.parameters.owner;
  return combine(node.inputs.map((input) => known[input]!));
}
