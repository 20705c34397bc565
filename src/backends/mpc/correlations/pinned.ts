import { size } from '../../../program/index.ts';
import type { RingNodeOf, RingOperation } from '../../ring/index.ts';
import { local } from '../local.ts';
import { type Held, type Machine, type Numbered, type NumberedNode, nothing, Scratch } from '../protocol.ts';
import type { Pads } from '../random.ts';
import { purpose } from './contract.ts';

/** A table without messages: what can be known of a program before it runs. */
export type Offline = { [P in RingOperation]: (node: Numbered<RingNodeOf<P>>, ...inputs: Held[]) => Held };

/**
 * The client's shares of pinned wires: they depend on its pads only, so the client and the dealer both compute them before the run.
 * Floating wires, and openings where the table does not know b, are `nothing`.
 */
export function pinnedShares(machine: Machine, pads: Pads): Offline {
  const { kernels, program } = machine;
  const L = machine.ring.bits;
  const share = (node: NumberedNode): Held => ({ block: pads.words(node.index, purpose.share, size(node.shape)) });
  return {
    ...local(machine, false),
    clientInput: share,
    serverInput: () => nothing,
    linear: share,
    diagonal: share,
    open: () => nothing,
    square: () => nothing,
    product: () => nothing,
    matrixProduct: () => nothing,
    truncate: (node, x) => {
      const [f, count] = [node.parameters.bits, size(node.shape)];
      if (program.nodes[node.inputs[0]!]!.state !== 'pinned') return { block: pads.words(node.index, purpose.pinned, count) };
      const scratch = new Scratch(kernels);
      const r = scratch.own(pads.bits(node.index, purpose.low, count, f));
      const y = scratch.new(count);
      kernels.shiftLeft(r, r, L - f);
      kernels.shiftRight(y, x!.block!, f, L);
      kernels.subtract(y, y, r);
      return scratch.end(y);
    },
    narrow: (node, x) => {
      if (program.nodes[node.inputs[0]!]!.state !== 'pinned') return share(node);
      const y = kernels.allocate(size(node.shape));
      kernels.shiftRight(y, x!.block!, node.parameters.bits, L);
      return { block: y };
    },
    openNarrow: () => nothing,
    openedSign: () => nothing,
    unmask: () => nothing,
    widen: () => nothing,
    narrowSquare: () => nothing,
    narrowProduct: () => nothing,
    pin: share,
    lookup: () => nothing,
    piecewise: () => nothing,
    reveal: () => nothing,
  };
}
