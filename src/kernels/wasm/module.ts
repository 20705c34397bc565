import { SottoError } from '../../errors/index.ts';
import { fromBase64 } from '../base64.ts';
import type { WordBits } from '../contract.ts';
import { binaries } from './binary.generated.ts';

/** What the compiled sources export (ring.as.ts). Addresses are bytes, lengths words. */
export interface RingExports extends TreeExports {
  add(out: number, a: number, b: number, length: number): void;
  subtract(out: number, a: number, b: number, length: number): void;
  multiply(out: number, a: number, b: number, length: number): void;
  xor(out: number, a: number, b: number, length: number): void;
  multiplyAdd(out: number, a: number, b: number, length: number): void;
  negate(out: number, a: number, length: number): void;
  copy(out: number, a: number, length: number): void;
  fill(out: number, value: bigint, length: number): void;
  clear(start: number, bytes: number): void;
  addScalar(out: number, a: number, value: bigint, length: number): void;
  multiplyScalar(out: number, a: number, value: bigint, length: number): void;
  shift(out: number, a: number, left: number, right: number, signed: boolean, length: number): void;
  select(out: number, bit: number, one: number, zero: number, length: number): void;
  strided(to: number, from: number, rank: number, table: number): void;
  sum(out: number, a: number, outer: number, axis: number, inner: number): void;
  rotatedInner(out: number, vectors: number, table: number, delta: number, rows: number, n: number): void;
  product(
    out: number,
    a: number,
    b: number,
    batch: number,
    m: number,
    k: number,
    n: number,
    lda: number,
    ldb: number,
    ldc: number,
    strideA: number,
    strideB: number,
    strideOut: number,
    accumulate: boolean,
    scratch: number,
  ): void;
  productScratchBytes(): number;
  pack(to: number, from: number, bits: number, length: number): void;
  unpack(to: number, from: number, bits: number, length: number): void;
  encode(to: number, from: number, scale: number, low: number, high: number, length: number): number;
  decode(to: number, from: number, scale: number, ringBits: number, length: number): void;
  indexOfMaxAbs(from: number, ringBits: number, length: number): number;
}

/** Walks of trees (trees.as.ts). Counts are nodes or points. */
export interface TreeExports {
  tweaked(out: number, states: number, first: number, tweaks: number, count: number): void;
  pointLevel(
    to: number,
    toControls: number,
    from: number,
    controls: number,
    left: number,
    right: number,
    keys: number,
    keyBytes: number,
    bitsAt: number,
    level: number,
    first: number,
    count: number,
  ): void;
  pointLeaves(
    out: number,
    states: number,
    controls: number,
    enc: number,
    keys: number,
    keyBytes: number,
    leafAt: number,
    blocksBits: number,
    first: number,
    count: number,
    party: number,
  ): void;
  roots(out: number, seeds: number, copies: number, keys: number): void;
  neighbours(out: number, places: number, count: number): void;
  towards(out: number, states: number, points: number, place: number, tweaks: number, count: number): void;
  stepTowards(
    states: number,
    controls: number,
    sums: number,
    input: number,
    enc: number,
    points: number,
    place: number,
    tweaks: number,
    cw: number,
    keyBytes: number,
    perKey: number,
    count: number,
  ): void;
  endTowards(
    out: number,
    words: number,
    controls: number,
    sums: number,
    input: number,
    enc: number,
    cw: number,
    keyBytes: number,
    perKey: number,
    count: number,
    party: number,
  ): void;
  bothChildren(
    input: number,
    enc: number,
    toControls: number,
    controls: number,
    cw: number,
    keyBytes: number,
    perKey: number,
    count: number,
  ): void;
  windowLeaves(
    out: number,
    input: number,
    enc: number,
    step: number,
    controls: number,
    cw: number,
    keyBytes: number,
    perKey: number,
    count: number,
    party: number,
  ): void;
}

export const PAGE_BYTES = 65536;
/** One page less than 4 GiB, so that no address behind a block wraps to 0. */
const MOST_PAGES = 65535;

/**
 * WebAssembly's own two, by structure: a declaration that names WebAssembly compiles only where the DOM's types or a runtime's are, and the
 * library's compile without.
 */
export type WasmModule = object;
export interface WasmMemory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}

/** The compiled module for one word; the `shared` one imports a memory that workers share. */
export function ringModule(wordBits: WordBits, shared: boolean): WasmModule {
  return new WebAssembly.Module(fromBase64(binaries[`ring${wordBits}${shared ? 'Shared' : ''}`]));
}

/** A memory for a module, with room for what the kernels reserve for themselves. */
export function kernelMemory(shared: boolean, maximumBytes: number): WasmMemory {
  const maximum = Math.min(MOST_PAGES, Math.floor(maximumBytes / PAGE_BYTES));
  const initial = 32;
  if (!(maximum >= initial)) {
    throw new SottoError('usage', `a memory of at most ${maximumBytes} bytes`, {
      remedy: `allow at least ${initial * PAGE_BYTES}`,
    });
  }
  return new WebAssembly.Memory({ initial, maximum, shared });
}

/** The memory grows by at least this much at a time. */
const growthBytes = 4 * 2 ** 20;

/** Makes the memory reach at least to `endBytes`. Gives where it ends now, or undefined where it cannot grow so far. */
export function growMemory(memory: WasmMemory, endBytes: number): number | undefined {
  const have = memory.buffer.byteLength;
  if (endBytes <= have) return have;
  const least = Math.ceil((endBytes - have) / PAGE_BYTES);
  for (const pages of [Math.max(least, growthBytes / PAGE_BYTES), least]) {
    try {
      memory.grow(pages);
      return memory.buffer.byteLength;
    } catch {
      // Too much at once, or no memory at all: the smaller step or the caller's error follows.
    }
  }
  return undefined;
}

export function instantiate(module: WasmModule, memory: WasmMemory): RingExports {
  return new WebAssembly.Instance(module as WebAssembly.Module, { env: { memory } }).exports as unknown as RingExports;
}
