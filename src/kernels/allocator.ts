import { SottoError } from '../errors/index.ts';
import type { Block } from './contract.ts';

/** Blocks start on cache lines, and their sizes are multiples of one. */
const LINE_BYTES = 64;
/** How many chunks of the wanted size class are tried before a larger class is cut. */
const TRIES = 16;

/** Four size classes per power of two. */
function sizeClass(bytes: number): number {
  const lines = bytes / LINE_BYTES;
  const power = Math.floor(Math.log2(lines));
  return power * 4 + (Math.floor((lines / 2 ** power) * 4) - 4);
}

/**
 * Free lists by size class over one growing range of bytes; free neighbours become one chunk. The lists are kept outside of the
 * memory that they describe, so that no overrun and no hostile length can corrupt them.
 *
 * `grow(endBytes)` makes the memory reach at least to `endBytes` and returns where it ends now, or undefined where it cannot.
 */
export class BlockAllocator {
  readonly #wordBytes: number;
  readonly #grow: (endBytes: number) => number | undefined;
  readonly #live = new Map<number, number>();
  readonly #classes: Set<number>[] = [];
  readonly #freeByStart = new Map<number, number>();
  readonly #freeByEnd = new Map<number, number>();
  #end: number;
  allocatedBytes = 0;
  peakBytes = 0;

  constructor(wordBytes: number, startBytes: number, grow: (endBytes: number) => number | undefined) {
    this.#wordBytes = wordBytes;
    this.#grow = grow;
    this.#end = Math.ceil(startBytes / LINE_BYTES) * LINE_BYTES;
  }

  allocate(length: number): Block {
    if (!Number.isSafeInteger(length) || length < 0) {
      throw new SottoError('usage', `a block cannot have ${length} words`, {
        remedy: 'pass a whole number of words, zero or more',
      });
    }
    const bytes = this.#sizeOf(length);
    const offset = this.#find(bytes, TRIES) ?? this.#extend(bytes) ?? this.#find(bytes, Number.POSITIVE_INFINITY);
    if (offset === undefined) {
      throw new SottoError('resource', `no memory for a block of ${bytes} bytes beside the ${this.allocatedBytes} in use`, {
        remedy: 'use a smaller batch or a shorter sequence, or raise the memory limit (4 GiB at most)',
      });
    }
    this.#live.set(offset, length);
    this.allocatedBytes += length * this.#wordBytes;
    this.peakBytes = Math.max(this.peakBytes, this.allocatedBytes);
    return { offset, length };
  }

  /** Throws where the block is not one that `allocate` returned and that is still in use. */
  assertLive(block: Block): void {
    if (this.#live.get(block.offset) === block.length) return;
    throw new SottoError('usage', `the block of ${block.length} words at ${block.offset} is not in use`, {
      remedy: 'free each block once, after its last use, and as it was allocated',
    });
  }

  free(block: Block): void {
    this.assertLive(block);
    this.#live.delete(block.offset);
    this.allocatedBytes -= block.length * this.#wordBytes;
    this.#release(block.offset, block.offset + this.#sizeOf(block.length));
  }

  #sizeOf(length: number): number {
    return Math.max(LINE_BYTES, Math.ceil((length * this.#wordBytes) / LINE_BYTES) * LINE_BYTES);
  }

  #find(bytes: number, tries: number): number | undefined {
    const wanted = sizeClass(bytes);
    let left = tries;
    for (const start of this.#classes[wanted] ?? []) {
      if (left-- <= 0) break;
      if (this.#freeByStart.get(start)! - start >= bytes) return this.#cut(start, bytes);
    }
    for (let c = wanted + 1; c < this.#classes.length; c++) {
      for (const start of this.#classes[c] ?? []) return this.#cut(start, bytes);
    }
    return undefined;
  }

  #extend(bytes: number): number | undefined {
    const tail = this.#freeByEnd.get(this.#end) ?? this.#end;
    const end = this.#grow(tail + bytes);
    if (end === undefined) return undefined;
    const from = this.#end;
    this.#end = end - (end % LINE_BYTES);
    if (this.#end > from) this.#release(from, this.#end);
    return this.#cut(tail, bytes);
  }

  #cut(start: number, bytes: number): number {
    const end = this.#freeByStart.get(start)!;
    this.#forget(start, end);
    if (end - start > bytes) this.#remember(start + bytes, end);
    return start;
  }

  #release(start: number, end: number): void {
    const before = this.#freeByEnd.get(start);
    const after = this.#freeByStart.get(end);
    if (before !== undefined) this.#forget(before, start);
    if (after !== undefined) this.#forget(end, after);
    this.#remember(before ?? start, after ?? end);
  }

  #remember(start: number, end: number): void {
    this.#freeByStart.set(start, end);
    this.#freeByEnd.set(end, start);
    const c = sizeClass(end - start);
    for (let i = this.#classes.length; i <= c; i++) this.#classes.push(new Set());
    this.#classes[c]!.add(start);
  }

  #forget(start: number, end: number): void {
    this.#freeByStart.delete(start);
    this.#freeByEnd.delete(end);
    this.#classes[sizeClass(end - start)]!.delete(start);
  }
}
