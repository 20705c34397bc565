import { BlockCounts } from '../../../kernels/index.ts';
import { maskedNodes } from '../../ring/index.ts';
import { type Held, type Machine, type NumberedNode, nothing } from '../protocol.ts';
import type { Offline } from './pinned.ts';

export interface WalkOptions {
  /** The weight mask, or the masked weight, that this role holds for a `serverInput` of a linear map. */
  readonly weight: (node: NumberedNode & { operation: 'serverInput' }) => Promise<Held>;
  /** Sends what the table made for this node. */
  readonly emitted: (node: NumberedNode) => Promise<void>;
}

/** Runs an offline table over a program in its order, freeing every value after its last use. */
export async function walk(machine: Machine, table: Offline, options: WalkOptions): Promise<void> {
  const { program, kernels } = machine;
  const masked = maskedNodes(program);
  const uses = new Int32Array(program.nodes.length);
  for (const node of program.nodes) for (const input of node.inputs) uses[input]!++;
  const held = new BlockCounts(kernels);
  const values: Held[] = [];
  const drop = (index: number): void => {
    const block = values[index]!.block;
    if (block !== undefined) held.release(block);
    values[index] = nothing;
  };
  try {
    for (let index = 0; index < program.nodes.length; index++) {
      const node = { ...program.nodes[index]!, index } as NumberedNode;
      const inputs = node.inputs.map((input) => values[input]!);
      const value =
        node.operation === 'serverInput'
          ? masked[index] === 1
            ? await options.weight(node)
            : nothing
          : apply(table, node, inputs);
      if (value.block !== undefined) held.hold(value.block);
      values.push(value);
      await options.emitted(node);
      for (const input of node.inputs) if (--uses[input]! === 0) drop(input);
      if (uses[index] === 0) drop(index);
    }
  } finally {
    held.releaseAll();
  }
}

function apply(table: Offline, node: NumberedNode, inputs: Held[]): Held {
  return (table[node.operation] as (node: NumberedNode, ...inputs: Held[]) => Held)(node, ...inputs);
}
