import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Block,
  createReferenceKernels,
  createWasmKernels,
  type RingKernels,
  type WordBits,
} from '../../src/kernels/index.ts';
import { createParallelKernels } from '../../src/node/kernels.ts';
import { put, someWords, take } from './words.ts';

type Closable = RingKernels & { close?(): Promise<void> };
const implementations: { name: string; wordBits: WordBits; create(): Closable | Promise<Closable> }[] = [
  { name: 'reference', wordBits: 32, create: () => createReferenceKernels(32) },
  { name: 'reference', wordBits: 64, create: () => createReferenceKernels(64) },
  { name: 'wasm', wordBits: 32, create: () => createWasmKernels(32) },
  { name: 'wasm', wordBits: 64, create: () => createWasmKernels(64) },
  { name: 'parallel', wordBits: 32, create: () => createParallelKernels(32, { workers: 2 }) },
  { name: 'parallel', wordBits: 64, create: () => createParallelKernels(64, { workers: 3 }) },
];
const lengths = [0, 1, 2, 3, 7, 8, 33, 130];

describe.each(implementations)('$name kernels on $wordBits-bit words', ({ wordBits, create }) => {
  let kernels: Closable;
  beforeAll(async () => {
    kernels = await create();
  });
  afterAll(async () => {
    await kernels.close?.();
  });
  const ring = (x: bigint): bigint => BigInt.asUintN(wordBits, x);
  const some = (length: number, seed?: number): bigint[] => someWords(length, wordBits, seed);
  const kind = (expected: string) => expect.objectContaining({ name: 'SottoError', kind: expected });
  /** Runs an operation on fresh blocks and frees them. */
  const run = (
    inputs: readonly (readonly bigint[])[],
    length: number,
    operation: (out: Block, ...inputs: Block[]) => void,
  ): bigint[] => {
    const out = kernels.allocate(length);
    const blocks = inputs.map((words) => put(kernels, words));
    operation(out, ...blocks);
    const words = take(kernels, out);
    for (const block of [out, ...blocks]) kernels.free(block);
    return words;
  };

  const elementwise: Record<string, [(x: bigint, y: bigint) => bigint, (out: Block, a: Block, b: Block) => void]> = {
    copy: [(x) => x, (out, a) => kernels.copy(out, a)],
    add: [(x, y) => x + y, (out, a, b) => kernels.add(out, a, b)],
    subtract: [(x, y) => x - y, (out, a, b) => kernels.subtract(out, a, b)],
    multiply: [(x, y) => x * y, (out, a, b) => kernels.multiply(out, a, b)],
    negate: [(x) => -x, (out, a) => kernels.negate(out, a)],
    xor: [(x, y) => x ^ y, (out, a, b) => kernels.xor(out, a, b)],
    addScalar: [(x) => x - 12345678901234567n, (out, a) => kernels.addScalar(out, a, -12345678901234567n)],
    multiplyScalar: [(x) => x * 987654321987654321n, (out, a) => kernels.multiplyScalar(out, a, 987654321987654321n)],
    mask: [(x) => x & 0xfffffn, (out, a) => kernels.mask(out, a, 20)],
    shiftLeft: [(x) => x << 7n, (out, a) => kernels.shiftLeft(out, a, 7)],
    shiftRight: [(x) => BigInt.asUintN(29, x) >> 5n, (out, a) => kernels.shiftRight(out, a, 5, 29)],
    shiftRightSigned: [(x) => BigInt.asIntN(29, x) >> 5n, (out, a) => kernels.shiftRightSigned(out, a, 5, 29)],
    select: [(x, y) => (x & 1n ? x : y), (out, a, b) => kernels.select(out, a, a, b)],
  };
  it.each(Object.keys(elementwise))('%s follows its definition at every length, also in place', (name) => {
    const [definition, operation] = elementwise[name]!;
    for (const length of lengths) {
      const [x, y] = [some(length, 1), some(length, 2)];
      const expected = x.map((word, i) => ring(definition(word, y[i]!)));
      expect(run([x, y], length, operation)).toEqual(expected);
      expect(
        run([y], length, (out, b) => {
          kernels.bytes(out).set(bytesOf(x));
          operation(out, out, b);
        }),
      ).toEqual(expected);
      expect(
        run([x], length, (out, a) => {
          kernels.bytes(out).set(bytesOf(y));
          operation(out, a, out);
        }),
      ).toEqual(expected);
    }
  });
  const bytesOf = (words: readonly bigint[]): Uint8Array => {
    const block = put(kernels, words);
    const bytes = kernels.bytes(block).slice();
    kernels.free(block);
    return bytes;
  };

  it('adds products to what out holds', () => {
    for (const length of lengths) {
      const [x, y, z] = [some(length, 1), some(length, 2), some(length, 3)];
      const words = run([x, y, z], length, (out, a, b, c) => {
        kernels.copy(out, c);
        kernels.multiplyAdd(out, a, b);
      });
      expect(words).toEqual(x.map((word, i) => ring(z[i]! + word * y[i]!)));
    }
  });

  it('fills with a value modulo the word', () => {
    expect(run([], 5, (out) => kernels.fill(out, -3n))).toEqual(Array(5).fill(ring(-3n)));
  });

  it('shifts and masks by every number of bits in every ring', () => {
    const x = some(9);
    for (let ringBits = 1; ringBits <= wordBits; ringBits += ringBits % 3 === 0 ? 4 : 1) {
      for (let bits = 0; bits <= wordBits; bits++) {
        const right = run([x], 9, (out, a) => kernels.shiftRight(out, a, bits, ringBits));
        const signed = run([x], 9, (out, a) => kernels.shiftRightSigned(out, a, bits, ringBits));
        expect(right).toEqual(x.map((word) => BigInt.asUintN(ringBits, word) >> BigInt(bits)));
        expect(signed).toEqual(x.map((word) => ring(BigInt.asIntN(ringBits, word) >> BigInt(bits))));
      }
    }
    for (let bits = 0; bits <= wordBits; bits++) {
      expect(run([x], 9, (out, a) => kernels.mask(out, a, bits))).toEqual(x.map((word) => BigInt.asUintN(bits, word)));
      expect(run([x], 9, (out, a) => kernels.shiftLeft(out, a, bits))).toEqual(x.map((word) => ring(word << BigInt(bits))));
    }
  });

  const views: [shape: number[], strides: number[], start: number][] = [
    [[], [], 7],
    [[17], [1], 3],
    [[17], [5], 0],
    [[6], [-2], 12],
    [[3, 9, 5], [45, 1, 9], 0],
    [[33, 35], [1, 33], 2],
    [[4, 6], [0, 1], 5],
    [[4, 6], [1, 0], 5],
    [[5, 3, 2, 4], [2, 10, 1, 40], 0],
    [[7, 5, 6], [1, 7, 35], 1],
    [[2, 1, 3, 1, 2, 2, 1, 3], [36, 5, 12, 5, 6, 3, 5, 1], 0],
    [[3, 0, 2], [1, 1, 1], 0],
  ];
  it('gathers and scatters by any strides', () => {
    for (const [shape, strides, start] of views) {
      const indices = positions(shape, strides, start);
      const far = some(1200);
      const gathered = run([far], indices.length, (out, a) => kernels.gather(out, a, shape, strides, start));
      expect(gathered).toEqual(indices.map((index) => far[index]));
      if (strides.includes(0)) continue;
      const dense = some(indices.length, 5);
      const expected = [...far];
      indices.forEach((index, i) => {
        expected[index] = dense[i]!;
      });
      const scattered = run([dense, far], 1200, (out, a, b) => {
        kernels.copy(out, b);
        kernels.scatter(out, a, shape, strides, start);
      });
      expect(scattered).toEqual(expected);
    }
  });

  it('refuses views that leave their block', () => {
    const [a, out] = [kernels.allocate(12), kernels.allocate(6)];
    for (const [shape, strides, start] of [
      [[6], [2], 2],
      [[6], [1], -1],
      [[6], [-1], 4],
      [[2, 3], [7, 3], 0],
      [[6], [1], 0.5],
    ] as const) {
      expect(() => kernels.gather(out, a, shape, strides, start)).toThrow(kind('usage'));
      expect(() => kernels.scatter(a, out, shape, strides, start)).toThrow(kind('usage'));
    }
    expect(() => kernels.gather(out, a, [5], [1], 0)).toThrow(kind('usage'));
    expect(() => kernels.gather(out, a, [6], [1, 1], 0)).toThrow(kind('usage'));
    expect(() => kernels.gather(out, out, [6], [1], 0)).toThrow(kind('usage'));
    kernels.free(a);
    kernels.free(out);
  });

  it('sums over the middle axis', () => {
    for (const [outer, axis, inner] of [
      [1, 1, 1],
      [3, 7, 1],
      [2, 5, 13],
      [4, 0, 3],
      [2, 3, 16],
      [1, 33, 34],
    ] as const) {
      const x = some(outer * axis * inner);
      const expected = Array.from({ length: outer * inner }, (_, at) => {
        let total = 0n;
        for (let i = 0; i < axis; i++) total += x[(Math.floor(at / inner) * axis + i) * inner + (at % inner)]!;
        return ring(total);
      });
      expect(run([x], outer * inner, (out, a) => kernels.sum(out, a, outer, axis, inner))).toEqual(expected);
    }
  });

  it('multiplies matrices of any size, in batches and onto what out holds', () => {
    const sizes = [
      [1, 1, 1, 1],
      [2, 3, 5, 7],
      [1, 1, 9, 33],
      [1, 16, 8, 8],
      [3, 13, 9, 11],
      [2, 14, 17, 1],
      [1, 12, 300, 3],
      [1, 6, 8, 270],
    ];
    for (const [batch, m, k, n] of sizes as [number, number, number, number][]) {
      const [x, y, z] = [some(batch * m * k, 1), some(batch * k * n, 2), some(batch * m * n, 3)];
      const expected = plainProduct(x, y, batch, m, k, n);
      expect(run([x, y], batch * m * n, (out, a, b) => kernels.matmul(out, a, b, { batch, m, k, n }))).toEqual(
        expected.map(ring),
      );
      const added = run([x, y, z], batch * m * n, (out, a, b, c) => {
        kernels.copy(out, c);
        kernels.matmul(out, a, b, { batch, m, k, n }, true);
      });
      expect(added).toEqual(expected.map((word, i) => ring(word + z[i]!)));
    }
  });

  it('takes the inner product of every vector with its rotated table', () => {
    for (const [rows, n] of [
      [1, 1],
      [3, 2],
      [9, 4],
      [20, 32],
      [5, 64],
    ] as const) {
      const [vectors, table, delta] = [some(rows * n, 1), some(n, 2), some(rows, 3)];
      const expected = delta.map((d, r) => {
        let total = 0n;
        for (let j = 0; j < n; j++) total += vectors[r * n + j]! * table[(j + Number(d % BigInt(n))) % n]!;
        return ring(total);
      });
      expect(run([vectors, table, delta], rows, (out, v, t, d) => kernels.rotatedInner(out, v, t, d))).toEqual(expected);
    }
    expect(() => run([some(9), some(3), some(3)], 3, (out, v, t, d) => kernels.rotatedInner(out, v, t, d))).toThrow(
      kind('usage'),
    );
  });

  it('packs every width without gaps and unpacks it again', () => {
    for (let bits = 1; bits <= wordBits; bits++) {
      for (const length of [0, 1, 5, 8, 67]) {
        const x = some(length, bits);
        let stream = 0n;
        x.forEach((word, i) => {
          stream |= BigInt.asUintN(bits, word) << BigInt(i * bits);
        });
        const block = put(kernels, x);
        const bytes = kernels.pack(block, bits);
        expect(bytes.length).toBe(Math.ceil((length * bits) / 8));
        expect(bytes).toEqual(Uint8Array.from(bytes, (_, i) => Number((stream >> BigInt(8 * i)) & 0xffn)));
        kernels.unpack(block, bytes, bits);
        expect(take(kernels, block)).toEqual(x.map((word) => BigInt.asUintN(bits, word)));
        kernels.free(block);
      }
    }
  });

  it('packs blocks that are longer than the staging area', () => {
    const block = kernels.allocate(40_003);
    const bytes = kernels.bytes(block);
    for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 2654435761) >>> 9;
    const low = kernels.allocate(block.length);
    const back = kernels.allocate(block.length);
    kernels.mask(low, block, 23);
    kernels.unpack(back, kernels.pack(block, 23), 23);
    expect(kernels.bytes(back)).toEqual(kernels.bytes(low));
    for (const used of [block, low, back]) kernels.free(used);
  });

  it('refuses packed bytes of another length or with bits in the padding', () => {
    const out = kernels.allocate(3);
    expect(() => kernels.unpack(out, new Uint8Array(3), 5)).toThrow(kind('input'));
    expect(() => kernels.unpack(out, new Uint8Array(1), 5)).toThrow(kind('input'));
    expect(() => kernels.unpack(out, Uint8Array.of(0, 0x80), 5)).toThrow(kind('input'));
    expect(() => kernels.unpack(out, Uint8Array.of(0, 0x40), 5)).not.toThrow();
    kernels.free(out);
  });

  it('rounds halves to even when it encodes, and decodes signed', () => {
    const values = [0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.49, -3.51, 127, -128, -0];
    const words = run([], values.length, (out) => kernels.encode(out, new Float64Array(values), 0, 8));
    expect(words).toEqual([0n, 0n, 2n, 2n, 0n, -2n, -2n, 3n, -4n, 127n, -128n, 0n].map(ring));
    const block = kernels.allocate(3);
    kernels.encode(block, Float32Array.of(1.25, -2.75, 1000), 12, 31);
    expect(kernels.decode(block, 12, 31)).toEqual(Float64Array.of(1.25, -2.75, 1000));
    kernels.addScalar(block, block, 1n << 31n);
    expect(kernels.decode(block, 12, 31)).toEqual(Float64Array.of(1.25, -2.75, 1000));
    expect(kernels.decode(block, -2, 31)[0]).toBe(1.25 * 2 ** 14);
    kernels.free(block);
  });

  it('names the first value that does not fit the ring', () => {
    for (const [bad, fraction, ringBits] of [
      [128, 0, 8],
      [-128.51, 0, 8],
      [127.5, 0, 8],
      [Number.NaN, 3, 30],
      [Infinity, 3, 30],
      [-Infinity, 0, wordBits],
      [2 ** 20, 11, 32],
      [2 ** (wordBits - 1), 0, wordBits],
    ] as const) {
      const values = new Float64Array(20_000);
      values[19_001] = bad;
      values[19_500] = bad;
      expect(() => run([], values.length, (out) => kernels.encode(out, values, fraction, ringBits))).toThrow(
        expect.objectContaining({ kind: 'range', reason: expect.stringContaining('19001') }),
      );
    }
    const edge = Float64Array.of(-(2 ** (wordBits - 1)), -128.5);
    expect(run([], 2, (out) => kernels.encode(out, edge, 0, wordBits))).toEqual([2n ** BigInt(wordBits - 1), ring(-128n)]);
  });

  it('finds the first largest absolute value', () => {
    const block = put(kernels, [3n, -7n, 7n, 1n << 31n]);
    expect(kernels.maxAbs(block, 31)).toEqual({ value: 7, index: 1 });
    expect(kernels.maxAbs(block, 32)).toEqual({ value: 2 ** 31, index: 3 });
    kernels.free(block);
    const least = put(kernels, [5n, 1n << BigInt(wordBits - 1)]);
    expect(kernels.maxAbs(least, wordBits)).toEqual({ value: 2 ** (wordBits - 1), index: 1 });
    kernels.free(least);
  });

  it('refuses blocks that do not fit together', () => {
    const [two, three] = [kernels.allocate(2), kernels.allocate(3)];
    expect(() => kernels.add(two, two, three)).toThrow(kind('usage'));
    expect(() => kernels.matmul(two, three, three, { batch: 1, m: 1, k: 3, n: 2 })).toThrow(kind('usage'));
    expect(() => kernels.matmul(two, two, three, { batch: 1, m: 0, k: 3, n: 2 })).toThrow(kind('usage'));
    expect(() => kernels.matmul(two, two, kernels.allocate(4), { batch: 1, m: 1, k: 2, n: 2 })).toThrow(kind('usage'));
    expect(() => kernels.fill({ offset: 2 ** 33, length: 1 }, 0n)).toThrow(kind('usage'));
    expect(() => kernels.fill({ offset: two.offset + 1, length: 1 }, 0n)).toThrow(kind('usage'));
    expect(() => kernels.fill({ offset: -8, length: 1 }, 0n)).toThrow(kind('usage'));
    expect(() => kernels.shiftRight(two, two, wordBits + 1, wordBits)).toThrow(kind('usage'));
    expect(() => kernels.pack(two, 0)).toThrow(kind('usage'));
  });

  it('works on blocks that the caller cut from a larger one', () => {
    const whole = put(kernels, [1n, 2n, 3n, 4n, 5n, 6n]);
    const middle = { offset: whole.offset + wordBits / 8, length: 3 };
    kernels.addScalar(middle, middle, 10n);
    expect(take(kernels, whole)).toEqual([1n, 12n, 13n, 14n, 5n, 6n]);
    kernels.free(whole);
  });

  it('counts the bytes in blocks, clears freed words and refuses a second free', () => {
    const before = kernels.allocatedBytes;
    const a = put(kernels, some(100, 4));
    expect(kernels.allocatedBytes).toBe(before + (100 * wordBits) / 8);
    expect(kernels.peakBytes).toBeGreaterThanOrEqual(kernels.allocatedBytes);
    kernels.free(a);
    expect(kernels.allocatedBytes).toBe(before);
    expect(kernels.bytes(a).every((byte) => byte === 0)).toBe(true);
    expect(() => kernels.free(a)).toThrow(kind('usage'));
    const b = kernels.allocate(4);
    expect(() => kernels.free({ offset: b.offset, length: 3 })).toThrow(kind('usage'));
    kernels.free(b);
  });
});

function positions(shape: readonly number[], strides: readonly number[], start: number): number[] {
  let found = [start];
  shape.forEach((size, d) => {
    found = found.flatMap((at) => Array.from({ length: size }, (_, i) => at + i * strides[d]!));
  });
  return found;
}

function plainProduct(x: readonly bigint[], y: readonly bigint[], batch: number, m: number, k: number, n: number): bigint[] {
  return Array.from({ length: batch * m * n }, (_, at) => {
    const [row, column] = [Math.floor(at / n), at % n];
    const first = Math.floor(row / m) * k * n;
    let total = 0n;
    for (let p = 0; p < k; p++) total += x[row * k + p]! * y[first + p * n + column]!;
    return total;
  });
}
