import { createCipheriv } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  correctionBytes,
  expand,
  expandInChunks,
  fixedKeysHex,
  generateKeys,
  type PointShape,
  seedBytes,
} from '../../src/backends/mpc/correlations/dpf.ts';
import { SottoError } from '../../src/errors/index.ts';
import { aesPrg, fixedKeyAes } from '../../src/node/randomness.ts';

const ciphers = fixedKeysHex.map((key) => fixedKeyAes(Buffer.from(key, 'hex')));
const encryptBlocks = (key: 0 | 1, blocks: Uint8Array) => ciphers[key]!(blocks);
const prg = aesPrg(new Uint8Array(32).fill(7));
let stream = 0;
const draw = (length: number) => {
  const bytes = new Uint8Array(length);
  prg.fill(stream++, bytes);
  return bytes;
};

function keys(shape: PointShape, alpha: readonly number[]) {
  const seeds0 = draw(alpha.length * seedBytes);
  const seeds1 = draw(alpha.length * seedBytes);
  return { seeds0, seeds1, corrections: generateKeys({ ...shape, alpha, seeds0, seeds1, encryptBlocks }) };
}
const words = (bytes: Uint8Array<ArrayBuffer>, wordBits: 32 | 64) =>
  wordBits === 64 ? new BigUint64Array(bytes.buffer) : BigUint64Array.from(new Uint32Array(bytes.buffer), BigInt);

/** How many words of v₀ + v₁ differ from the unit vectors at alpha. */
function wrongWords(shape: PointShape, alpha: readonly number[], made: ReturnType<typeof keys>, cipher = encryptBlocks): number {
  const common = { ...shape, corrections: made.corrections, encryptBlocks: cipher };
  const v0 = words(expand({ ...common, party: 0, seeds: made.seeds0 }), shape.wordBits);
  const v1 = words(expand({ ...common, party: 1, seeds: made.seeds1 }), shape.wordBits);
  const size = 2 ** shape.k;
  expect(v0.length).toBe(alpha.length * size);
  let wrong = 0;
  alpha.forEach((point, key) => {
    for (let j = 0; j < size; j++) {
      const sum = BigInt.asUintN(shape.wordBits, v0[key * size + j]! + v1[key * size + j]!);
      if (sum !== (j === point ? 1n : 0n)) wrong++;
    }
  });
  return wrong;
}

describe.each([32, 64] as const)('distributed point functions in words of %i bits', (wordBits) => {
  it.each([1, 2, 3, 4, 5, 6, 7])('share the unit vector at every point of 2^%i', (k) => {
    const every = Array.from({ length: 2 ** k }, (_, point) => point);
    const alpha = Array.from({ length: k < 4 ? 16 : 2 }, () => every).flat();
    expect(wrongWords({ k, wordBits }, alpha, keys({ k, wordBits }, alpha))).toBe(0);
  });

  it('share the unit vector at sampled points of 2^12 and at both ends of 2^16', () => {
    const alpha = [0, 1, 2, 3, 2047, 2048, 4094, 4095, ...draw(64).map((byte) => byte)].map((point, i) =>
      i < 8 ? point : (point * 16 + i) % 4096,
    );
    expect(wrongWords({ k: 12, wordBits }, alpha, keys({ k: 12, wordBits }, alpha))).toBe(0);
    expect(wrongWords({ k: 16, wordBits }, [0, 65_535, 40_000], keys({ k: 16, wordBits }, [0, 65_535, 40_000]))).toBe(0);
  });

  it('give the same vectors whatever the chunk, and nothing for no keys', () => {
    const alpha = [3, 9, 14, 0, 15, 7, 1];
    const shape = { k: 4, wordBits };
    const made = keys(shape, alpha);
    const options = { ...shape, party: 1 as const, seeds: made.seeds1, corrections: made.corrections, encryptBlocks };
    const whole = expand(options);
    for (const chunk of [1, 2, 3, 7, 100]) {
      const parts: Uint8Array[] = [];
      let next = 0;
      expandInChunks({ ...options, chunk }, (firstKey, count, vectors) => {
        expect(firstKey).toBe(next);
        expect(count).toBeLessThanOrEqual(chunk);
        next += count;
        parts.push(vectors);
      });
      expect(Buffer.compare(Buffer.concat(parts), whole)).toBe(0);
    }
    expect(expand({ ...options, seeds: new Uint8Array(0), corrections: new Uint8Array(0) }).length).toBe(0);
  });

  it('carry between words as they should: with a cipher whose blocks are full of zeros, ones and signs', () => {
    const edges = [0, 1, -1, -(2 ** 31)];
    const rough = (key: 0 | 1, blocks: Uint8Array) => {
      const from = new Int32Array(blocks.slice().buffer);
      const mixed = new Int32Array(encryptBlocks(key, blocks).slice().buffer);
      return new Uint8Array(from.map((word, i) => word ^ edges[mixed[i]! & 3]!).buffer);
    };
    for (const k of [1, 3, 6]) {
      const alpha = Array.from({ length: 200 }, (_, i) => i % 2 ** k);
      const seeds0 = draw(200 * seedBytes);
      const seeds1 = draw(200 * seedBytes);
      const corrections = generateKeys({ k, wordBits, alpha, seeds0, seeds1, encryptBlocks: rough });
      expect(wrongWords({ k, wordBits }, alpha, { seeds0, seeds1, corrections }, rough)).toBe(0);
    }
  });

  it('are caught when any one bit of a correction is wrong', () => {
    const shape = { k: 4, wordBits };
    const alpha = [11];
    const made = keys(shape, alpha);
    const size = correctionBytes(4, wordBits);
    const levels = 4 - (wordBits === 64 ? 1 : 2);
    const unused = 8 - levels;
    let caught = 0;
    for (let bit = 0; bit < 8 * size; bit++) {
      const corrections = made.corrections.slice();
      corrections[bit >> 3]! ^= 1 << (bit & 7);
      if (wrongWords(shape, alpha, { ...made, corrections }) > 0) caught++;
    }
    expect(caught).toBe(8 * size - unused);
  });

  it('have keys of one size, whose bits and shares say nothing of the point by frequency', () => {
    const shape = { k: 6, wordBits };
    const runs = 1500;
    const frequencies = [0, 37, 63].map((point) => {
      const made = keys(shape, Array(runs).fill(point));
      expect(made.corrections.length).toBe(runs * correctionBytes(6, wordBits));
      return [
        made.corrections,
        expand({ ...shape, party: 0, seeds: made.seeds0, corrections: made.corrections, encryptBlocks }),
      ].map((bytes) => {
        const size = bytes.length / runs;
        const ones = new Float64Array(8 * size);
        for (let at = 0; at < bytes.length; at++)
          for (let bit = 0; bit < 8; bit++) ones[8 * (at % size) + bit]! += (bytes[at]! >> bit) & 1;
        return ones;
      });
    });
    // Every bit is a fair coin except the unused ones of the control byte, which are always zero: six standard deviations are ±232 of 1500.
    const levels = 6 - (wordBits === 64 ? 1 : 2);
    for (const [corrections, vectors] of frequencies) {
      const unused = (bit: number) => bit >= 8 * 16 * levels + levels && bit < 8 * (16 * levels + 1);
      corrections!.forEach((ones, bit) => {
        if (unused(bit)) expect(ones).toBe(0);
        else expect(Math.abs(ones - runs / 2), `correction bit ${bit}`).toBeLessThan(6 * Math.sqrt(runs / 4));
      });
      expect(vectors!.every((ones) => Math.abs(ones - runs / 2) < 6 * Math.sqrt(runs / 4))).toBe(true);
    }
  });
});

describe('distributed point functions', () => {
  it('keep their golden corrections, computed here step by step with BigInt', () => {
    const seeds = [draw(16), draw(16)];
    for (const [k, alpha] of [
      [1, 1],
      [4, 10],
      [7, 85],
    ] as const) {
      const made = generateKeys({ k, wordBits: 64, alpha: [alpha], seeds0: seeds[0]!, seeds1: seeds[1]!, encryptBlocks });
      expect(Buffer.from(made).toString('hex')).toBe(referenceCorrections(k, alpha, seeds).toString('hex'));
    }
  });

  it('state the size of a key', () => {
    expect(correctionBytes(12, 64)).toBe(11 * 16 + 2 + 16);
    expect(correctionBytes(12, 32)).toBe(10 * 16 + 2 + 16);
    expect(correctionBytes(1, 32)).toBe(8);
    expect(correctionBytes(1, 64)).toBe(16);
    expect(correctionBytes(2, 32)).toBe(16);
  });

  it('refuse shapes, points and sizes that do not fit', () => {
    const good = {
      k: 4,
      wordBits: 64 as const,
      alpha: [1],
      seeds0: new Uint8Array(16),
      seeds1: new Uint8Array(16),
      encryptBlocks,
    };
    const key = {
      k: 4,
      wordBits: 64 as const,
      party: 0 as const,
      seeds: new Uint8Array(16),
      corrections: new Uint8Array(correctionBytes(4, 64)),
      encryptBlocks,
    };
    for (const bad of [
      { k: 0 },
      { k: 17 },
      { k: 1.5 },
      { wordBits: 16 as 32 },
      { alpha: [16] },
      { alpha: [-1] },
      { alpha: [0.5] },
      { alpha: [1, 2] },
      { seeds1: new Uint8Array(17) },
    ])
      expect(() => generateKeys({ ...good, ...bad }), JSON.stringify(bad)).toThrow(SottoError);
    for (const bad of [
      { seeds: new Uint8Array(15) },
      { seeds: new Uint8Array(32) },
      { corrections: new Uint8Array(3) },
      { k: 5 },
    ])
      expect(() => expand({ ...key, ...bad })).toThrow(SottoError);
  });
});

/** The paper's Gen for 64-bit words, one key, as plainly as it can be written. */
function referenceCorrections(k: number, alpha: number, seeds: readonly Uint8Array[]): Buffer {
  const block = (value: bigint) => {
    const bytes = Buffer.alloc(16);
    bytes.writeBigUInt64LE(value & (2n ** 64n - 1n), 0);
    bytes.writeBigUInt64LE(value >> 64n, 8);
    return bytes;
  };
  const number = (bytes: Uint8Array) => Buffer.from(bytes).readBigUInt64LE(0) + (Buffer.from(bytes).readBigUInt64LE(8) << 64n);
  const hash = (key: 0 | 1, value: bigint) => {
    const cipher = createCipheriv('aes-128-ecb', Buffer.from(fixedKeysHex[key], 'hex'), null).setAutoPadding(false);
    return number(cipher.update(block(value))) ^ value;
  };
  const state = seeds.map((seed, t) => ({ s: number(seed) & ~1n, t: BigInt(t) }));
  const out: Buffer[] = [];
  let rights = 0n;
  for (let level = 0; level < k - 1; level++) {
    const a = BigInt((alpha >> (k - 1 - level)) & 1);
    const children = state.map(({ s }) => ([0, 1] as const).map((side) => ({ s: hash(side, s) & ~1n, t: hash(side, s) & 1n })));
    const lose = 1 - Number(a);
    const sCW = children[0]![lose]!.s ^ children[1]![lose]!.s;
    const tCW = [children[0]![0]!.t ^ children[1]![0]!.t ^ a ^ 1n, children[0]![1]!.t ^ children[1]![1]!.t ^ a];
    state.forEach((party, b) => {
      const kept = children[b]![Number(a)]!;
      const t = party.t;
      party.s = kept.s ^ (t * sCW);
      party.t = kept.t ^ (t * tCW[Number(a)]!);
    });
    out.push(block(sCW | tCW[0]!));
    rights |= tCW[1]! << BigInt(level);
  }
  if (k > 1) out.push(Buffer.from([Number(rights)]));
  const convert = state.map(({ s }) => hash(0, s));
  for (const j of [0n, 1n]) {
    const word = (value: bigint) => (value >> (64n * j)) & (2n ** 64n - 1n);
    const value = (BigInt(alpha) % 2n === j ? 1n : 0n) - word(convert[0]!) + word(convert[1]!);
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt.asUintN(64, state[1]!.t === 1n ? -value : value));
    out.push(bytes);
  }
  return Buffer.concat(out);
}
