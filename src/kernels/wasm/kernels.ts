import { BlockAllocator } from '../allocator.ts';
import * as checks from '../checks.ts';
import type { Block, RingKernels, WordBits } from '../contract.ts';
import type { TreeKernels } from '../trees.ts';
import {
  growMemory,
  instantiate,
  kernelMemory,
  type RingExports,
  ringModule,
  type WasmMemory,
  type WasmModule,
} from './module.ts';
import { type Dimension, stridedTable } from './strided.ts';
import { WasmTrees } from './trees.ts';

/** Bytes from 0 on that no block gets: the table of a strided copy, the staging area of codecs, each worker's scratch. */
const TABLE_AT = 1024;
const STAGING_AT = 4096;
/** Words staged at a time: a multiple of 8, so that every chunk of packed bits ends on a byte. */
const STAGED_WORDS = 16384;
const STAGING_BYTES = STAGED_WORDS * 8 + 64;

/** What bounds the memory of WebAssembly kernels, in bytes. */
export interface WasmOptions {
  /** The most memory to use; 4 GiB (less 64 KiB) where it is not given. */
  readonly maximumBytes?: number;
}

/** The fast kernels. Everything runs on the calling thread; the parallel kernels override the two operations that dominate. */
export class WasmKernels implements RingKernels {
  readonly wordBits: WordBits;
  readonly wordBytes: number;
  protected readonly module: WasmModule;
  protected readonly memory: WasmMemory;
  protected readonly run: RingExports;
  /** Where the scratch of thread i starts: `scratchAt + i · scratchBytes`. */
  protected readonly scratchAt = STAGING_AT + STAGING_BYTES;
  protected readonly scratchBytes: number;
  readonly trees: TreeKernels;
  readonly #allocator: BlockAllocator;

  constructor(wordBits: WordBits, options: WasmOptions & { readonly threads?: number } = {}) {
    const shared = options.threads !== undefined;
    this.wordBits = wordBits;
    this.wordBytes = wordBits / 8;
    this.module = ringModule(wordBits, shared);
    this.memory = kernelMemory(shared, options.maximumBytes ?? 2 ** 32);
    this.run = instantiate(this.module, this.memory);
    this.scratchBytes = Math.ceil(this.run.productScratchBytes() / 64) * 64;
    const start = this.scratchAt + (options.threads ?? 1) * this.scratchBytes;
    this.#allocator = new BlockAllocator(this.wordBytes, start, (endBytes) => growMemory(this.memory, endBytes));
    this.trees = new WasmTrees({
      wordBytes: this.wordBytes,
      run: this.run,
      allocate: (length) => this.allocate(length),
      free: (block) => this.free(block),
      view: (offset, bytes) => new Uint8Array(this.memory.buffer, offset, bytes),
      inside: (...blocks) => this.inside(...blocks),
    });
  }

  get allocatedBytes(): number {
    return this.#allocator.allocatedBytes;
  }
  get peakBytes(): number {
    return this.#allocator.peakBytes;
  }

  allocate(length: number): Block {
    return this.#allocator.allocate(length);
  }

  free(block: Block): void {
    this.#allocator.assertLive(block);
    this.run.clear(block.offset, block.length * this.wordBytes);
    this.#allocator.free(block);
  }

  bytes(block: Block): Uint8Array<ArrayBuffer> {
    this.inside(block);
    return new Uint8Array(this.memory.buffer, block.offset, block.length * this.wordBytes);
  }

  protected inside(...blocks: readonly Block[]): void {
    const end = this.memory.buffer.byteLength;
    for (const block of blocks) checks.checkInside(block, this.wordBytes, end);
  }

  /** The checks of every elementwise operation. */
  #aligned(out: Block, ...inputs: readonly Block[]): void {
    checks.checkLengths(out, ...inputs);
    this.inside(out, ...inputs);
  }

  fill(out: Block, value: bigint): void {
    this.inside(out);
    this.run.fill(out.offset, value, out.length);
  }
  copy(out: Block, a: Block): void {
    this.#aligned(out, a);
    this.run.copy(out.offset, a.offset, out.length);
  }
  add(out: Block, a: Block, b: Block): void {
    this.#aligned(out, a, b);
    this.run.add(out.offset, a.offset, b.offset, out.length);
  }
  subtract(out: Block, a: Block, b: Block): void {
    this.#aligned(out, a, b);
    this.run.subtract(out.offset, a.offset, b.offset, out.length);
  }
  multiply(out: Block, a: Block, b: Block): void {
    this.#aligned(out, a, b);
    this.run.multiply(out.offset, a.offset, b.offset, out.length);
  }
  multiplyAdd(out: Block, a: Block, b: Block): void {
    this.#aligned(out, a, b);
    this.run.multiplyAdd(out.offset, a.offset, b.offset, out.length);
  }
  negate(out: Block, a: Block): void {
    this.#aligned(out, a);
    this.run.negate(out.offset, a.offset, out.length);
  }
  xor(out: Block, a: Block, b: Block): void {
    this.#aligned(out, a, b);
    this.run.xor(out.offset, a.offset, b.offset, out.length);
  }
  addScalar(out: Block, a: Block, value: bigint): void {
    this.#aligned(out, a);
    this.run.addScalar(out.offset, a.offset, value, out.length);
  }
  multiplyScalar(out: Block, a: Block, value: bigint): void {
    this.#aligned(out, a);
    this.run.multiplyScalar(out.offset, a.offset, value, out.length);
  }

  mask(out: Block, a: Block, bits: number): void {
    checks.checkInteger('bits', bits, 0, this.wordBits);
    this.#shift(out, a, this.wordBits - bits, this.wordBits - bits, false);
  }
  shiftLeft(out: Block, a: Block, bits: number): void {
    checks.checkInteger('bits', bits, 0, this.wordBits);
    this.#shift(out, a, bits, 0, false);
  }
  shiftRight(out: Block, a: Block, bits: number, ringBits: number): void {
    checks.checkShift(bits, ringBits, this.wordBits);
    this.#shift(out, a, this.wordBits - ringBits, this.wordBits - ringBits + bits, false);
  }
  shiftRightSigned(out: Block, a: Block, bits: number, ringBits: number): void {
    checks.checkShift(bits, ringBits, this.wordBits);
    this.#shift(out, a, this.wordBits - ringBits, Math.min(this.wordBits - 1, this.wordBits - ringBits + bits), true);
  }
  /** A shift by a whole word or more leaves nothing; the machine's instruction would shift by its remainder instead. */
  #shift(out: Block, a: Block, left: number, right: number, signed: boolean): void {
    this.#aligned(out, a);
    if (left >= this.wordBits || right >= this.wordBits) this.run.fill(out.offset, 0n, out.length);
    else this.run.shift(out.offset, a.offset, left, right, signed, out.length);
  }

  select(out: Block, bit: Block, whenOne: Block, whenZero: Block): void {
    this.#aligned(out, bit, whenOne, whenZero);
    this.run.select(out.offset, bit.offset, whenOne.offset, whenZero.offset, out.length);
  }

  gather(out: Block, a: Block, shape: readonly number[], strides: readonly number[], start: number): void {
    this.inside(out, a);
    checks.checkStrided(out, a, shape, strides, start, this.wordBytes);
    const dimensions = stridedTable(shape, strides);
    if (dimensions === undefined) return;
    this.#strided(out.offset, a.offset + start * this.wordBytes, dimensions, 'dense', 'far');
  }
  scatter(out: Block, a: Block, shape: readonly number[], strides: readonly number[], start: number): void {
    this.inside(out, a);
    checks.checkStrided(a, out, shape, strides, start, this.wordBytes);
    const dimensions = stridedTable(shape, strides);
    if (dimensions === undefined) return;
    this.#strided(out.offset + start * this.wordBytes, a.offset, dimensions, 'far', 'dense');
  }
  #strided(to: number, from: number, dimensions: readonly Dimension[], toSide: 'dense' | 'far', fromSide: 'dense' | 'far'): void {
    const rank = dimensions.length;
    const table = new Int32Array(this.memory.buffer, TABLE_AT, 3 * rank);
    for (let d = 0; d < rank; d++) {
      table[d] = dimensions[d]!.size;
      table[rank + d] = dimensions[d]![toSide];
      table[2 * rank + d] = dimensions[d]![fromSide];
    }
    this.run.strided(to, from, rank, TABLE_AT);
  }

  sum(out: Block, a: Block, outer: number, axis: number, inner: number): void {
    this.inside(out, a);
    checks.checkSum(out, a, outer, axis, inner, this.wordBytes);
    this.run.sum(out.offset, a.offset, outer, axis, inner);
  }

  matmul(out: Block, a: Block, b: Block, size: checks.ProductSize, accumulate = false): void {
    this.inside(out, a, b);
    checks.checkProduct(out, a, b, size, this.wordBytes);
    this.product(out.offset, a.offset, b.offset, size, accumulate);
  }
  /** The checked product. */
  protected product(out: number, a: number, b: number, { batch, m, k, n }: checks.ProductSize, accumulate: boolean): void {
    this.run.product(out, a, b, batch, m, k, n, k, n, n, m * k, k * n, m * n, accumulate, this.scratchAt);
  }

  rotatedInner(out: Block, vectors: Block, table: Block, delta: Block): void {
    this.inside(out, vectors, table, delta);
    checks.checkRotated(out, vectors, table, delta, this.wordBytes);
    this.rotated(out.offset, vectors.offset, table.offset, delta.offset, out.length, table.length);
  }
  /** The checked rotated inner products. */
  protected rotated(out: number, vectors: number, table: number, delta: number, rows: number, n: number): void {
    this.run.rotatedInner(out, vectors, table, delta, rows, n);
  }

  pack(a: Block, bits: number): Uint8Array<ArrayBuffer> {
    checks.checkInteger('bits', bits, 1, this.wordBits);
    if (bits === this.wordBits) return this.bytes(a).slice();
    this.inside(a);
    const packed = new Uint8Array(checks.packedBytes(a.length, bits));
    this.#staged(a, (words, length, first) => {
      this.run.pack(STAGING_AT, words, bits, length);
      packed.set(new Uint8Array(this.memory.buffer, STAGING_AT, checks.packedBytes(length, bits)), (first * bits) / 8);
    });
    return packed;
  }

  unpack(out: Block, bytes: Uint8Array, bits: number): void {
    checks.checkInteger('bits', bits, 1, this.wordBits);
    this.inside(out);
    checks.checkPacked(out.length, bytes, bits);
    if (bits === this.wordBits) {
      this.bytes(out).set(bytes);
      return;
    }
    this.#staged(out, (words, length, first) => {
      const from = (first * bits) / 8;
      const staging = new Uint8Array(this.memory.buffer, STAGING_AT, checks.packedBytes(length, bits));
      staging.set(bytes.subarray(from, from + staging.length));
      this.run.unpack(words, STAGING_AT, bits, length);
    });
  }

  encode(out: Block, values: Float64Array | Float32Array, fraction: number, ringBits: number): void {
    checks.checkFraction(fraction, ringBits, this.wordBits);
    checks.checkLength('out', out, values.length);
    this.inside(out);
    const limit = 2 ** (ringBits - 1);
    this.#staged(out, (words, length, first) => {
      new Float64Array(this.memory.buffer, STAGING_AT, length).set(values.subarray(first, first + length));
      const bad = this.run.encode(words, STAGING_AT, 2 ** fraction, -limit, limit, length);
      if (bad >= 0) throw checks.rangeError(first + bad, fraction, ringBits);
    });
  }

  decode(a: Block, fraction: number, ringBits: number): Float64Array<ArrayBuffer> {
    checks.checkFraction(fraction, ringBits, this.wordBits);
    this.inside(a);
    const values = new Float64Array(a.length);
    this.#staged(a, (words, length, first) => {
      this.run.decode(STAGING_AT, words, 2 ** -fraction, ringBits, length);
      values.set(new Float64Array(this.memory.buffer, STAGING_AT, length), first);
    });
    return values;
  }

  maxAbs(a: Block, ringBits: number): { value: number; index: number } {
    checks.checkInteger('ringBits', ringBits, 1, this.wordBits);
    this.inside(a);
    const index = this.run.indexOfMaxAbs(a.offset, ringBits, a.length);
    if (index < 0) return { value: 0, index };
    const word = { offset: a.offset + index * this.wordBytes, length: 1 };
    return { value: Math.abs(this.decode(word, 0, ringBits)[0]!), index };
  }

  /** Visits a block by chunks that fit the staging area, and clears the area behind itself: it held what the block holds. */
  #staged(block: Block, visit: (words: number, length: number, first: number) => void): void {
    try {
      for (let first = 0; first < block.length; first += STAGED_WORDS) {
        visit(block.offset + first * this.wordBytes, Math.min(STAGED_WORDS, block.length - first), first);
      }
    } finally {
      this.run.clear(STAGING_AT, Math.min(STAGING_BYTES, block.length * 8 + 16));
    }
  }
}

/** Kernels on the calling thread, in WebAssembly with SIMD. Portable: no worker, no Node. */
export function createWasmKernels(wordBits: WordBits, options: WasmOptions = {}): RingKernels {
  return new WasmKernels(wordBits, options);
}
