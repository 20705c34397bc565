import type { Element, Operation, Ops, Ref, Shape } from '../../src/program/index.ts';
import { size } from '../../src/program/index.ts';

/** A reproducible stream of numbers in [0, 1). */
export function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface CaseInput {
  readonly shape: Shape;
  readonly element: Element;
  readonly values: Float64Array;
}
/** One use of an operation: inputs with values away from kinks and poles, and the expression. */
interface Case {
  readonly inputs: readonly CaseInput[];
  readonly build: (ops: Ops<Ref>, ...inputs: Ref[]) => Ref;
}
type Random = () => number;
const whole = (random: Random, low: number, high: number): number => low + Math.floor(random() * (high - low + 1));
const shapeOf = (random: Random, low = 1, high = 4): number[] =>
  Array.from({ length: whole(random, low, high) }, () => whole(random, 1, 4));

/** Values of magnitude 0.2…2 with either sign, no two closer than a step, so that no finite difference crosses a kink. */
function spread(random: Random, shape: Shape): CaseInput {
  const length = size(shape);
  const order = Array.from({ length }, (_, i) => i).sort(() => random() - 0.5);
  const values = Float64Array.from(order, (rank, i) => (0.2 + (1.8 * (rank + 0.5 * random())) / length) * (i % 2 === 0 ? 1 : -1));
  return { shape, element: 'float', values };
}
const positive = (random: Random, shape: Shape): CaseInput => {
  const x = spread(random, shape);
  return { ...x, values: x.values.map(Math.abs) };
};
const indices = (random: Random, shape: Shape, below: number): CaseInput => ({
  shape,
  element: 'index',
  values: new Float64Array(size(shape)).map(() => whole(random, 0, below - 1)),
});
const fixed = (shape: Shape, values: ArrayLike<number>): CaseInput => ({
  shape,
  element: 'float',
  values: Float64Array.from(values),
});

/** Two shapes that broadcast: extents dropped to one here and there, leading axes dropped from one side. */
function broadcastPair(random: Random): [Shape, Shape] {
  const shape = shapeOf(random);
  const thin = (): Shape => shape.map((extent) => (random() < 0.3 ? 1 : extent)).slice(whole(random, 0, shape.length));
  return random() < 0.5 ? [shape, thin()] : [thin(), shape.map((extent) => (random() < 0.3 ? 1 : extent))];
}

type Unary = 'scale' | 'offset' | 'square' | 'exp' | 'log' | 'sqrt' | 'tanh' | 'erf' | 'step' | 'round' | 'stopGradient';
const unary =
  (build: (ops: Ops<Ref>, x: Ref) => Ref, make = spread) =>
  (random: Random): Case => ({ inputs: [make(random, shapeOf(random))], build: (ops, x) => build(ops, x!) });
const binary =
  (build: (ops: Ops<Ref>, x: Ref, y: Ref) => Ref) =>
  (random: Random): Case => {
    const [a, b] = broadcastPair(random);
    const [x, y] = [spread(random, a), spread(random, b)];
    // Halved, so that no two operands are equal.
    return {
      inputs: [x, { ...y, values: y.values.map((value) => value * 0.813 + 0.0137) }],
      build: (ops, left, right) => build(ops, left!, right!),
    };
  };
const mask = (random: Random, queries: number, keys: number): CaseInput =>
  fixed(
    [queries, keys],
    Array.from({ length: queries * keys }, (_, i) => (i % keys === 0 || random() < 0.7 ? 1 : 0)),
  );
const table = undefined;

/** What an attention by powers may look at, and how it may weigh that. */
function attentionCase(random: Random) {
  const [leading, q, k, d] = [shapeOf(random, 0, 2), whole(random, 1, 4), whole(random, 1, 4), whole(random, 1, 4)];
  const hidden = mask(random, q, k);
  const unmasked = (row: number): number => hidden.values.slice(row * k, (row + 1) * k).reduce((sum, bit) => sum + bit, 0);
  const lengths = Array.from({ length: q }, (_, row) => 1 / unmasked(row));
  const offsets =
    whole(random, 0, 1) === 1 ? Array.from({ length: leading.at(-1) ?? 1 }, (_, head) => 0.5 + head / 4) : undefined;
  const forms = [
    ['centred', 4],
    ['centred', 8],
    ['plain', 2],
    ['rectified', 1],
  ] as const;
  const [argument, exponent] = forms[whole(random, 0, forms.length - 1)]!;
  const [scores, values] = [spread(random, [...leading, q, k]), spread(random, [...leading, k, d])];
  return { scores, values, hidden, lengths, options: { argument, exponent, offsets } };
}

/** One maker of random uses for every operation of the language: leaving one out is a type error. */
export const cases: Record<Operation, (random: Random) => Case> = {
  input: unary((_, x) => x),
  constant: (random) => {
    const x = spread(random, shapeOf(random));
    return { inputs: [x], build: (ops, ref) => ops.add(ref!, ops.constant(x.values, x.shape)) };
  },
  reshape: unary((ops, x) => ops.reshape(x, [size(ops.shape(x)), 1])),
  transpose: (random) => {
    const shape = shapeOf(random, 2);
    const permutation = shape.map((_, axis) => axis).sort(() => random() - 0.5);
    return { inputs: [spread(random, shape)], build: (ops, x) => ops.transpose(x!, permutation) };
  },
  slice: (random) => {
    const shape = shapeOf(random);
    const axis = whole(random, 0, shape.length - 1);
    const start = whole(random, 0, shape[axis]! - 1);
    const end = whole(random, start + 1, shape[axis]!);
    return { inputs: [spread(random, shape)], build: (ops, x) => ops.slice(x!, axis, start, end) };
  },
  pad: (random) => {
    const shape = shapeOf(random);
    const [axis, before, after] = [whole(random, 0, shape.length - 1), whole(random, 0, 2), whole(random, 0, 2)];
    return { inputs: [spread(random, shape)], build: (ops, x) => ops.pad(x!, axis, before, after) };
  },
  concat: (random) => {
    const shape = shapeOf(random);
    const axis = whole(random, 0, shape.length - 1);
    const parts = [0, 1, 2].map(() => shape.map((extent, i) => (i === axis ? whole(random, 1, 3) : extent)));
    return { inputs: parts.map((part) => spread(random, part)), build: (ops, ...refs) => ops.concat(refs, axis) };
  },
  broadcast: (random) => {
    const shape = shapeOf(random);
    const thin = shape.map((extent) => (random() < 0.5 ? 1 : extent)).slice(whole(random, 0, shape.length));
    return { inputs: [spread(random, thin)], build: (ops, x) => ops.broadcast(x!, shape) };
  },
  add: binary((ops, x, y) => ops.add(x, y)),
  subtract: binary((ops, x, y) => ops.subtract(x, y)),
  multiply: binary((ops, x, y) => ops.multiply(x, y)),
  divide: binary((ops, x, y) => ops.divide(x, y)),
  maximum: binary((ops, x, y) => ops.maximum(x, y)),
  ...({
    scale: unary((ops, x) => ops.scale(x, -1.7)),
    offset: unary((ops, x) => ops.offset(x, 0.3)),
    square: unary((ops, x) => ops.square(x)),
    exp: unary((ops, x) => ops.exp(x)),
    log: unary((ops, x) => ops.log(x), positive),
    sqrt: unary((ops, x) => ops.sqrt(x), positive),
    tanh: unary((ops, x) => ops.tanh(x)),
    erf: unary((ops, x) => ops.erf(x)),
    step: unary((ops, x) => ops.step(x)),
    // Nothing near a half: float32 and float64 would differ.
    round: (random) => {
      const shape = shapeOf(random);
      const values = new Float64Array(size(shape)).map(() => whole(random, -3, 3) + 0.4 * (random() - 0.5));
      return { inputs: [fixed(shape, values)], build: (ops, x) => ops.round(x!) };
    },
    stopGradient: unary((ops, x) => ops.stopGradient(x)),
  } satisfies Record<Unary, (random: Random) => Case>),
  matmul: (random) => {
    const [m, k, n] = [whole(random, 1, 4), whole(random, 1, 4), whole(random, 1, 4)];
    const leading = shapeOf(random, 0, 2);
    const right = random() < 0.5 ? [] : leading;
    const [turnX, turnY] = [random() < 0.5, random() < 0.5];
    const inputs = [
      spread(random, [...leading, ...(turnX ? [k, m] : [m, k])]),
      spread(random, [...right, ...(turnY ? [n, k] : [k, n])]),
    ];
    return { inputs, build: (ops, x, y) => ops.matmul(turnX ? ops.transposed(x!) : x!, turnY ? ops.transposed(y!) : y!) };
  },
  sum: (random) => {
    const shape = shapeOf(random);
    const axes = shape.map((_, axis) => axis).filter((axis) => axis === 0 || random() < 0.5);
    return { inputs: [spread(random, shape)], build: (ops, x) => ops.sum(x!, axes) };
  },
  max: (random) => {
    const shape = shapeOf(random);
    const axis = whole(random, 0, shape.length - 1);
    return { inputs: [spread(random, shape)], build: (ops, x) => ops.max(x!, axis) };
  },
  gather: (random) => {
    const shape = shapeOf(random);
    return {
      inputs: [spread(random, shape), indices(random, shapeOf(random, 1, 2), shape[0]!)],
      build: (ops, x, i) => ops.gather(x!, i!),
    };
  },
  scatterAdd: (random) => {
    const [at, row, rows] = [shapeOf(random, 1, 2), shapeOf(random, 0, 2), whole(random, 1, 4)];
    return {
      inputs: [indices(random, at, rows), spread(random, [...at, ...row])],
      build: (ops, i, x) => ops.scatterAdd(i!, x!, rows),
    };
  },
  oneHot: (random) => ({ inputs: [indices(random, shapeOf(random, 1, 2), 5)], build: (ops, i) => ops.oneHot(i!, 5) }),
  argmax: unary((ops, x) => ops.argmax(x)),

  relu: unary((ops, x) => ops.relu(x)),
  sigmoid: unary((ops, x) => ops.sigmoid(x)),
  silu: unary((ops, x) => ops.silu(x)),
  gelu: unary((ops, x) => ops.gelu(x)),
  quadratic: (random) => {
    const shape = shapeOf(random);
    return {
      inputs: [shape, shape.slice(-1), shape.map(() => 1), shape].map((s) => spread(random, s)),
      build: (ops, x, a, b, c) => ops.quadratic(x!, a!, b!, c!),
    };
  },
  softmax: unary((ops, x) => ops.softmax(x)),
  logSoftmax: unary((ops, x) => ops.logSoftmax(x)),
  reciprocal: unary((ops, x) => ops.reciprocal(x, { epsilon: 1e-3 }), positive),
  inverseSquareRoot: unary((ops, x) => ops.inverseSquareRoot(x, { factor: 0.5, epsilon: 1e-3 }), positive),
  rmsNorm: (random) => {
    const shape = shapeOf(random);
    const gain = random() < 0.5 ? [spread(random, shape.slice(-1))] : [];
    return { inputs: [spread(random, shape), ...gain], build: (ops, x, g) => ops.rmsNorm(x!, { gain: g, epsilon: 1e-2, table }) };
  },
  layerNorm: (random) => {
    const shape = [...shapeOf(random, 0, 2), whole(random, 2, 5)];
    const gain = random() < 0.5 ? [spread(random, shape.slice(-1)), spread(random, shape.slice(-1))] : [];
    return {
      inputs: [spread(random, shape), ...gain],
      build: (ops, x, g, b) => ops.layerNorm(x!, { gain: g, bias: b, epsilon: 1e-2 }),
    };
  },
  rotary: (random) => {
    const [tokens, half] = [whole(random, 1, 4), whole(random, 1, 3)];
    const inputs = [
      [...shapeOf(random, 0, 2), tokens, 2 * half],
      [tokens, 2 * half],
      [tokens, 2 * half],
    ].map((s) => spread(random, s));
    return { inputs, build: (ops, x, cos, sin) => ops.rotary(x!, cos!, sin!) };
  },
  softmaxAttention: (random) => {
    const [leading, q, k, d] = [shapeOf(random, 0, 2), whole(random, 1, 4), whole(random, 1, 4), whole(random, 1, 4)];
    const hidden = mask(random, q, k);
    const inputs = [spread(random, [...leading, q, k]), spread(random, [...leading, k, d])];
    return { inputs, build: (ops, s, v) => ops.softmaxAttention(s!, v!, ops.constant(hidden.values, hidden.shape)) };
  },
  powers: (random) => {
    const { scores, lengths, hidden, options } = attentionCase(random);
    return {
      inputs: [scores],
      build: (ops, s) =>
        ops.powers(s!, ops.constant(hidden.values, hidden.shape), ops.constant(lengths, [lengths.length, 1]), options),
    };
  },
  powerAttention: (random) => {
    const { scores, values, lengths, hidden, options } = attentionCase(random);
    return {
      inputs: [scores, values],
      build: (ops, s, v) => {
        const inverse = ops.constant(lengths, [lengths.length, 1]);
        return ops.powerAttention(s!, v!, ops.constant(hidden.values, hidden.shape), inverse, { ...options, epsilon: 1e-2 });
      },
    };
  },
  embedding: (random) => {
    const [rows, width] = [whole(random, 1, 4), whole(random, 1, 4)];
    const inputs = [spread(random, [rows, width]), indices(random, shapeOf(random, 1, 2), rows)];
    return { inputs, build: (ops, x, i) => ops.embedding(x!, i!) };
  },
  crossEntropy: (random) => {
    const [leading, vocabulary] = [shapeOf(random, 1, 2), whole(random, 2, 5)];
    const inputs = [spread(random, [...leading, vocabulary]), indices(random, leading, vocabulary), spread(random, leading)];
    return { inputs, build: (ops, logits, labels, weights) => ops.crossEntropy(logits!, labels!, weights!) };
  },
  nf4: (random) => {
    const shape = [whole(random, 1, 5), whole(random, 1, 9)];
    const block = random() < 0.5 ? 2 : 16;
    const bytes = { ...indices(random, [Math.ceil(size(shape) / 2)], 256), element: 'byte' as const };
    const inputs = [bytes, spread(random, [Math.ceil(size(shape) / block)])];
    return { inputs, build: (ops, codes, scales) => ops.nf4(codes!, scales!, { shape, block }) };
  },
};
