import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Block,
  createReferenceKernels,
  createWasmKernels,
  type RingKernels,
  type WordBits,
} from '../../src/kernels/index.ts';
import { createParallelKernels, type ParallelKernels } from '../../src/node/kernels.ts';
import { put, someWords, take } from './words.ts';

/** The result of one operation on one implementation. */
function outcome(
  kernels: RingKernels,
  inputs: readonly bigint[][],
  length: number,
  operation: (out: Block, ...inputs: Block[]) => void,
) {
  const out = kernels.allocate(length);
  kernels.fill(out, 77n);
  const blocks = inputs.map((words) => put(kernels, words));
  operation(out, ...blocks);
  const words = take(kernels, out);
  for (const block of [out, ...blocks]) kernels.free(block);
  return words;
}

describe.each([32, 64] as WordBits[])('the WebAssembly kernels equal their twin on %i-bit words', (wordBits) => {
  const fast = createWasmKernels(wordBits);
  const slow = createReferenceKernels(wordBits);
  const agree = (
    inputs: bigint[][],
    length: number,
    operation: (kernels: RingKernels) => (out: Block, ...inputs: Block[]) => void,
  ) => expect(outcome(fast, inputs, length, operation(fast))).toEqual(outcome(slow, inputs, length, operation(slow)));
  const word = fc.oneof(
    fc.bigInt({ min: 0n, max: 2n ** BigInt(wordBits) - 1n }),
    fc.constantFrom(0n, 1n, 2n ** BigInt(wordBits - 1)),
  );
  const size = (max: number) => fc.integer({ min: 1, max });

  it('for matrix products of any size', () => {
    const sizes = fc.record({ batch: size(3), m: size(19), k: size(21), n: size(23) });
    fc.assert(
      fc.property(sizes, fc.boolean(), fc.nat(), ({ batch, m, k, n }, accumulate, seed) => {
        const inputs = [someWords(batch * m * k, wordBits, seed), someWords(batch * k * n, wordBits, seed + 1)];
        agree(inputs, batch * m * n, (kernels) => (out, a, b) => kernels.matmul(out, a!, b!, { batch, m, k, n }, accumulate));
      }),
      { numRuns: 150 },
    );
  });

  it('for products that cross the limits of its blocking', () => {
    for (const [m, k, n] of [
      [66, 5, 3],
      [67, 258, 5],
      [7, 513, 9],
      [13, 9, 259],
      [12, 257, 257],
    ] as const) {
      const inputs = [someWords(m * k, wordBits), someWords(k * n, wordBits, 2)];
      agree(inputs, m * n, (kernels) => (out, a, b) => kernels.matmul(out, a!, b!, { batch: 1, m, k, n }, true));
    }
  });

  it('for elementwise operations on arbitrary words', () => {
    const names = ['add', 'subtract', 'multiply', 'multiplyAdd', 'xor'] as const;
    fc.assert(
      fc.property(fc.constantFrom(...names), fc.array(fc.tuple(word, word), { maxLength: 40 }), (name, pairs) => {
        const inputs = [pairs.map(([x]) => x), pairs.map(([, y]) => y)];
        agree(inputs, pairs.length, (kernels) => (out, a, b) => kernels[name](out, a!, b!));
      }),
    );
  });

  it('for permutations of any shape, gathered and scattered', () => {
    const shapes = fc.array(fc.tuple(size(7), fc.nat()), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(shapes, fc.nat({ max: 9 }), (loops, start) => {
        const shape = loops.map(([dimension]) => dimension);
        const order = loops.map((_, d) => d).sort((x, y) => loops[x]![1] - loops[y]![1]);
        const strides: number[] = [];
        let count = 1;
        for (const d of order) {
          strides[d] = count;
          count *= shape[d]!;
        }
        const far = count + start;
        agree([someWords(far, wordBits)], count, (kernels) => (out, a) => kernels.gather(out, a!, shape, strides, start));
        agree([someWords(count, wordBits)], far, (kernels) => (out, a) => kernels.scatter(out, a!, shape, strides, start));
      }),
      { numRuns: 200 },
    );
  });

  it('for packed bits and what unpacks from them', () => {
    fc.assert(
      fc.property(fc.array(word, { maxLength: 60 }), size(wordBits), (words, bits) => {
        const packed = [fast, slow].map((kernels) => {
          const block = put(kernels, words);
          const bytes = kernels.pack(block, bits);
          kernels.unpack(block, bytes, bits);
          const back = take(kernels, block);
          kernels.free(block);
          return [bytes, back];
        });
        expect(packed[0]).toEqual(packed[1]);
      }),
    );
  });

  it('for fixed point, errors and extremes included', () => {
    const floats = fc.array(
      fc.oneof(
        fc.double(),
        fc.double({ min: -300, max: 300 }),
        fc.integer({ min: -9, max: 9 }).map((x) => x / 8),
      ),
      { maxLength: 20 },
    );
    const finite = fc.integer({ min: -4, max: 40 });
    fc.assert(
      fc.property(floats, finite, size(wordBits), (values, fraction, ringBits) => {
        const results = [fast, slow].map((kernels) => {
          const block = kernels.allocate(values.length);
          try {
            kernels.encode(block, new Float64Array(values), fraction, ringBits);
            return [take(kernels, block), kernels.decode(block, fraction, ringBits), kernels.maxAbs(block, ringBits)];
          } catch (error) {
            return String(error);
          } finally {
            kernels.free(block);
          }
        });
        expect(results[0]).toEqual(results[1]);
      }),
      { numRuns: 300 },
    );
  });

  it('for decoding and largest values of arbitrary words', () => {
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 20 }), size(wordBits), (words, ringBits) => {
        const results = [fast, slow].map((kernels) => {
          const block = put(kernels, words);
          const result = [kernels.decode(block, 7, ringBits), kernels.maxAbs(block, ringBits)];
          kernels.free(block);
          return result;
        });
        expect(results[0]).toEqual(results[1]);
      }),
    );
  });

  it('and keep nothing allocated behind', () => {
    expect([fast.allocatedBytes, slow.allocatedBytes]).toEqual([0, 0]);
  });
});

describe.each([2, 3])('the parallel kernels with %i threads equal the single one', (workers) => {
  const single = createWasmKernels(64);
  let parallel: ParallelKernels;
  beforeAll(async () => {
    parallel = await createParallelKernels(64, { workers });
  });
  afterAll(() => parallel.close());

  it('for products split by matrices, columns and rows', () => {
    const sizes = [
      [1, 130, 100, 129],
      [1, 300, 131, 40],
      [1, 1, 1100, 1500],
      [1, 4, 700, 800],
      [50, 33, 35, 37],
      [2, 97, 80, 150],
      [300, 16, 17, 16],
    ];
    for (const [batch, m, k, n] of sizes as [number, number, number, number][]) {
      const inputs = [someWords(batch * m * k, 64), someWords(batch * k * n, 64, 2)];
      for (const accumulate of [false, true]) {
        const results = [single, parallel].map((kernels) =>
          outcome(kernels, inputs, batch * m * n, (out, a, b) => kernels.matmul(out, a!, b!, { batch, m, k, n }, accumulate)),
        );
        expect(results[0]!.every((word, i) => word === results[1]![i])).toBe(true);
      }
    }
  });

  it('for many rotated inner products', () => {
    const inputs = [someWords(5003 * 256, 64), someWords(256, 64, 2), someWords(5003, 64, 3)];
    const results = [single, parallel].map((kernels) =>
      outcome(kernels, inputs, 5003, (out, vectors, table, delta) => kernels.rotatedInner(out, vectors!, table!, delta!)),
    );
    expect(results[0]).toEqual(results[1]);
  });

  it('for thousands of jobs in a row, each right', () => {
    const size = { batch: 1, m: 64, k: 128, n: 160 };
    const [x, y] = [someWords(size.m * size.k, 64), someWords(size.k * size.n, 64, 2)];
    const expected = outcome(single, [x, y], size.m * size.n, (out, a, b) => single.matmul(out, a!, b!, size));
    const [a, b, out] = [put(parallel, x), put(parallel, y), parallel.allocate(size.m * size.n)];
    const reference = put(parallel, expected);
    let wrong = 0;
    for (let i = 0; i < 2000; i++) {
      parallel.fill(out, 0n);
      parallel.matmul(out, a, b, size, true);
      parallel.subtract(out, out, reference);
      wrong += parallel.maxAbs(out, 64).value > 0 ? 1 : 0;
    }
    expect(wrong).toBe(0);
  });

  it('and go on alone after they are closed', async () => {
    const closed = await createParallelKernels(64, { workers });
    await closed.close();
    const size = { batch: 1, m: 128, k: 128, n: 128 };
    const inputs = [someWords(2 ** 14, 64), someWords(2 ** 14, 64, 2)];
    const results = [single, closed].map((kernels) =>
      outcome(kernels, inputs, 2 ** 14, (out, a, b) => kernels.matmul(out, a!, b!, size)),
    );
    expect(results[0]).toEqual(results[1]);
  });
});
