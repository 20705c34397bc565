import { SottoError } from '../errors/index.ts';
import type { Block, RingKernels } from './contract.ts';

/** Moves of dense tensors in kernel memory; every function returns a block of its own. */

type Shape = readonly number[];
const size = (shape: Shape): number => shape.reduce((product, extent) => product * extent, 1);

const dense = (shape: Shape): number[] => {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis]!;
  }
  return strides;
};

/** The input read at Σ index·stride + start, as a dense tensor of `shape`. */
export function move(kernels: RingKernels, x: Block, shape: Shape, strides: readonly number[], start: number): Block {
  const out = kernels.allocate(size(shape));
  kernels.gather(out, x, shape, strides, start);
  return out;
}

/** Parts along one axis of `shape`. */
export function concat(
  kernels: RingKernels,
  parts: readonly { block: Block; shape: Shape }[],
  axis: number,
  shape: Shape,
): Block {
  const out = kernels.allocate(size(shape));
  const strides = dense(shape);
  let at = 0;
  for (const part of parts) {
    kernels.scatter(out, part.block, part.shape, strides, at * strides[axis]!);
    at += part.shape[axis]!;
  }
  return out;
}

/** Zeros around x along one axis: x starts at `before` of `shape`. */
export function pad(kernels: RingKernels, x: Block, from: Shape, shape: Shape, axis: number, before: number): Block {
  const out = kernels.allocate(size(shape));
  kernels.fill(out, 0n);
  const strides = dense(shape);
  kernels.scatter(out, x, from, strides, before * strides[axis]!);
  return out;
}

/** The first lengths[r] words of every row of x (outer, rows, width), without gaps. */
export function packRows(kernels: RingKernels, x: Block, lengths: readonly number[], width: number): Block {
  return copyRows(kernels, x, lengths, width, true);
}

/** The converse: rows of `width` words with zeros behind the given ones. */
export function unpackRows(kernels: RingKernels, x: Block, lengths: readonly number[], width: number): Block {
  return copyRows(kernels, x, lengths, width, false);
}

function copyRows(kernels: RingKernels, x: Block, lengths: readonly number[], width: number, packing: boolean): Block {
  const packed = lengths.reduce((sum, length) => sum + length, 0);
  const dense = lengths.length * width;
  const outer = x.length / (packing ? dense : packed);
  const out = kernels.allocate(outer * (packing ? packed : dense));
  if (!packing) kernels.fill(out, 0n);
  const bytes = kernels.wordBits / 8;
  const [from, to] = [kernels.bytes(x), kernels.bytes(out)];
  let near = 0;
  let far = 0;
  for (let at = 0; at < outer; at++)
    for (const length of lengths) {
      const [source, target] = packing ? [far, near] : [near, far];
      to.set(from.subarray(source * bytes, (source + length) * bytes), target * bytes);
      near += length;
      far += width;
    }
  return out;
}

/** Public integers of shape `from`, broadcast to `shape`. */
export function constant(kernels: RingKernels, values: Float64Array, from: Shape, shape: Shape): Block {
  const own = kernels.allocate(values.length);
  kernels.encode(own, values, 0, kernels.wordBits);
  if (values.length === size(shape)) return own;
  const strides = dense(from);
  const missing = shape.length - from.length;
  const wide = shape.map((_, axis) => (axis < missing || from[axis - missing] === 1 ? 0 : strides[axis - missing]!));
  const out = move(kernels, own, shape, wide, 0);
  kernels.free(own);
  return out;
}

/** One row of zeros and a single one for every index. Throws an `input` error that names `field` for an index outside the table. */
export function oneHot(kernels: RingKernels, indices: ArrayLike<number>, depth: number, field: string): Block {
  const values = new Float64Array(indices.length * depth);
  for (let row = 0; row < indices.length; row++) {
    const index = indices[row]!;
    if (!Number.isInteger(index) || index < 0 || index >= depth)
      throw new SottoError('input', `token ${index} at position ${row} is not in 0 … ${depth - 1}`, {
        place: { field },
        remedy: "use the model's own tokenizer",
      });
    values[row * depth + index] = 1;
  }
  const block = kernels.allocate(values.length);
  kernels.encode(block, values, 0, kernels.wordBits);
  return block;
}

/** A fresh block with the result of an operation that writes one. */
export function fresh(kernels: RingKernels, length: number, write: (out: Block) => void): Block {
  const out = kernels.allocate(length);
  write(out);
  return out;
}

/** Counts who still reads a block, so that views share it and the last reader frees it. */
export class BlockCounts {
  readonly #kernels: RingKernels;
  readonly #counts = new Map<Block, number>();

  constructor(kernels: RingKernels) {
    this.#kernels = kernels;
  }

  hold(block: Block): void {
    this.#counts.set(block, (this.#counts.get(block) ?? 0) + 1);
  }

  release(block: Block): void {
    const count = this.#counts.get(block) ?? 0;
    if (count > 1) {
      this.#counts.set(block, count - 1);
      return;
    }
    this.#counts.delete(block);
    this.#kernels.free(block);
  }

  /** Frees everything that is still held: the end of a run, whole or broken off. */
  releaseAll(): void {
    for (const block of this.#counts.keys()) this.#kernels.free(block);
    this.#counts.clear();
  }
}
