import { describe, expect, it } from 'vitest';
import { compareInto, evaluateComparisons, generateComparisonKeys } from '../../src/backends/mpc/correlations/dcf.ts';
import { expandWindows, windowsInto } from '../../src/backends/mpc/correlations/dcf-window.ts';
import { expand, expandInto, fixedKeysHex, generateKeys } from '../../src/backends/mpc/correlations/dpf.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { aesPrg, fixedKeysAes } from '../../src/node/randomness.ts';

const encryptBlocks = fixedKeysAes(fixedKeysHex.map((hex) => Uint8Array.from(Buffer.from(hex, 'hex'))));
/** A cipher that only answers: browsers have no other. */
const plainCipher = (key: 0 | 1, blocks: Uint8Array) => encryptBlocks(key, blocks);
const prg = aesPrg(new Uint8Array(32).fill(9));
let stream = 0;
const draw = (length: number) => {
  const bytes = new Uint8Array(length);
  prg.fill(stream++, bytes);
  return bytes;
};

describe.each([32, 64] as const)('the fast walks in words of %i bits', (wordBits) => {
  const kernels = createWasmKernels(wordBits);

  it.each([1, 2, 3, 7, 8, 9, 12, 16])('expand point functions on 2^%i points as the slow twin does', (k) => {
    for (const count of [1, 5, 37].filter((keys) => keys * 2 ** k <= 2 ** 17)) {
      const alpha = Array.from({ length: count }, (_, i) => (i * 40503 + 1) % 2 ** k);
      const [seeds0, seeds1] = [draw(16 * count), draw(16 * count)];
      const corrections = generateKeys({ k, wordBits, alpha, seeds0, seeds1, encryptBlocks });
      for (const [party, seeds] of [seeds0, seeds1].entries()) {
        const options = { k, wordBits, party: party as 0 | 1, seeds, corrections, encryptBlocks };
        const out = kernels.allocate(count * 2 ** k);
        for (const cipher of [encryptBlocks, plainCipher]) {
          kernels.fill(out, 0n);
          expandInto(kernels, out, { ...options, encryptBlocks: cipher });
          expect(Buffer.compare(kernels.bytes(out), expand(options))).toBe(0);
        }
        kernels.free(out);
      }
    }
    expect(kernels.allocatedBytes).toBe(0);
  });

  /** Keys with random values, at points over all of 2^k. */
  const comparison = (k: number, valueWords: number, leafWords: number, count: number) => {
    const word = wordBits / 8;
    const [alpha, beta, gamma] = [draw(count * word), draw(count * valueWords * word), draw(count * leafWords * word)];
    const seeds = [draw(16 * count), draw(16 * count)] as const;
    const shape = { k, wordBits, valueWords, leafWords };
    const made = { alpha, beta, gamma, seeds0: seeds[0], seeds1: seeds[1], encryptBlocks };
    return { shape, seeds, corrections: generateComparisonKeys({ ...shape, ...made }) };
  };
  const block = (bytes: Uint8Array) => {
    const made = kernels.allocate((bytes.length * 8) / wordBits);
    kernels.bytes(made).set(bytes);
    return made;
  };

  it('evaluate comparisons as the slow twin does, whatever the shape', () => {
    for (const [k, valueWords, leafWords, count, pointsPerKey] of [
      [1, 1, 0, 3, 1],
      [7, 2, 3, 5, 4],
      [18, 1, 2, 33, 3],
      [wordBits === 64 ? 62 : 31, 2, 0, 9, 2],
      [11, 2, 1, 3, 2500],
      [13, 1, 0, 2500, 2],
    ] as const) {
      const { shape, seeds, corrections } = comparison(k, valueWords, leafWords, count);
      const points = draw((count * pointsPerKey * wordBits) / 8);
      for (const party of [0, 1] as const) {
        const options = { ...shape, party, seeds: seeds[party], corrections, encryptBlocks, pointsPerKey };
        const [at, out] = [block(points), kernels.allocate(count * pointsPerKey * valueWords)];
        compareInto(kernels, out, { ...options, points: at });
        expect(Buffer.compare(kernels.bytes(out), evaluateComparisons({ ...options, points })), `k = ${k}`).toBe(0);
        kernels.free(out);
        kernels.free(at);
      }
    }
    expect(kernels.allocatedBytes).toBe(0);
  });

  it('expand windows as the slow twin does, whatever the shape', () => {
    for (const [k, valueWords, leafWords, count, windowBits] of [
      [2, 0, 1, 3, 1],
      [5, 1, 2, 7, 0],
      [9, 2, 3, 70, 5],
      [20, 0, 3, 40, 8],
      [wordBits === 64 ? 40 : 30, 1, 1, 9, 3],
    ] as const) {
      const { shape, seeds, corrections } = comparison(k, valueWords, leafWords, count);
      const windows = draw((count * wordBits) / 8);
      // The last window's neighbour is the first one.
      windows.fill(255, 0, wordBits / 8);
      for (const party of [0, 1] as const) {
        const options = { ...shape, party, seeds: seeds[party], corrections, encryptBlocks, windowBits };
        const words = count * 2 ** (windowBits + 1);
        const slow = Array.from({ length: leafWords }, () => [] as Uint8Array[]);
        expandWindows({ ...options, windows }, (_first, _count, vectors) => {
          vectors.forEach((bytes, q) => void slow[q]!.push(bytes));
        });
        const at = block(windows);
        const outs = slow.map(() => kernels.allocate(words));
        windowsInto(kernels, outs, { ...options, windows: at });
        outs.forEach((out, q) => void expect(Buffer.compare(kernels.bytes(out), Buffer.concat(slow[q]!)), `k = ${k}`).toBe(0));
        for (const made of [at, ...outs]) kernels.free(made);
      }
    }
    expect(kernels.allocatedBytes).toBe(0);
  });

  it('refuse keys, points and results that do not fit together, and a cipher that adds blocks', () => {
    const { shape, seeds, corrections } = comparison(6, 1, 1, 4);
    const [points, out] = [kernels.allocate(4), kernels.allocate(4)];
    const options = { ...shape, party: 0 as const, seeds: seeds[0], corrections, encryptBlocks, points, pointsPerKey: 1 };
    const longer = (key: 0 | 1, blocks: Uint8Array) => Buffer.concat([encryptBlocks(key, blocks), Buffer.alloc(16)]);
    expect(() => compareInto(kernels, out, { ...options, corrections: corrections.subarray(1) })).toThrow(/do not go with/);
    expect(() => compareInto(kernels, out, { ...options, pointsPerKey: 2 })).toThrow(/where 8 are due/);
    expect(() => compareInto(kernels, out, { ...options, encryptBlocks: longer })).toThrow(/another number of blocks/);
    compareInto(kernels, out, options);
    for (const made of [points, out]) kernels.free(made);
    expect(kernels.allocatedBytes).toBe(0);
  });
});
