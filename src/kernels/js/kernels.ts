import { BlockAllocator } from '../allocator.ts';
import * as checks from '../checks.ts';
import type { Block, RingKernels, WordBits } from '../contract.ts';

/** The memory of the twin: small, because nobody runs anything large on it. */
const MOST_BYTES = 2 ** 28;

/**
 * The slow twin: every operation as its definition, one BigInt per word. It is what the fast kernels are tested against.
 * Not constant time.
 */
// biome-ignore lint/complexity/noExcessiveLinesPerFunction: a table, a row an operation
export function createReferenceKernels(wordBits: WordBits): RingKernels {
  const wordBytes = wordBits / 8;
  let view = new DataView(new ArrayBuffer(2 ** 16));
  const allocator = new BlockAllocator(wordBytes, 0, (endBytes) => {
    if (endBytes > MOST_BYTES) return undefined;
    const have = view.buffer.byteLength;
    if (endBytes <= have) return have;
    const bytes = new Uint8Array(Math.min(MOST_BYTES, Math.max(endBytes, 2 * have)));
    bytes.set(new Uint8Array(view.buffer));
    view = new DataView(bytes.buffer);
    return bytes.length;
  });

  const word = (value: bigint): bigint => BigInt.asUintN(wordBits, value);
  const read = ({ offset }: Block, i: number): bigint =>
    wordBits === 64 ? view.getBigUint64(offset + 8 * i, true) : BigInt(view.getUint32(offset + 4 * i, true));
  const write = ({ offset }: Block, i: number, value: bigint): void => {
    if (wordBits === 64) view.setBigUint64(offset + 8 * i, word(value), true);
    else view.setUint32(offset + 4 * i, Number(word(value)), true);
  };
  const inside = (...blocks: readonly Block[]): void => {
    for (const block of blocks) checks.checkInside(block, wordBytes, view.buffer.byteLength);
  };
  const each = (out: Block, inputs: readonly Block[], value: (...words: bigint[]) => bigint): void => {
    checks.checkLengths(out, ...inputs);
    inside(out, ...inputs);
    for (let i = 0; i < out.length; i++) write(out, i, value(...inputs.map((input) => read(input, i))));
  };
  const visit = (
    shape: readonly number[],
    strides: readonly number[],
    start: number,
    copy: (dense: number, far: number) => void,
  ) => {
    const count = shape.reduce((product, size) => product * size, 1);
    for (let dense = 0; dense < count; dense++) {
      let far = start;
      let rest = dense;
      for (let d = shape.length - 1; d >= 0; d--) {
        far += (rest % shape[d]!) * strides[d]!;
        rest = Math.floor(rest / shape[d]!);
      }
      copy(dense, far);
    }
  };

  return {
    wordBits,
    get allocatedBytes() {
      return allocator.allocatedBytes;
    },
    get peakBytes() {
      return allocator.peakBytes;
    },
    allocate: (length) => allocator.allocate(length),
    free(block) {
      allocator.assertLive(block);
      new Uint8Array(view.buffer, block.offset, block.length * wordBytes).fill(0);
      allocator.free(block);
    },
    bytes(block) {
      inside(block);
      return new Uint8Array(view.buffer, block.offset, block.length * wordBytes);
    },

    fill: (out, value) => each(out, [], () => value),
    copy: (out, a) => each(out, [a], (x) => x),
    add: (out, a, b) => each(out, [a, b], (x, y) => x + y),
    subtract: (out, a, b) => each(out, [a, b], (x, y) => x - y),
    multiply: (out, a, b) => each(out, [a, b], (x, y) => x * y),
    multiplyAdd: (out, a, b) => each(out, [out, a, b], (sum, x, y) => sum + x * y),
    negate: (out, a) => each(out, [a], (x) => -x),
    xor: (out, a, b) => each(out, [a, b], (x, y) => x ^ y),
    addScalar: (out, a, value) => each(out, [a], (x) => x + value),
    multiplyScalar: (out, a, value) => each(out, [a], (x) => x * value),
    select: (out, bit, whenOne, whenZero) => each(out, [bit, whenOne, whenZero], (b, x, y) => (b & 1n ? x : y)),

    mask(out, a, bits) {
      checks.checkInteger('bits', bits, 0, wordBits);
      each(out, [a], (x) => BigInt.asUintN(bits, x));
    },
    shiftLeft(out, a, bits) {
      checks.checkInteger('bits', bits, 0, wordBits);
      each(out, [a], (x) => x << BigInt(bits));
    },
    shiftRight(out, a, bits, ringBits) {
      checks.checkShift(bits, ringBits, wordBits);
      each(out, [a], (x) => BigInt.asUintN(ringBits, x) >> BigInt(bits));
    },
    shiftRightSigned(out, a, bits, ringBits) {
      checks.checkShift(bits, ringBits, wordBits);
      each(out, [a], (x) => BigInt.asIntN(ringBits, x) >> BigInt(bits));
    },

    gather(out, a, shape, strides, start) {
      inside(out, a);
      checks.checkStrided(out, a, shape, strides, start, wordBytes);
      visit(shape, strides, start, (dense, far) => write(out, dense, read(a, far)));
    },
    scatter(out, a, shape, strides, start) {
      inside(out, a);
      checks.checkStrided(a, out, shape, strides, start, wordBytes);
      visit(shape, strides, start, (dense, far) => write(out, far, read(a, dense)));
    },
    sum(out, a, outer, axis, inner) {
      inside(out, a);
      checks.checkSum(out, a, outer, axis, inner, wordBytes);
      for (let o = 0; o < outer; o++) {
        for (let i = 0; i < inner; i++) {
          let total = 0n;
          for (let x = 0; x < axis; x++) total += read(a, (o * axis + x) * inner + i);
          write(out, o * inner + i, total);
        }
      }
    },

    matmul(out, a, b, size, accumulate = false) {
      inside(out, a, b);
      checks.checkProduct(out, a, b, size, wordBytes);
      const { batch, m, k, n } = size;
      for (let i = 0; i < batch * m; i++) {
        const first = Math.floor(i / m) * k * n;
        for (let j = 0; j < n; j++) {
          let total = accumulate ? read(out, i * n + j) : 0n;
          for (let p = 0; p < k; p++) total += read(a, i * k + p) * read(b, first + p * n + j);
          write(out, i * n + j, total);
        }
      }
    },
    rotatedInner(out, vectors, table, delta) {
      inside(out, vectors, table, delta);
      checks.checkRotated(out, vectors, table, delta, wordBytes);
      const n = table.length;
      for (let r = 0; r < out.length; r++) {
        const shift = Number(read(delta, r) % BigInt(n));
        let total = 0n;
        for (let j = 0; j < n; j++) total += read(vectors, r * n + j) * read(table, (j + shift) % n);
        write(out, r, total);
      }
    },

    pack(a, bits) {
      checks.checkInteger('bits', bits, 1, wordBits);
      inside(a);
      const bytes = new Uint8Array(checks.packedBytes(a.length, bits));
      for (let at = 0; at < a.length * bits; at++) {
        const bit = (read(a, Math.floor(at / bits)) >> BigInt(at % bits)) & 1n;
        bytes[at >> 3]! |= Number(bit) << (at & 7);
      }
      return bytes;
    },
    unpack(out, bytes, bits) {
      checks.checkInteger('bits', bits, 1, wordBits);
      inside(out);
      checks.checkPacked(out.length, bytes, bits);
      for (let i = 0; i < out.length; i++) {
        let value = 0n;
        for (let at = (i + 1) * bits - 1; at >= i * bits; at--) value = (value << 1n) | BigInt((bytes[at >> 3]! >> (at & 7)) & 1);
        write(out, i, value);
      }
    },

    encode(out, values, fraction, ringBits) {
      checks.checkFraction(fraction, ringBits, wordBits);
      checks.checkLength('out', out, values.length);
      inside(out);
      for (let i = 0; i < values.length; i++) {
        const scaled = values[i]! * 2 ** fraction;
        if (!Number.isFinite(scaled)) throw checks.rangeError(i, fraction, ringBits);
        const floor = Math.floor(scaled);
        const up = scaled - floor > 0.5 || (scaled - floor === 0.5 && floor % 2 !== 0);
        const rounded = BigInt(up ? floor + 1 : floor);
        if (BigInt.asIntN(ringBits, rounded) !== rounded) throw checks.rangeError(i, fraction, ringBits);
        write(out, i, rounded);
      }
    },
    decode(a, fraction, ringBits) {
      checks.checkFraction(fraction, ringBits, wordBits);
      inside(a);
      return Float64Array.from({ length: a.length }, (_, i) => Number(BigInt.asIntN(ringBits, read(a, i))) * 2 ** -fraction);
    },
    maxAbs(a, ringBits) {
      checks.checkInteger('ringBits', ringBits, 1, wordBits);
      inside(a);
      let largest = -1n;
      let index = -1;
      for (let i = 0; i < a.length; i++) {
        const x = BigInt.asIntN(ringBits, read(a, i));
        const magnitude = x < 0n ? -x : x;
        if (magnitude > largest) {
          largest = magnitude;
          index = i;
        }
      }
      return { value: index < 0 ? 0 : Number(largest), index };
    },
  };
}
