import { type Ops, type Program, type Ref, type Tensor, trace } from '../../src/program/index.ts';

/** A small transformer-like program that uses every ring operation: two tokens rounds, a cache, norms, gate, attention. */
export interface ToyOptions {
  readonly tokens: number;
  readonly width: number;
  readonly exponent: number;
  readonly steps: number;
}

const normTable = { rangeBits: 6, indexBits: 9, extraBits: 2 };
const rowTable = { rangeBits: 8, indexBits: 11, extraBits: 8 };
/** Large enough for one-hot rows to be shared in a smaller ring. */
const depth = 101;

export const weightShapes = (width: number): Record<string, readonly number[]> => ({
  table: [depth, width],
  qkv: [width, 3 * width],
  bias: [3 * width],
  out: [width, width],
  up: [width, 2 * width],
  a: [2 * width],
  b: [2 * width],
  c: [2 * width],
  down: [2 * width, width],
  head: [width, depth],
});

export function toyProgram({ tokens, width, exponent, steps }: ToyOptions): Program {
  return trace((ops) => {
    const outputs: Record<string, Ref> = {};
    const weights = Object.fromEntries(
      Object.entries(weightShapes(width)).map(([name, shape]) => [name, ops.input(name, shape, 'server')]),
    );
    let cache: { key: Ref; value: Ref } | undefined;
    for (let step = 0; step <= steps; step++) {
      const length = step === 0 ? tokens : 1;
      const ids = ops.input(`token.${step}`, [length], 'client', 'index');
      const made = ops.scope(`layers.${step}`, () => layer(ops, ids, weights, cache, { length, width, exponent }));
      cache = made.cache;
      outputs[`logits.${step}`] = made.logits;
    }
    return outputs;
  });
}

function layer(
  ops: Ops<Ref>,
  ids: Ref,
  w: Record<string, Ref>,
  cache: { key: Ref; value: Ref } | undefined,
  { length, width, exponent }: { length: number; width: number; exponent: number },
): { logits: Ref; cache: { key: Ref; value: Ref } } {
  const x = ops.embedding(w.table!, ids);
  const h = ops.rmsNorm(x, { epsilon: 1e-2, table: normTable });
  const qkv = ops.add(ops.matmul(h, w.qkv!), w.bias!);
  const [q, k, v] = [0, 1, 2].map((i) => ops.slice(qkv, 1, i * width, (i + 1) * width)) as [Ref, Ref, Ref];
  const heads = (t: Ref): Ref => ops.transpose(ops.reshape(t, [ops.shape(t)[0]!, 2, width / 2]), [1, 0, 2]);
  const key = cache === undefined ? heads(k) : ops.concat([cache.key, heads(k)], 1);
  const value = cache === undefined ? heads(v) : ops.concat([cache.value, heads(v)], 1);
  const total = ops.shape(key)[1]!;
  const rotated = ops.rotary(heads(q), ...angles(ops, length, width / 2));
  const scores = ops.scale(ops.matmul(rotated, ops.transposed(key)), 0.3);
  const past = total - length;
  const mask = Float64Array.from({ length: length * total }, (_, at) => (at % total <= past + Math.floor(at / total) ? 1 : 0));
  const inverse = Float64Array.from({ length }, (_, row) => 1 / (past + row + 1));
  const table = rowTable;
  const mixed = ops.powerAttention(scores, value, ops.constant(mask, [length, total]), ops.constant(inverse, [length, 1]), {
    exponent,
    epsilon: 1e-2,
    table,
  });
  const merged = ops.reshape(ops.transpose(mixed, [1, 0, 2]), [length, width]);
  const y = ops.add(x, ops.matmul(merged, w.out!));
  const gate = ops.quadratic(ops.matmul(ops.layerNorm(y, { epsilon: 1e-2, table: normTable }), w.up!), w.a!, w.b!, w.c!);
  const z = ops.add(y, ops.matmul(gate, w.down!));
  return { logits: ops.matmul(ops.offset(ops.scale(z, 0.5), 0.25), w.head!), cache: { key, value } };
}

function angles(ops: Ops<Ref>, length: number, width: number): [Ref, Ref] {
  const at = (f: (x: number) => number): Ref =>
    ops.constant(
      Float64Array.from({ length: length * width }, (_, i) => f(Math.floor(i / width) * 0.7 ** (i % (width / 2)))),
      [length, width],
    );
  return [at(Math.cos), at(Math.sin)];
}

/** Uniform numbers in [-1, 1) from a seed. */
export function numbers(count: number, seed: number): Float64Array {
  let state = (seed * 2654435761 + 1) >>> 0;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  });
}

export function toyWeights(width: number, seed: number): Map<string, Tensor> {
  return new Map(
    Object.entries(weightShapes(width)).map(([name, shape], i) => {
      const count = shape.reduce((a, b) => a * b, 1);
      const spread = shape.length === 2 && name !== 'table' ? 1 / Math.sqrt(shape[0]!) : 1;
      return [name, { shape, values: numbers(count, seed + i).map((value) => value * spread) }];
    }),
  );
}

export const toyTokens = (options: ToyOptions): Map<string, Tensor> =>
  new Map(
    Array.from({ length: options.steps + 1 }, (_, step) => {
      const count = step === 0 ? options.tokens : 1;
      return [
        `token.${step}`,
        { shape: [count], values: Int32Array.from({ length: count }, (_, i) => (step * 3 + i * 5) % depth) },
      ];
    }),
  );
