import { SottoError } from '../../errors/index.ts';
import { erf } from '../../math/index.ts';
import type { Interpreter, NodeOf, Primitive, Shape } from '../../program/index.ts';
import { size, stridesOf } from '../../program/index.ts';
import type { Dense } from './dense.ts';
import { argmax, expand, matmul, max, place, readStrided, sum, transpose } from './dense.ts';
import { roundHalfEven } from './functions.ts';

type Sized = { readonly shape: Shape };

function map(f: (value: number) => number): (node: Sized, x?: Dense) => Dense {
  return (_, x) => ({ shape: x!.shape, values: x!.values.map(f) });
}

type Loop = (a: Float64Array, b: Float64Array, out: Float64Array) => void;

function broadcast(loop: Loop): (node: Sized, x?: Dense, y?: Dense) => Dense {
  return ({ shape }, x, y) => {
    const out = new Float64Array(size(shape));
    loop(expand(x!, shape), expand(y!, shape), out);
    return { shape, values: out };
  };
}

const add: Loop = (a, b, out) => {
  for (let i = 0; i < out.length; i++) out[i] = a[i]! + b[i]!;
};
const subtract: Loop = (a, b, out) => {
  for (let i = 0; i < out.length; i++) out[i] = a[i]! - b[i]!;
};
const multiply: Loop = (a, b, out) => {
  for (let i = 0; i < out.length; i++) out[i] = a[i]! * b[i]!;
};
const divide: Loop = (a, b, out) => {
  for (let i = 0; i < out.length; i++) out[i] = a[i]! / b[i]!;
};
const maximum: Loop = (a, b, out) => {
  for (let i = 0; i < out.length; i++) out[i] = Math.max(a[i]!, b[i]!);
};

function checkIndices(indices: Float64Array, rows: number, scope: string): void {
  for (const index of indices)
    if (!(index >= 0 && index < rows && Number.isInteger(index)))
      throw new SottoError('range', `index ${index} of ${rows} rows`, {
        place: scope === '' ? {} : { scope },
        remedy: 'feed indices from 0 to rows − 1',
      });
}

/** What every primitive means in float64, written to be read; `feed` gives the values of the program's inputs. */
// biome-ignore lint/complexity/noExcessiveLinesPerFunction: a table, a row an operation
export function referenceTable(feed: (node: NodeOf<'input'>) => Dense): Pick<Interpreter<Dense>, Primitive> {
  return {
    input: feed,
    constant: ({ parameters: { shape, values } }) => ({ shape, values }),

    reshape: ({ shape }, x) => ({ shape, values: x!.values }),
    transpose: ({ shape, parameters: { permutation } }, x) => transpose(x!, permutation, shape),
    slice: ({ shape, parameters: { axis, start } }, x) => {
      const strides = stridesOf(x!.shape);
      return { shape, values: readStrided(x!.values, shape, strides, start * strides[axis]!) };
    },
    pad: ({ shape, parameters: { axis, before } }, x) => {
      const values = new Float64Array(size(shape));
      place(values, shape, x!, axis, before);
      return { shape, values };
    },
    concat: ({ shape, parameters: { axis } }, ...parts) => {
      const values = new Float64Array(size(shape));
      let start = 0;
      for (const part of parts) {
        place(values, shape, part, axis, start);
        start += part.shape[axis]!;
      }
      return { shape, values };
    },
    broadcast: ({ shape }, x) => ({ shape, values: expand(x!, shape) }),

    add: broadcast(add),
    subtract: broadcast(subtract),
    multiply: broadcast(multiply),
    divide: broadcast(divide),
    maximum: broadcast(maximum),
    scale: ({ parameters: { by } }, x) => ({ shape: x!.shape, values: x!.values.map((value) => value * by) }),
    offset: ({ parameters: { by } }, x) => ({ shape: x!.shape, values: x!.values.map((value) => value + by) }),
    square: map((value) => value * value),
    exp: map(Math.exp),
    log: map(Math.log),
    sqrt: map(Math.sqrt),
    tanh: map(Math.tanh),
    erf: map(erf),
    step: map((value) => (value > 0 ? 1 : 0)),
    round: map(roundHalfEven),
    stopGradient: (_, x) => x!,

    matmul: ({ shape }, x, y) => matmul(x!, y!, shape),
    sum: ({ shape }, x) => sum(x!, shape),
    max: ({ shape }, x) => max(x!, shape),

    gather: ({ shape, scope }, table, indices) => {
      checkIndices(indices!.values, table!.shape[0]!, scope);
      const row = size(table!.shape.slice(1));
      const values = new Float64Array(size(shape));
      indices!.values.forEach((index, i) => {
        values.set(table!.values.subarray(index * row, (index + 1) * row), i * row);
      });
      return { shape, values };
    },
    scatterAdd: ({ shape, scope }, indices, rows) => {
      checkIndices(indices!.values, shape[0]!, scope);
      const row = size(shape.slice(1));
      const values = new Float64Array(size(shape));
      indices!.values.forEach((index, i) => {
        for (let j = 0; j < row; j++) values[index * row + j]! += rows!.values[i * row + j]!;
      });
      return { shape, values };
    },
    oneHot: ({ shape, scope, parameters: { depth } }, indices) => {
      checkIndices(indices!.values, depth, scope);
      const values = new Float64Array(size(shape));
      indices!.values.forEach((index, i) => {
        values[i * depth + index] = 1;
      });
      return { shape, values };
    },
    argmax: ({ shape }, x) => argmax(x!, shape),
  };
}
