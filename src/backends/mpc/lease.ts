import type { Block, RingKernels } from '../../kernels/index.ts';

/**
 * Runs with kernels that remember what was allocated through them. A run that is broken off (a silent peer, a malformed frame, an input
 * that does not fit) leaves steps that never end; what they and everybody else still held is cleared and freed here. A run that
 * succeeds must have freed its blocks itself.
 */
export async function withLease<T>(kernels: RingKernels, run: (leased: RingKernels) => Promise<T>): Promise<T> {
  const live = new Set<Block>();
  const allocate = (length: number): Block => {
    const block = kernels.allocate(length);
    live.add(block);
    return block;
  };
  const free = (block: Block): void => {
    kernels.free(block);
    live.delete(block);
  };
  const leased = new Proxy(kernels, {
    get(target, key) {
      if (key === 'allocate') return allocate;
      if (key === 'free') return free;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  try {
    return await run(leased);
  } catch (error) {
    for (const block of live) kernels.free(block);
    throw error;
  }
}
