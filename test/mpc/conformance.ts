import type { RingProgram } from '../../src/backends/ring/index.ts';
import { quantise, withRangeFlags } from '../../src/backends/ring/index.ts';
import { paddingInput, paddingInputs, paddingMask, paddingRows } from '../../src/models/padding.ts';
import { type Ops, type Ref, size, type Tensor, trace } from '../../src/program/index.ts';
import { numbers, toyProgram, toyTokens, toyWeights } from '../ring/toy.ts';

/**
 * What every source of correlations must serve: small programs that together use every operation of the online protocol. A new source is
 * one more name in conformance.test.ts.
 */
export interface Conformance {
  readonly name: string;
  readonly program: (ring: { bits: number; fraction: number }) => RingProgram;
  /** Both parties' tensors, by name. */
  readonly tensors: ReadonlyMap<string, Tensor>;
}

type Build = (ops: Ops<Ref>, x: Ref, y: Ref) => Ref;

/** f of two values, each a client's secret plus a server's. */
function of(name: string, shape: readonly number[], [low, high]: readonly [number, number], f: Build): Conformance {
  const program = trace((ops) => {
    const sum = (part: string): Ref => ops.add(ops.input(part, shape, 'client'), ops.input(`${part}.server`, shape, 'server'));
    return { out: ops.scope('function', () => f(ops, sum('x'), sum('y'))) };
  });
  const tensors = new Map<string, Tensor>();
  for (const [at, part] of ['x', 'y'].entries()) {
    const server = numbers(size(shape), 17 + at);
    const values = numbers(size(shape), 11 + at).map((value, i) => low + ((value + 1) / 2) * (high - low) - server[i]!);
    tensors.set(part, { shape, values });
    tensors.set(`${part}.server`, { shape, values: server });
  }
  tensors.set('row', { shape: [1, 4], values: numbers(4, 23) });
  return { name, program: (ring) => quantise(program, ring), tensors };
}

const linear = { rangeBits: 6, indexBits: 9, extraBits: 2 } as const;
const nearest = { ...linear, interpolation: 'none' } as const;
const causal = (tokens: number): Float64Array =>
  Float64Array.from({ length: tokens * tokens }, (_, at) => (at % tokens <= Math.floor(at / tokens) ? 1 : 0));
const positive: readonly [number, number] = [0.5, 3];
const small: readonly [number, number] = [-2, 2];

/** A layer with a cache, two more tokens, norms, gate and attention, secret tokens in a smaller ring. */
function toy(name: string, exponent: number): Conformance {
  const options = { tokens: 3, width: 8, exponent, steps: 2 };
  const program = toyProgram(options);
  return { name, program: (ring) => quantise(program, ring), tensors: new Map([...toyWeights(8, 3), ...toyTokens(options)]) };
}

export const suite: readonly Conformance[] = [
  toy('a layer with its cache and decode steps, squared scores', 2),
  toy('a layer with its cache and decode steps, fourth powers', 4),
  of('products, squares and sums', [3, 4], small, (ops, x, y) =>
    ops.sum(ops.multiply(ops.square(x), ops.add(ops.multiply(x, y), y)), [1]),
  ),
  of('zeros and a row of the server beside shared rows', [3, 4], small, (ops, x, y) =>
    ops.multiply(ops.pad(ops.concat([ops.input('row', [1, 4], 'server'), x], 0), 0, 0, 1), ops.pad(y, 0, 1, 1)),
  ),
  of('products of matrices', [2, 3, 3], small, (ops, x, y) => ops.matmul(x, ops.transposed(y))),
  of('a lookup with slopes', [3, 5], positive, (ops, x) => ops.reciprocal(x, { epsilon: 1e-2, table: linear })),
  of('a lookup without slopes', [3, 5], positive, (ops, x) => ops.reciprocal(x, { epsilon: 1e-2, table: nearest })),
  of('a norm with its table', [3, 8], small, (ops, x) => ops.rmsNorm(x, { epsilon: 1e-2, table: linear })),
  of('attention under a causal mask, its rows packed', [2, 5, 5], small, (ops, x, y) =>
    ops.powerAttention(x, y, ops.constant(causal(5), [5, 5]), ops.constant(inverses(5), [5, 1]), {
      exponent: 2,
      epsilon: 1e-2,
      table: { rangeBits: 8, indexBits: 11, extraBits: 8 },
    }),
  ),
  of('attention whose half powers are levelled, under a causal mask', [2, 5, 5], small, (ops, x, y) =>
    ops.powerAttention(x, y, ops.constant(causal(5), [5, 5]), ops.constant(inverses(5), [5, 1]), {
      exponent: 4,
      epsilon: 1e-2,
      table: { rangeBits: 8, indexBits: 11, extraBits: 8 },
      half: { rangeBits: 6, indexBits: 8, extraBits: 4, interpolation: 'none' },
    }),
  ),
  counted(),
  of('a sign and a rectified value', [13], small, (ops, x, y) => ops.multiply(ops.step(x), ops.relu(y))),
  of('gelu, a table beside lines', [9], [-6, 6], (ops, x) => ops.gelu(x)),
  of('silu, sigmoid and tanh', [5], small, (ops, x, y) => ops.add(ops.silu(x), ops.multiply(ops.sigmoid(y), ops.tanh(x)))),
  of('softmax attention under a causal mask', [2, 4, 4], small, (ops, x, y) =>
    ops.softmaxAttention(x, y, ops.constant(causal(4), [4, 4])),
  ),
  of('a norm over a wide range', [2, 6], small, (ops, x) => ops.layerNorm(x, { epsilon: 1e-3 })),
  of('a quotient over a wide range', [6], small, (ops, x, y) => ops.divide(x, ops.offset(ops.square(y), 1))),
  of('the place of the largest', [3, 11], small, (ops, x) => ops.argmax(x)),
  flagged(),
];

/** A norm, a gate and a product whose values are watched. */
function flagged(): Conformance {
  const watched = of('values that range flags watch', [3, 8], small, (ops, x, y) =>
    ops.multiply(ops.rmsNorm(x, { epsilon: 1e-2, table: linear }), ops.relu(ops.multiply(y, y))),
  );
  return { ...watched, program: (ring) => withRangeFlags(watched.program(ring)) };
}

/** Centred attention over keys that the client's secret mask counts, four of six. */
function counted(): Conformance {
  const tokens = 6;
  const attended = of('attention over the keys that a secret mask counts', [2, tokens, tokens], small, (ops, x, y) => {
    const mask = paddingMask(ops, tokens);
    const { shares, inverseLengths } = paddingRows(ops, 0, { rows: 1, keys: tokens, positions: tokens });
    const keys = ops.multiply(y, ops.reshape(mask, [tokens, 1]));
    const secret = { keep: ops.reshape(mask, [1, tokens]), shares: shares() };
    return ops.powerAttention(
      ops.matmul(x, ops.transposed(keys)),
      y,
      ops.constant([1], [1]),
      inverseLengths(),
      {
        exponent: 2,
        epsilon: 1e-2,
        table: { rangeBits: 8, indexBits: 11, extraBits: 8 },
      },
      secret,
    );
  });
  const lengths = { kind: 'encoder', real: 4, positions: tokens, newTokens: 1 } as const;
  const fed = Object.values(paddingInputs).map((name) => [name, paddingInput(name, lengths)!] as const);
  return { ...attended, tensors: new Map([...attended.tensors, ...fed]) };
}

function inverses(tokens: number): Float64Array {
  return Float64Array.from({ length: tokens }, (_, row) => 1 / (row + 1));
}
