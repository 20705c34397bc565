import { describe, expect, it } from 'vitest';
import {
  type ComparisonShape,
  comparisonBytes,
  evaluateComparisons,
  generateComparisonKeys,
} from '../../src/backends/mpc/correlations/dcf.ts';
import { expandWindows } from '../../src/backends/mpc/correlations/dcf-window.ts';
import { SottoError } from '../../src/errors/index.ts';
import { aesPrg } from '../../src/node/randomness.ts';
import { fixedKeyCipher as encryptBlocks } from './platform.ts';

const prg = aesPrg(new Uint8Array(32).fill(9));
let stream = 0;
const draw = (length: number): Uint8Array<ArrayBuffer> => {
  const bytes = new Uint8Array(length);
  prg.fill(stream++, bytes);
  return bytes;
};
const words = (values: readonly bigint[], bits: 32 | 64): Uint8Array<ArrayBuffer> =>
  new Uint8Array(bits === 64 ? BigUint64Array.from(values).buffer : Uint32Array.from(values, Number).buffer);
const numbers = (bytes: Uint8Array, bits: 32 | 64): bigint[] => {
  const copy = bytes.slice();
  return bits === 64 ? [...new BigUint64Array(copy.buffer)] : Array.from(new Uint32Array(copy.buffer), BigInt);
};

function keysFor(shape: ComparisonShape, alpha: readonly bigint[]) {
  const beta = draw((alpha.length * shape.valueWords * shape.wordBits) / 8);
  const gamma = draw((alpha.length * shape.leafWords * shape.wordBits) / 8);
  const seeds = [draw(16 * alpha.length), draw(16 * alpha.length)] as const;
  const corrections = generateComparisonKeys({
    ...shape,
    alpha: words(alpha, shape.wordBits),
    beta,
    gamma,
    seeds0: seeds[0],
    seeds1: seeds[1],
    encryptBlocks,
  });
  return { beta, gamma, seeds, corrections };
}

/** Wrong words of the comparisons of every key at the given points. */
function wrongComparisons(
  shape: ComparisonShape,
  alpha: readonly bigint[],
  points: readonly bigint[],
  made = keysFor(shape, alpha),
): number {
  const all = alpha.flatMap(() => points);
  const shares = ([0, 1] as const).map((party) =>
    numbers(
      evaluateComparisons({
        ...shape,
        party,
        seeds: made.seeds[party],
        corrections: made.corrections,
        encryptBlocks,
        points: words(all, shape.wordBits),
        pointsPerKey: points.length,
      }),
      shape.wordBits,
    ),
  );
  const beta = numbers(made.beta, shape.wordBits);
  let wrong = 0;
  alpha.forEach((a, key) => {
    points.forEach((x, at) => {
      for (let word = 0; word < shape.valueWords; word++) {
        const place = (key * points.length + at) * shape.valueWords + word;
        const sum = BigInt.asUintN(shape.wordBits, shares[0]![place]! + shares[1]![place]!);
        if (sum !== (x < a ? beta[key * shape.valueWords + word]! : 0n)) wrong++;
      }
    });
  });
  return wrong;
}

/** Wrong words of the point functions on two windows of every key. */
function wrongWindows(
  shape: ComparisonShape,
  alpha: readonly bigint[],
  windowBits: number,
  windows: readonly bigint[],
  made = keysFor(shape, alpha),
): number {
  const size = 2 * 2 ** windowBits;
  const vectors = ([0, 1] as const).map((party) => {
    const out = Array.from({ length: shape.leafWords }, () => [] as bigint[]);
    const options = { ...shape, party, seeds: made.seeds[party], corrections: made.corrections, encryptBlocks };
    expandWindows({ ...options, windowBits, windows: words(windows, shape.wordBits), chunk: 3 }, (_first, _count, parts) => {
      for (const [word, part] of parts.entries()) out[word]!.push(...numbers(part, shape.wordBits));
    });
    return out;
  });
  const gamma = numbers(made.gamma, shape.wordBits);
  let wrong = 0;
  alpha.forEach((a, key) => {
    for (let at = 0; at < size; at++) {
      const x = BigInt.asUintN(shape.k, windows[key]! * BigInt(2 ** windowBits) + BigInt(at));
      for (let word = 0; word < shape.leafWords; word++) {
        const sum = BigInt.asUintN(shape.wordBits, vectors[0]![word]![key * size + at]! + vectors[1]![word]![key * size + at]!);
        if (sum !== (x === a ? gamma[key * shape.leafWords + word]! : 0n)) wrong++;
      }
    }
  });
  return wrong;
}

const upTo = (k: number): bigint[] => Array.from({ length: 2 ** k }, (_, i) => BigInt(i));

describe.each([32, 64] as const)('distributed comparison functions in words of %i bits', (wordBits) => {
  it.each([1, 2, 3, 4, 5])('share β · [x < α] for every α and every x of 2^%i', (k) => {
    for (const valueWords of [1, 2])
      for (const leafWords of [0, 2]) expect(wrongComparisons({ k, wordBits, valueWords, leafWords }, upTo(k), upTo(k))).toBe(0);
  });

  it.each([1, 2, 3, 4, 5])('share γ · [x = α] on every window of 2^%i', (k) => {
    for (const leafWords of [1, 2, 3])
      for (const valueWords of [0, 2])
        for (let windowBits = 0; windowBits < k; windowBits++) {
          const windows = upTo(k - windowBits);
          const alpha = windows.flatMap(() => upTo(k));
          const places = windows.flatMap((window) => upTo(k).map(() => window));
          expect(wrongWindows({ k, wordBits, valueWords, leafWords }, alpha, windowBits, places)).toBe(0);
        }
  });

  it('compare wide points, at and beside α and at both ends', () => {
    for (const k of wordBits === 64 ? [31, 32, 33, 47, 62] : [27, 31]) {
      const shape = { k, wordBits, valueWords: 2, leafWords: 3 };
      const random = numbers(draw((12 * wordBits) / 8), wordBits).map((value) => BigInt.asUintN(k, value));
      const top = BigInt.asUintN(k, -1n);
      const around = random.slice(0, 4).flatMap((a) => [a - 1n, a, a + 1n].map((x) => BigInt.asUintN(k, x)));
      expect(wrongComparisons(shape, [...random, 0n, 1n, top], [...around, 0n, 1n, top - 1n, top])).toBe(0);
      const high = random.map((a, i) => BigInt.asUintN(k - 3, (a >> 3n) - BigInt(i % 2)));
      expect(wrongWindows(shape, random, 3, high)).toBe(0);
      expect(wrongWindows(shape, [0n, 7n, top], 3, [BigInt.asUintN(k - 3, -1n), 0n, BigInt.asUintN(k - 3, -1n)])).toBe(0);
    }
  });

  it('are caught when any one bit of a correction is wrong', () => {
    const shape = { k: 3, wordBits, valueWords: 2, leafWords: 3 } as const;
    const made = keysFor(shape, [5n]);
    let caught = 0;
    for (let bit = 0; bit < 8 * made.corrections.length; bit++) {
      const corrections = made.corrections.slice();
      corrections[bit >> 3]! ^= 1 << (bit & 7);
      const damaged = { ...made, corrections };
      const wrong = wrongComparisons(shape, [5n], upTo(3), damaged) + wrongWindows(shape, [5n], 2, [0n], damaged);
      if (wrong > 0) caught++;
    }
    expect(caught).toBe(8 * made.corrections.length);
  });

  it('have keys of one size, whose bits say nothing of the point by frequency', () => {
    const shape = { k: 5, wordBits, valueWords: 1, leafWords: 1 };
    const runs = 1200;
    for (const point of [0n, 21n, 31n]) {
      const made = keysFor(shape, Array(runs).fill(point));
      const bytes = comparisonBytes(shape);
      expect(made.corrections.length).toBe(runs * bytes);
      const ones = new Float64Array(8 * bytes);
      made.corrections.forEach((byte, at) => {
        for (let bit = 0; bit < 8; bit++) ones[8 * (at % bytes) + bit]! += (byte >> bit) & 1;
      });
      // Six standard deviations of a fair coin.
      expect(Math.max(...ones.map((count) => Math.abs(count - runs / 2)))).toBeLessThan(6 * Math.sqrt(runs / 4));
    }
  });
});

describe('distributed comparison functions', () => {
  it('state the size of a key', () => {
    expect(comparisonBytes({ k: 16, wordBits: 64, valueWords: 1, leafWords: 0 })).toBe(16 * 24 + 8);
    expect(comparisonBytes({ k: 16, wordBits: 64, valueWords: 2, leafWords: 3 })).toBe(16 * 32 + 16 + 24);
    expect(comparisonBytes({ k: 16, wordBits: 32, valueWords: 0, leafWords: 3 })).toBe(16 * 16 + 12);
  });

  it('refuse shapes and sizes that do not fit', () => {
    const shape = { k: 4, wordBits: 64, valueWords: 1, leafWords: 1 } as const;
    for (const bad of [{ k: 0 }, { k: 63 }, { valueWords: 3 }, { leafWords: 4 }, { wordBits: 16 as 32 }, { k: 2.5 }])
      expect(() => comparisonBytes({ ...shape, ...bad })).toThrow(SottoError);
    const made = keysFor(shape, [3n]);
    const options = { ...shape, party: 0 as const, encryptBlocks, points: words([1n], 64), pointsPerKey: 1 };
    const corrections = made.corrections.subarray(1);
    expect(() => evaluateComparisons({ ...options, seeds: made.seeds[0], corrections })).toThrow(SottoError);
    expect(() =>
      evaluateComparisons({ ...options, seeds: made.seeds[0], corrections: made.corrections, pointsPerKey: 2 }),
    ).toThrow(SottoError);
    expect(() =>
      expandWindows(
        { ...options, seeds: made.seeds[0], corrections: made.corrections, windowBits: 4, windows: words([0n], 64) },
        () => {},
      ),
    ).toThrow(SottoError);
  });
});
