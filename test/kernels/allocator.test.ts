import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BlockAllocator } from '../../src/kernels/allocator.ts';
import { type Block, createReferenceKernels, createWasmKernels, type RingKernels } from '../../src/kernels/index.ts';

const kind = (expected: string) => expect.objectContaining({ name: 'SottoError', kind: expected });

/** Steps: allocate so many words, or (negative) free the block at that place among those alive. */
const steps = fc.array(
  fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: -50, max: -1 }), fc.constantFrom(5000, 40_000)),
  {
    maxLength: 120,
  },
);

function overlaps(blocks: readonly Block[], wordBytes: number): boolean {
  const sorted = [...blocks].sort((x, y) => x.offset - y.offset);
  return sorted.some((block, i) => i > 0 && sorted[i - 1]!.offset + sorted[i - 1]!.length * wordBytes > block.offset);
}

describe.each([
  ['reference', () => createReferenceKernels(64)],
  ['wasm', () => createWasmKernels(64)],
] as [string, () => RingKernels][])('blocks of the %s kernels', (_, create) => {
  it('never overlap, keep their words, and are cleared when freed', () => {
    fc.assert(
      fc.property(steps, (sequence) => {
        const kernels = create();
        const alive: { block: Block; mark: number }[] = [];
        const whole = ({ block, mark }: { block: Block; mark: number }) => kernels.bytes(block).every((byte) => byte === mark);
        sequence.forEach((step, i) => {
          if (step >= 0) {
            const mark = 1 + (i % 255);
            const block = kernels.allocate(step);
            kernels.bytes(block).fill(mark);
            alive.push({ block, mark });
          } else if (alive.length > 0) {
            const [gone] = alive.splice(-step % alive.length, 1);
            expect(whole(gone!)).toBe(true);
            kernels.free(gone!.block);
            expect(kernels.bytes(gone!.block).every((byte) => byte === 0)).toBe(true);
            expect(() => kernels.free(gone!.block)).toThrow(kind('usage'));
          }
        });
        expect(
          overlaps(
            alive.map(({ block }) => block),
            8,
          ),
        ).toBe(false);
        expect(alive.every(whole)).toBe(true);
        expect(kernels.allocatedBytes).toBe(alive.reduce((sum, { block }) => sum + block.length * 8, 0));
      }),
      { numRuns: 40 },
    );
  });
});

describe('the allocator', () => {
  it('makes free neighbours one chunk again, whatever the order they are freed in', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 2000 }), { minLength: 1, maxLength: 40 }), fc.nat(), (lengths, seed) => {
        let end = 0;
        const allocator = new BlockAllocator(8, 0, (needed) => (end = Math.max(end, needed)));
        const blocks = lengths.map((length) => allocator.allocate(length));
        const reached = end;
        blocks.sort((x, y) => ((x.offset ^ seed) % 977) - ((y.offset ^ seed) % 977));
        for (const block of blocks) allocator.free(block);
        const whole = allocator.allocate(reached / 8);
        expect([whole.offset, end, allocator.allocatedBytes]).toEqual([0, reached, reached]);
      }),
    );
  });

  it('reuses memory: a steady load of mixed blocks does not grow it', () => {
    let end = 0;
    const allocator = new BlockAllocator(8, 0, (needed) => (end = Math.max(end, needed)));
    const alive: Block[] = [];
    let state = 1;
    for (let i = 0; i < 20_000; i++) {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      if (alive.length >= 100) allocator.free(alive.splice(state % alive.length, 1)[0]!);
      alive.push(allocator.allocate(1 << (4 + ((state >>> 8) % 14))));
    }
    expect(end).toBeLessThan(2 * allocator.peakBytes);
  });

  it('throws a resource error where the memory cannot grow, and goes on', () => {
    const kernels = createWasmKernels(64, { maximumBytes: 8 * 2 ** 20 });
    const first = kernels.allocate(2 ** 19);
    expect(() => kernels.allocate(2 ** 20)).toThrow(kind('resource'));
    kernels.free(first);
    const second = kernels.allocate(2 ** 19);
    expect(kernels.allocatedBytes).toBe(4 * 2 ** 20);
    kernels.free(second);
    expect(() => createReferenceKernels(64).allocate(2 ** 30)).toThrow(kind('resource'));
    expect(() => kernels.allocate(-1)).toThrow(kind('usage'));
    expect(() => kernels.allocate(1.5)).toThrow(kind('usage'));
  });

  it('reaches addresses above 2 GiB', () => {
    const kernels = createWasmKernels(32);
    const low = kernels.allocate(2 ** 29 + 16);
    const high = kernels.allocate(7);
    expect(high.offset).toBeGreaterThan(2 ** 31);
    kernels.fill(high, 9n);
    kernels.multiply(high, high, high);
    expect(kernels.decode(high, 0, 32)).toEqual(new Float64Array(7).fill(81));
    expect(kernels.pack(high, 8)).toEqual(new Uint8Array(7).fill(81));
    expect(low.offset).toBeLessThan(2 ** 31);
  });
});
