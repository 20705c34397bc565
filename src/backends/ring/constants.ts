import { broadcastShapes, broadcastStrides, type Node, type Shape, same, size, stridesOf } from '../../program/index.ts';
import type { ConstantValue } from './value.ts';

/** Public values are folded while a program is lowered: they reach the ring as integers of the operation that uses them. */

/** Values that are one power of two (or its negative) throughout: multiplying by it only moves the binary point. */
export function uniformPowerOfTwo(values: Float64Array): number | undefined {
  const first = values[0]!;
  const exponent = Math.log2(Math.abs(first));
  return Number.isInteger(exponent) && values.every((value) => value === first) ? exponent : undefined;
}

export const maxAbs = (values: Float64Array): number => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** The fewest fraction bits, `limit` at most, with which all values are integers. */
export function exactBits(values: Float64Array, limit: number): number | undefined {
  for (let bits = 0; bits <= limit; bits++)
    if (values.every((value) => Number.isInteger(value * 2 ** bits) && Math.abs(value) < 2 ** 20)) return bits;
  return undefined;
}

export function moveConstant(node: Node, x: ConstantValue): ConstantValue {
  if (node.operation === 'reshape') return { ...x, shape: node.shape };
  const own = stridesOf(x.shape);
  const strides =
    node.operation === 'transpose'
      ? node.parameters.permutation.map((axis) => own[axis]!)
      : node.operation === 'slice'
        ? own
        : broadcastStrides(x.shape, node.shape);
  const start = node.operation === 'slice' ? node.parameters.start * own[node.parameters.axis]! : 0;
  return { kind: 'constant', shape: node.shape, values: readStrided(x.values, node.shape, strides, start) };
}

function readStrided(values: Float64Array, shape: Shape, strides: readonly number[], start: number): Float64Array {
  const dense = stridesOf(shape);
  return Float64Array.from(
    { length: size(shape) },
    (_, at) =>
      values[shape.reduce((offset, extent, axis) => offset + (Math.floor(at / dense[axis]!) % extent) * strides[axis]!, start)]!,
  );
}

export function foldConstants(
  node: { readonly shape: Shape },
  x: ConstantValue,
  y: ConstantValue,
  f: (a: number, b: number) => number,
): ConstantValue {
  const shape = same(x.shape, y.shape) ? x.shape : broadcastShapes(x.shape, y.shape)!;
  const [a, b] = [x, y].map((value) => readStrided(value.values, shape, broadcastStrides(value.shape, shape), 0)) as [
    Float64Array,
    Float64Array,
  ];
  return { kind: 'constant', shape: node.shape, values: a.map((value, i) => f(value, b[i]!)) };
}
