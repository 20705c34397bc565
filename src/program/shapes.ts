import { SottoError } from '../errors/index.ts';
import { nf4Sizes } from './nf4.ts';
import type { Element, Node, NodeOf, Operation, Powers, Shape } from './types.ts';

export const size = (shape: Shape): number => shape.reduce((product, extent) => product * extent, 1);

export const same = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((extent, axis) => extent === b[axis]);

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let stride = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = stride;
    stride *= shape[axis]!;
  }
  return strides;
}

/** Strides with which a value of shape `from` is read as `to` (0 along repeated axes). */
export function broadcastStrides(from: Shape, to: Shape): number[] {
  const own = stridesOf(from);
  const missing = to.length - from.length;
  return to.map((_, axis) => (axis < missing || from[axis - missing] === 1 ? 0 : own[axis - missing]!));
}

const fail = (operation: string, scope: string, reason: string): never => {
  throw new SottoError('model', `${operation}: ${reason}`, {
    place: scope === '' ? {} : { scope },
    remedy: 'check the shapes that the model definition gives to this operation',
  });
};

/** The shape of an elementwise result, or undefined where the two do not broadcast. */
export function broadcastShapes(a: Shape, b: Shape): Shape | undefined {
  const rank = Math.max(a.length, b.length);
  const result: number[] = [];
  for (let axis = 0; axis < rank; axis++) {
    const x = a[axis - rank + a.length] ?? 1;
    const y = b[axis - rank + b.length] ?? 1;
    if (x !== y && x !== 1 && y !== 1) return undefined;
    result.push(x === 1 ? y : x);
  }
  return result;
}

const checkAxis = (operation: string, scope: string, axis: number, rank: number): void => {
  if (!Number.isInteger(axis) || axis < 0 || axis >= rank) fail(operation, scope, `axis ${axis} of a value of rank ${rank}`);
};

type ShapeRules = { [P in Operation]: (node: Pick<NodeOf<P>, 'parameters' | 'scope'>, ...inputs: Shape[]) => Shape };

const keep = (_: unknown, x?: Shape): Shape => x ?? [];
const elementwise =
  (name: string) =>
  (node: { scope: string }, x?: Shape, y?: Shape): Shape =>
    broadcastShapes(x!, y!) ?? fail(name, node.scope, `shapes [${x}] and [${y}] do not broadcast`);

/** One offset a head, where there are any. */
function checkOffsets({ parameters: { offsets }, scope }: { parameters: Powers; scope: string }, scores: Shape): void {
  const rows = (scores.at(-3) ?? 1) * scores.at(-2)!;
  if (offsets === undefined) return;
  if (offsets.length === 0 || rows % offsets.length !== 0 || offsets.length % (scores.at(-3) ?? 1) !== 0)
    fail('powers', scope, `${offsets.length} offsets for scores [${scores}]`);
}

const attention = (node: { scope: string }, scores?: Shape, values?: Shape, mask?: Shape): Shape => {
  const [s, v] = [scores!, values!];
  if (s.length !== v.length || s.at(-1) !== v.at(-2) || !same(s.slice(0, -2), v.slice(0, -2)))
    fail('attention', node.scope, `scores [${s}] and values [${v}] do not fit`);
  if (broadcastShapes(s, mask!)?.join() !== s.join())
    fail('attention', node.scope, `mask [${mask}] does not broadcast to scores [${s}]`);
  return [...s.slice(0, -1), v.at(-1)!];
};

const matmul = (node: { scope: string }, x?: Shape, y?: Shape): Shape => {
  const [a, b] = [x!, y!];
  if (a.length < 2 || b.length < 2) fail('matmul', node.scope, `ranks ${a.length} and ${b.length}, at least 2 needed`);
  if (a.at(-1) !== b.at(-2)) fail('matmul', node.scope, `inner extents of [${a}] and [${b}] differ`);
  if (b.length > 2 && !same(a.slice(0, -2), b.slice(0, -2)))
    fail('matmul', node.scope, `leading axes of [${a}] and [${b}] differ`);
  return [...a.slice(0, -1), b.at(-1)!];
};

/** The shape rules: the only code that knows them. */
const rules: ShapeRules = {
  input: (node) => node.parameters.shape,
  constant: (node) => {
    const { shape, values } = node.parameters;
    return size(shape) === values.length ? shape : fail('constant', node.scope, `${values.length} values for shape [${shape}]`);
  },
  reshape: (node, x) => {
    const { shape } = node.parameters;
    return size(shape) === size(x!)
      ? shape
      : fail('reshape', node.scope, `[${x}] has ${size(x!)} elements, [${shape}] ${size(shape)}`);
  },
  transpose: (node, x) => {
    const { permutation } = node.parameters;
    const sorted = [...permutation].sort((a, b) => a - b);
    if (permutation.length !== x!.length || sorted.some((axis, i) => axis !== i))
      fail('transpose', node.scope, `[${permutation}] does not permute the axes of [${x}]`);
    return permutation.map((axis) => x![axis]!);
  },
  slice: (node, x) => {
    const { axis, start, end } = node.parameters;
    checkAxis('slice', node.scope, axis, x!.length);
    if (!(0 <= start && start < end && end <= x![axis]!)) fail('slice', node.scope, `${start}…${end} of extent ${x![axis]}`);
    return x!.map((extent, i) => (i === axis ? end - start : extent));
  },
  pad: (node, x) => {
    const { axis, before, after } = node.parameters;
    checkAxis('pad', node.scope, axis, x!.length);
    return x!.map((extent, i) => (i === axis ? extent + before + after : extent));
  },
  concat: (node, ...parts) => {
    const { axis } = node.parameters;
    const first = parts[0] ?? fail('concat', node.scope, 'no parts');
    checkAxis('concat', node.scope, axis, first.length);
    for (const part of parts)
      if (part.length !== first.length || part.some((extent, i) => i !== axis && extent !== first[i]))
        fail('concat', node.scope, `[${part}] beside [${first}] along axis ${axis}`);
    return first.map((extent, i) => (i === axis ? parts.reduce((sum, part) => sum + part[axis]!, 0) : extent));
  },
  broadcast: (node, x) => {
    const { shape } = node.parameters;
    if (broadcastShapes(x!, shape)?.join() !== shape.join()) fail('broadcast', node.scope, `[${x}] to [${shape}]`);
    return shape;
  },
  add: elementwise('add'),
  subtract: elementwise('subtract'),
  multiply: elementwise('multiply'),
  divide: elementwise('divide'),
  maximum: elementwise('maximum'),
  scale: keep,
  offset: keep,
  square: keep,
  exp: keep,
  log: keep,
  sqrt: keep,
  tanh: keep,
  erf: keep,
  step: keep,
  round: keep,
  stopGradient: keep,
  matmul,
  sum: (node, x) => {
    for (const axis of node.parameters.axes) checkAxis('sum', node.scope, axis, x!.length);
    return x!.map((extent, axis) => (node.parameters.axes.includes(axis) ? 1 : extent));
  },
  max: (node, x) => {
    checkAxis('max', node.scope, node.parameters.axis, x!.length);
    return x!.map((extent, axis) => (axis === node.parameters.axis ? 1 : extent));
  },
  gather: (_, table, indices) => [...indices!, ...table!.slice(1)],
  scatterAdd: (node, indices, values) => {
    if (!same(values!.slice(0, indices!.length), indices!))
      fail('scatterAdd', node.scope, `indices [${indices}], values [${values}]`);
    return [node.parameters.rows, ...values!.slice(indices!.length)];
  },
  oneHot: (node, indices) => [...indices!, node.parameters.depth],
  argmax: (_, x) => x!.slice(0, -1),

  relu: keep,
  sigmoid: keep,
  silu: keep,
  gelu: keep,
  quadratic: (node, x, ...coefficients) => {
    for (const c of coefficients)
      if (broadcastShapes(x!, c)?.join() !== x!.join())
        fail('quadratic', node.scope, `coefficients [${c}] do not broadcast to [${x}]`);
    return x!;
  },
  softmax: keep,
  logSoftmax: keep,
  reciprocal: keep,
  inverseSquareRoot: keep,
  rmsNorm: keep,
  layerNorm: keep,
  rotary: (node, x, cos, sin) => {
    const tail = x!.slice(-2);
    if (!same(tail, cos!) || !same(tail, sin!) || tail[1]! % 2 !== 0)
      fail('rotary', node.scope, `x [${x}], cos [${cos}], sin [${sin}]`);
    return x!;
  },
  softmaxAttention: attention,
  powers: (node, scores, mask) => {
    checkOffsets(node, scores!);
    if (!same(broadcastShapes(scores!, mask!) ?? [], scores!)) fail('powers', node.scope, `scores [${scores}], mask [${mask}]`);
    return scores!;
  },
  powerAttention: (node, scores, values, mask, _, ...counted) => {
    checkOffsets(node, scores!);
    for (const shape of counted) attention(node, scores, values, shape);
    if (counted.length > 0 && node.parameters.argument !== 'centred')
      fail('powerAttention', node.scope, 'only centred powers take what a key counts for');
    return attention(node, scores, values, mask);
  },
  embedding: (_, table, indices) => [...indices!, ...table!.slice(1)],
  crossEntropy: (node, logits, labels, weights) => {
    if (!same(logits!.slice(0, -1), labels!) || !same(labels!, weights!))
      fail('crossEntropy', node.scope, `logits [${logits}], labels [${labels}], weights [${weights}]`);
    return [];
  },
  nf4: (node, codes, scales) => {
    const { shape, block } = node.parameters;
    const { bytes, blocks } = nf4Sizes(size(shape), block);
    if (!(Number.isInteger(block) && block >= 2 && block % 2 === 0) || !same(codes!, [bytes]) || !same(scales!, [blocks]))
      fail('nf4', node.scope, `codes [${codes}] and scales [${scales}] for [${shape}] in blocks of ${block}`);
    return shape;
  },
};

/** The shape of a node's result; throws a `model` error that names the scope where the inputs do not fit. */
export function shapeOf(node: Pick<Node, 'operation' | 'parameters' | 'scope'>, inputs: readonly Shape[]): Shape {
  const rule = rules[node.operation] as (node: Pick<Node, 'parameters' | 'scope'>, ...inputs: Shape[]) => Shape;
  return rule(node, ...inputs);
}

const indexPreserving: ReadonlySet<Operation> = new Set<Operation>([
  'reshape',
  'transpose',
  'slice',
  'concat',
  'broadcast',
  'stopGradient',
]);

/** Indices stay indices under moves; arg max makes them; everything else is float. */
export function elementOf(node: Pick<Node, 'operation' | 'parameters'>, inputs: readonly Element[]): Element {
  if (node.operation === 'input' || node.operation === 'constant') return (node.parameters as { element: Element }).element;
  if (node.operation === 'argmax') return 'index';
  return indexPreserving.has(node.operation) ? (inputs[0] ?? 'float') : 'float';
}
