import type { Shape } from '../../program/index.ts';
import { broadcastStrides, same, size, stridesOf } from '../../program/index.ts';

/** A dense row-major float64 value; indices are whole numbers in the same array type. */
export interface Dense {
  readonly shape: Shape;
  readonly values: Float64Array;
}

/** Reads `values` from `start` with one stride per axis of `shape`; strides may be zero (repeats) or any order (transposes). */
export function readStrided(values: Float64Array, shape: Shape, strides: readonly number[], start = 0): Float64Array {
  const out = new Float64Array(size(shape));
  const last = shape.at(-1) ?? 1;
  const step = strides.at(-1) ?? 0;
  eachRow(shape, strides, start, (row, at) => {
    for (let j = 0, i = at; j < last; j++, i += step) out[row + j] = values[i]!;
  });
  return out;
}

/**
 * Walks the rows (all axes but the last) of `shape` in row-major order: `visit(row, at)` gets where the row starts in a dense
 * array and where it starts under `strides`.
 */
export function eachRow(shape: Shape, strides: readonly number[], start: number, visit: (row: number, at: number) => void): void {
  const outer = shape.length - 1;
  const last = shape.at(-1) ?? 1;
  const total = size(shape);
  const counter = new Int32Array(Math.max(outer, 0));
  let at = start;
  for (let row = 0; row < total; row += last) {
    visit(row, at);
    for (let axis = outer - 1; axis >= 0; axis--) {
      at += strides[axis]!;
      if (++counter[axis]! < shape[axis]!) break;
      at -= strides[axis]! * shape[axis]!;
      counter[axis] = 0;
    }
  }
}

/** The values of `x` repeated to `shape`; the same array where nothing repeats. */
export function expand(x: Dense, shape: Shape): Float64Array {
  return same(x.shape, shape) || size(shape) === x.values.length
    ? x.values
    : readStrided(x.values, shape, broadcastStrides(x.shape, shape));
}

export function transpose(x: Dense, permutation: readonly number[], shape: Shape): Dense {
  const strides = stridesOf(x.shape);
  return {
    shape,
    values: readStrided(
      x.values,
      shape,
      permutation.map((axis) => strides[axis]!),
    ),
  };
}

/** Writes `part` into `out` (of shape `shape`) at `start` along `axis`. */
export function place(out: Float64Array, shape: Shape, part: Dense, axis: number, start: number): void {
  const inner = size(shape.slice(axis + 1));
  const run = part.shape[axis]! * inner;
  const stride = shape[axis]! * inner;
  for (let from = 0, to = start * inner; from < part.values.length; from += run, to += stride)
    out.set(part.values.subarray(from, from + run), to);
}

/** (…, m, k) · (…, k, n), where the right operand may be one matrix for all leading indices. */
export function matmul(x: Dense, y: Dense, shape: Shape): Dense {
  const [k, n] = [y.shape.at(-2)!, y.shape.at(-1)!];
  const m = x.shape.at(-2)!;
  const out = new Float64Array(size(shape));
  const rows = out.length / n;
  const [a, b] = [x.values, y.values];
  for (let row = 0; row < rows; row++) {
    const matrix = y.shape.length === 2 ? 0 : Math.floor(row / m) * k * n;
    for (let p = 0; p < k; p++) {
      const factor = a[row * k + p]!;
      const from = matrix + p * n;
      const to = row * n;
      for (let j = 0; j < n; j++) out[to + j]! += factor * b[from + j]!;
    }
  }
  return { shape, values: out };
}

/** Sums over every axis that `shape` has with extent one and `x` has longer. */
export function sum(x: Dense, shape: Shape): Dense {
  const out = new Float64Array(size(shape));
  const strides = broadcastStrides(shape, x.shape);
  const last = x.shape.at(-1) ?? 1;
  const step = strides.at(-1) ?? 0;
  const { values } = x;
  eachRow(x.shape, strides, 0, (row, at) => {
    for (let j = 0, i = at; j < last; j++, i += step) out[i]! += values[row + j]!;
  });
  return { shape, values: out };
}

/** The largest value over every axis that `shape` has with extent one and `x` has longer. */
export function max(x: Dense, shape: Shape): Dense {
  const out = new Float64Array(size(shape)).fill(Number.NEGATIVE_INFINITY);
  const strides = broadcastStrides(shape, x.shape);
  const last = x.shape.at(-1) ?? 1;
  const step = strides.at(-1) ?? 0;
  const { values } = x;
  eachRow(x.shape, strides, 0, (row, at) => {
    for (let j = 0, i = at; j < last; j++, i += step) out[i] = Math.max(out[i]!, values[row + j]!);
  });
  return { shape, values: out };
}

/** The first index of the largest value along the last axis. */
export function argmax(x: Dense, shape: Shape): Dense {
  const extent = x.shape.at(-1)!;
  const out = new Float64Array(size(shape));
  for (let row = 0; row < out.length; row++) {
    let best = 0;
    for (let j = 1; j < extent; j++) if (x.values[row * extent + j]! > x.values[row * extent + best]!) best = j;
    out[row] = best;
  }
  return { shape, values: out };
}
