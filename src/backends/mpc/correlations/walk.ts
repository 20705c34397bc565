import { BlockCounts } from '../../../kernels/index.ts';
import { maskedNodes, type RingNodeOf, type RingOperation, rowOf } from '../../ring/index.ts';
import { secureRows } from '../operations/index.ts';
import type { SecureRow } from '../operations/row.ts';
import { type Held, type Machine, type Numbered, type NumberedNode, nothing } from '../protocol.ts';

/** A table without messages: what can be known of a program before it runs. */
export type Offline = { [P in RingOperation]: (node: Numbered<RingNodeOf<P>>, ...inputs: Held[]) => Held };

type Work = (node: NumberedNode, ...inputs: Held[]) => Held | undefined;

/** A table from the rows of all operations; nothing is known where `work` gives none. */
export function offlineTable(work: (row: SecureRow<RingOperation>) => Work): Offline {
  const rows = Object.entries(secureRows) as unknown as [RingOperation, SecureRow<RingOperation>][];
  const table = rows.map(([operation, row]) => {
    const own = work(row);
    return [operation, (node: NumberedNode, ...inputs: Held[]): Held => own(node, ...inputs) ?? nothing];
  });
  return Object.fromEntries(table) as unknown as Offline;
}

export interface WalkOptions {
  /** The weight mask, or the masked weight, that this role holds for a `serverInput` of a linear map. */
  readonly weight: (node: Numbered<RingNodeOf<'serverInput'>>) => Promise<Held>;
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
        rowOf(node).source !== 'server'
          ? apply(table, node, inputs)
          : masked[index] === 1
            ? await options.weight(node as Numbered<RingNodeOf<'serverInput'>>)
            : nothing;
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
