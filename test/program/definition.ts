import type { NodeOf, Operation, Program, Shape } from '../../src/program/index.ts';
import { size } from '../../src/program/index.ts';

/** A value as a function of a multi-index: the smallest statement of what each operation means, with no arrays and no strides. */
type Field = { readonly shape: Shape; readonly at: (...index: number[]) => number };
type Definition<P extends Operation> = (node: NodeOf<P>, ...inputs: Field[]) => Field['at'];

const range = (length: number): number[] => Array.from({ length }, (_, i) => i);
const total = (length: number, term: (i: number) => number): number => range(length).reduce((sum, i) => sum + term(i), 0);
const largest = (length: number, term: (i: number) => number): number => Math.max(...range(length).map(term));
/** Reads `x` at an index of a shape that it broadcasts to. */
const read = (x: Field, index: number[]): number =>
  x.at(...index.slice(index.length - x.shape.length).map((i, axis) => (x.shape[axis] === 1 ? 0 : i)));
const each =
  (f: (...values: number[]) => number) =>
  (_: unknown, ...inputs: Field[]): Field['at'] =>
  (...index) =>
    f(...inputs.map((x) => read(x, index)));
const flat = (shape: Shape, index: number[]): number => index.reduce((at, i, axis) => at * shape[axis]! + i, 0);
const unflat = (shape: Shape, at: number): number[] =>
  shape.map((extent, axis) => Math.floor(at / size(shape.slice(axis + 1))) % extent);
const allIndices = (shape: Shape): number[][] => range(size(shape)).map((at) => unflat(shape, at));
const width = (x: Field): number => x.shape.at(-1)!;
const put = (index: number[], axis: number, value: number): number[] => index.map((i, j) => (j === axis ? value : i));
const tail = (index: number[], value: number): number[] => [...index.slice(0, -1), value];

/** By midpoint quadrature of the density: independent of every series. */
const erf = (x: number): number =>
  (2 / Math.sqrt(Math.PI)) * (x / 4000) * total(4000, (i) => Math.exp(-((((i + 0.5) * x) / 4000) ** 2)));
const softmax = (x: Field, index: number[], allowed: (k: number) => boolean = () => true): number => {
  const e = (k: number): number => (allowed(k) ? Math.exp(x.at(...tail(index, k))) : 0);
  return e(index.at(-1)!) / total(width(x), e);
};
const take: Definition<'gather' | 'embedding'> =
  (_, table, indices) =>
  (...index) => {
    const rank = indices!.shape.length;
    return table!.at(indices!.at(...index.slice(0, rank)), ...index.slice(rank));
  };
const inverseRoot = (value: number): number => 1 / Math.sqrt(value);

const definitions: { [P in Operation]: Definition<P> } = {
  input: (_, x) => x!.at,
  constant:
    ({ parameters: { shape, values } }) =>
    (...index) =>
      values[flat(shape, index)]!,
  reshape:
    ({ shape }, x) =>
    (...index) =>
      x!.at(...unflat(x!.shape, flat(shape, index))),
  transpose:
    ({ parameters: { permutation } }, x) =>
    (...index) =>
      x!.at(...index.map((_, axis) => index[permutation.indexOf(axis)]!)),
  slice:
    ({ parameters: { axis, start } }, x) =>
    (...index) =>
      x!.at(...put(index, axis, index[axis]! + start)),
  pad:
    ({ parameters: { axis, before } }, x) =>
    (...index) => {
      const i = index[axis]! - before;
      return i >= 0 && i < x!.shape[axis]! ? x!.at(...put(index, axis, i)) : 0;
    },
  concat:
    ({ parameters: { axis } }, ...parts) =>
    (...index) => {
      const line = parts.flatMap((part) => range(part.shape[axis]!).map((i) => ({ part, i })));
      const { part, i } = line[index[axis]!]!;
      return part.at(...put(index, axis, i));
    },
  broadcast: each((x) => x!),
  add: each((x, y) => x! + y!),
  subtract: each((x, y) => x! - y!),
  multiply: each((x, y) => x! * y!),
  divide: each((x, y) => x! / y!),
  maximum: each((x, y) => (x! > y! ? x! : y!)),
  scale:
    ({ parameters: { by } }, x) =>
    (...index) =>
      by * x!.at(...index),
  offset:
    ({ parameters: { by } }, x) =>
    (...index) =>
      by + x!.at(...index),
  square: each((x) => x! ** 2),
  exp: each((x) => Math.E ** x!),
  log: each((x) => Math.log2(x!) * Math.LN2),
  sqrt: each((x) => x! ** 0.5),
  tanh: each((x) => 1 - 2 / (Math.exp(2 * x!) + 1)),
  erf: each((x) => erf(x!)),
  step: each((x) => Number(x! > 0)),
  round: each((x) => Math.sign(x!) * Math.floor(Math.abs(x!) + 0.5)),
  stopGradient: each((x) => x!),
  matmul:
    (_, x, y) =>
    (...index) =>
      total(width(x!), (k) => {
        const right = y!.shape.length === 2 ? [] : index.slice(0, -2);
        return x!.at(...tail(index, k)) * y!.at(...right, k, index.at(-1)!);
      }),
  sum:
    ({ parameters: { axes } }, x) =>
    (...index) =>
      allIndices(x!.shape.map((extent, axis) => (axes.includes(axis) ? extent : 1))).reduce(
        (sum, step) => sum + x!.at(...index.map((i, axis) => i + step[axis]!)),
        0,
      ),
  max:
    ({ parameters: { axis } }, x) =>
    (...index) =>
      largest(x!.shape[axis]!, (i) => x!.at(...put(index, axis, i))),
  gather: take,
  scatterAdd:
    (_, indices, rows) =>
    (row, ...rest) =>
      allIndices(indices!.shape).reduce((sum, at) => sum + (indices!.at(...at) === row ? rows!.at(...at, ...rest) : 0), 0),
  oneHot:
    (_, indices) =>
    (...index) =>
      Number(indices!.at(...index.slice(0, -1)) === index.at(-1)),
  argmax:
    (_, x) =>
    (...index) => {
      const row = range(width(x!)).map((i) => x!.at(...index, i));
      return row.indexOf(Math.max(...row));
    },

  relu: each((x) => Math.max(x!, 0)),
  sigmoid: each((x) => 1 / (1 + Math.exp(-x!))),
  silu: each((x) => x! / (1 + Math.exp(-x!))),
  gelu: each((x) => (x! * (1 + erf(x! / Math.SQRT2))) / 2),
  quadratic: each((x, a, b, c) => a! * x! ** 2 + b! * x! + c!),
  softmax:
    (_, x) =>
    (...index) =>
      softmax(x!, index),
  logSoftmax:
    (_, x) =>
    (...index) =>
      Math.log(softmax(x!, index)),
  reciprocal:
    ({ parameters: { epsilon } }, x) =>
    (...index) =>
      1 / (x!.at(...index) + epsilon),
  inverseSquareRoot:
    ({ parameters: { factor, epsilon } }, x) =>
    (...index) =>
      inverseRoot(factor * x!.at(...index) + epsilon),
  rmsNorm:
    ({ parameters: { epsilon } }, x, gain) =>
    (...index) => {
      const meanSquare = total(width(x!), (i) => x!.at(...tail(index, i)) ** 2) / width(x!);
      return x!.at(...index) * inverseRoot(meanSquare + epsilon) * (gain?.at(index.at(-1)!) ?? 1);
    },
  layerNorm:
    ({ parameters: { epsilon } }, x, gain, bias) =>
    (...index) => {
      const mean = total(width(x!), (i) => x!.at(...tail(index, i))) / width(x!);
      const variance = total(width(x!), (i) => (x!.at(...tail(index, i)) - mean) ** 2) / width(x!);
      return (
        (x!.at(...index) - mean) * inverseRoot(variance + epsilon) * (gain?.at(index.at(-1)!) ?? 1) +
        (bias?.at(index.at(-1)!) ?? 0)
      );
    },
  rotary:
    (_, x, cos, sin) =>
    (...index) => {
      const [t, i] = [index.at(-2)!, index.at(-1)!];
      const half = width(x!) / 2;
      const other = i < half ? -x!.at(...tail(index, i + half)) : x!.at(...tail(index, i - half));
      return x!.at(...index) * cos!.at(t, i) + other * sin!.at(t, i);
    },
  softmaxAttention:
    (_, scores, values, mask) =>
    (...index) => {
      const allowed = (k: number): boolean => read(mask!, tail(index, k)) === 1;
      return total(
        width(scores!),
        (k) => softmax(scores!, tail(index, k), allowed) * values!.at(...index.slice(0, -2), k, index.at(-1)!),
      );
    },
  powers:
    ({ parameters: { argument, offsets, exponent } }, scores, mask) =>
    (...index) => {
      const allowed = range(width(scores!)).filter((k) => read(mask!, tail(index, k)) === 1);
      if (!allowed.includes(index.at(-1)!)) return 0;
      const rows = scores!.shape.at(-2)!;
      const row = (index.length > 2 ? index.at(-3)! : 0) * rows + index.at(-2)!;
      const one = offsets?.[Math.floor(row / (((scores!.shape.at(-3) ?? 1) * rows) / offsets.length))] ?? 1;
      const s = scores!.at(...index);
      const mean = allowed.reduce((sum, k) => sum + scores!.at(...tail(index, k)), 0) / allowed.length;
      return { centred: one + s - mean, plain: s, rectified: Math.max(0, s) }[argument] ** exponent;
    },
  powerAttention:
    ({ parameters: { argument, offsets, exponent, epsilon } }, scores, values, mask) =>
    (...index) => {
      const allowed = range(width(scores!)).filter((k) => read(mask!, tail(index, k)) === 1);
      const score = (k: number): number => scores!.at(...tail(index, k));
      const mean = allowed.reduce((sum, k) => sum + score(k), 0) / allowed.length;
      const rows = scores!.shape.at(-2)!;
      const row = (index.length > 2 ? index.at(-3)! : 0) * rows + index.at(-2)!;
      const perOffset = ((scores!.shape.at(-3) ?? 1) * rows) / (offsets?.length ?? 1);
      const one = offsets?.[Math.floor(row / perOffset)] ?? 1;
      const raised = {
        centred: (s: number) => one + s - mean,
        plain: (s: number) => s,
        rectified: (s: number) => Math.max(0, s),
      };
      const weight = (k: number): number => raised[argument](score(k)) ** exponent / allowed.length;
      const value = (k: number): number => values!.at(...index.slice(0, -2), k, index.at(-1)!);
      return (
        allowed.reduce((sum, k) => sum + weight(k) * value(k), 0) /
        (epsilon * one ** exponent + allowed.reduce((sum, k) => sum + weight(k), 0))
      );
    },
  embedding: take as Definition<'embedding'>,
  crossEntropy: (_, logits, labels, weights) => () =>
    allIndices(labels!.shape).reduce(
      (sum, at) => sum - weights!.at(...at) * Math.log(softmax(logits!, [...at, labels!.at(...at)])),
      0,
    ),
  nf4:
    ({ parameters: { shape, block } }, codes, scales) =>
    (row, column) => {
      const place = row! * shape[1]! + column!;
      const byte = codes!.at(Math.floor(place / 2));
      return publishedLevels[place % 2 === 0 ? Math.floor(byte / 16) : byte % 16]! * scales!.at(Math.floor(place / block));
    },
};

/** As bitsandbytes has them (csrc/kernels.cu, `nf4_data`). */
export const publishedLevels = [
  -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
];

/** What a program of one output means, by the definitions alone. */
export function define(
  program: Program,
  feeds: ReadonlyMap<string, { shape: Shape; values: ArrayLike<number> }>,
  output: string,
): Float64Array {
  const fields: Field[] = [];
  for (const node of program.nodes) {
    const fed =
      node.operation === 'input' ? [asField(feeds.get(node.parameters.name)!)] : node.inputs.map((input) => fields[input]!);
    const at = (definitions[node.operation] as Definition<Operation>)(node as NodeOf<Operation>, ...fed);
    fields.push({ shape: node.shape, at });
  }
  const result = fields[program.outputs.get(output)!]!;
  return Float64Array.from(allIndices(result.shape), (index) => result.at(...index));
}

const asField = ({ shape, values }: { shape: Shape; values: ArrayLike<number> }): Field => ({
  shape,
  at: (...index) => values[flat(shape, index)]!,
});
