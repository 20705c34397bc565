import type { Block } from './block.ts';
import type { TreeKernels } from './trees.ts';

export type { Block } from './block.ts';

/**
 * The hot loops on ring words, behind one contract: `js/` is the slow twin that states what each means, `wasm/` is the fast one.
 *
 * A block is a run of 32- or 64-bit words in the kernels' own memory. Blocks are allocated and freed by hand: the interpreters know
 * every value's last use. All arithmetic is modulo 2^wordBits; a narrower ring Z_2^L lives in wider words and is reduced only where
 * its width shows (shifts, packing, decoding), because 2^L divides 2^wordBits.
 */
export type WordBits = 32 | 64;

/**
 * Every operation writes to `out`, whose length must fit; `out` may be one of the elementwise operations' inputs, and overlaps no input of
 * the others. What does not fit together throws a `usage` error before anything is written.
 */
export interface RingKernels {
  readonly wordBits: WordBits;
  /** Bytes in blocks now, and the most there ever were. */
  readonly allocatedBytes: number;
  readonly peakBytes: number;
  /** Walks of trees, where these kernels have fast ones. */
  readonly trees?: TreeKernels;
  /** `length` ≥ 0. Words are not cleared. Throws a `resource` error where the memory cannot grow. */
  allocate(length: number): Block;
  /** Clears the words, so that no secret outlives its block, and gives them back. Freeing twice throws. */
  free(block: Block): void;
  /** The block's bytes in place (little endian); the view is invalid after the next `allocate`. */
  bytes(block: Block): Uint8Array<ArrayBuffer>;

  /** out[i] = value mod 2^wordBits. */
  fill(out: Block, value: bigint): void;
  /** out = a, word by word. */
  copy(out: Block, a: Block): void;
  /** out = a + b mod 2^wordBits, elementwise. */
  add(out: Block, a: Block, b: Block): void;
  /** out = a − b mod 2^wordBits, elementwise. */
  subtract(out: Block, a: Block, b: Block): void;
  /** out = a · b mod 2^wordBits, elementwise. */
  multiply(out: Block, a: Block, b: Block): void;
  /** out += a · b, elementwise. */
  multiplyAdd(out: Block, a: Block, b: Block): void;
  /** out = −a mod 2^wordBits. */
  negate(out: Block, a: Block): void;
  /** out = a xor b, bit by bit. */
  xor(out: Block, a: Block, b: Block): void;
  /** out = a + value mod 2^wordBits. */
  addScalar(out: Block, a: Block, value: bigint): void;
  /** out = a · value mod 2^wordBits. */
  multiplyScalar(out: Block, a: Block, value: bigint): void;
  /** Keeps the low `bits` bits of every word. */
  mask(out: Block, a: Block, bits: number): void;
  /** `bits` may be 0 … wordBits in all shifts; a shift by all bits leaves zeros (or the sign). */
  shiftLeft(out: Block, a: Block, bits: number): void;
  /** Logical shift of the low `ringBits` bits: (a mod 2^ringBits) >> bits. */
  shiftRight(out: Block, a: Block, bits: number, ringBits: number): void;
  /** Arithmetic shift of a read as a signed `ringBits`-bit number, sign extended to the word. `bits` may be 0. */
  shiftRightSigned(out: Block, a: Block, bits: number, ringBits: number): void;
  /** out[i] = bit[i] ? whenOne[i] : whenZero[i]; only the lowest bit of `bit` counts; constant time. */
  select(out: Block, bit: Block, whenOne: Block, whenZero: Block): void;

  /** out, dense with `shape`, reads a[start + Σ index·stride] (in words; stride 0 repeats). `out` may not overlap `a`. Rank ≤ 8. */
  gather(out: Block, a: Block, shape: readonly number[], strides: readonly number[], start: number): void;
  /** The converse: out[start + Σ index·stride] = a, with `a` dense of `shape`; the view names no word twice. */
  scatter(out: Block, a: Block, shape: readonly number[], strides: readonly number[], start: number): void;
  /** out (outer × inner) = sums of a (outer × axis × inner) over its middle axis. */
  sum(out: Block, a: Block, outer: number, axis: number, inner: number): void;

  /** out (batch × m × n) = a (batch × m × k) · b (batch × k × n), added to what out holds when `accumulate`. Any m, k, n ≥ 1. */
  matmul(out: Block, a: Block, b: Block, size: { batch: number; m: number; k: number; n: number }, accumulate?: boolean): void;

  /**
   * For every row r: out[r] = Σ_j vectors[r·n + j] · table[(j + delta[r]) mod n], with n = table.length a power of two;
   * the inner product of a shared one-hot vector with a public table, rotated.
   */
  rotatedInner(out: Block, vectors: Block, table: Block, delta: Block): void;

  /** The low `bits` bits (1 … wordBits) of every word, little endian and without gaps: ⌈length·bits/8⌉ bytes, the last one padded with zeros. */
  pack(a: Block, bits: number): Uint8Array<ArrayBuffer>;
  /** The converse. Throws an `input` error where the number of bytes is not ⌈length·bits/8⌉ or the padding is not zero. */
  unpack(out: Block, bytes: Uint8Array, bits: number): void;

  /** Fixed point: round-half-even(a · 2^fraction) as signed ring words. Throws a `range` error that gives the index of the first value that is not finite or does not fit `ringBits`. */
  encode(out: Block, values: Float64Array | Float32Array, fraction: number, ringBits: number): void;
  /** The words' low `ringBits` bits as signed numbers / 2^fraction. */
  decode(a: Block, fraction: number, ringBits: number): Float64Array<ArrayBuffer>;
  /** The largest |word| of a block read as signed `ringBits`-bit numbers, with the index of the first such word (−1 for an empty block). */
  maxAbs(a: Block, ringBits: number): { value: number; index: number };
}
