import type { Held, Protocol } from '../../src/backends/mpc/protocol.ts';
import type { RingKernels } from '../../src/kernels/index.ts';

/** Records the rounding offsets of the client's shares: what `fixed` needs to give the same integers. */
export function offsetsOf(kernels: RingKernels) {
  const offsets = new Map<number, Float64Array>();
  const record = (node: { index: number; parameters: { bits: number } }, x: Held): void => {
    const low = kernels.allocate(x.block!.length);
    kernels.mask(low, x.block!, node.parameters.bits);
    offsets.set(node.index, kernels.decode(low, 0, kernels.wordBits));
    kernels.free(low);
  };
  const observe = (protocol: Protocol): Protocol => ({
    ...protocol,
    truncate: (node, x) => {
      record(node, x!);
      return protocol.truncate(node, x!);
    },
    narrow: (node, x) => {
      record(node, x!);
      return protocol.narrow(node, x!);
    },
  });
  return { offsets, observe };
}
