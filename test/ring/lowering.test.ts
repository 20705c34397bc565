import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { forecast } from '../../src/backends/cost/index.ts';
import { simulate } from '../../src/backends/fixed/index.ts';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { quantise, type RingNode, type RingProgram, schedule } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { type Ops, type Program, type Ref, size, type Tensor, trace } from '../../src/program/index.ts';
import { numbers, toyProgram } from './toy.ts';

const ring = { bits: 64, fraction: 16 };
const lower = (program: Program): RingProgram => quantise(program, ring);
const nodesOf = (program: RingProgram, ...operations: readonly string[]): RingNode[] =>
  program.nodes.filter(({ operation }) => operations.includes(operation));
const openings = (program: RingProgram): RingNode[] => nodesOf(program, 'open', 'openNarrow');
const truncations = (program: RingProgram): RingNode[] => nodesOf(program, 'truncate', 'narrow');
const elements = (nodes: readonly RingNode[]): number => nodes.reduce((sum, { shape }) => sum + size(shape), 0);

/** Steps of a small random program on (4, 4) matrices; `at` chooses earlier values, so that wires have several readers. */
type Step = { readonly kind: string; readonly at: number; readonly other: number };
const kinds = [
  'add',
  'subtract',
  'scale',
  'offset',
  'square',
  'multiply',
  'weight',
  'matmul',
  'transpose',
  'slices',
  'mean',
  'plus',
];
const step = fc.record({ kind: fc.constantFrom(...kinds), at: fc.nat(20), other: fc.nat(20) });

function build(ops: Ops<Ref>, steps: readonly Step[]): Ref {
  const [x, w, b] = [ops.input('x', [4, 4], 'client'), ops.input('w', [4, 4], 'server'), ops.input('b', [4], 'server')];
  const made = [x];
  // A value's size, so that products stay small: x is below one.
  const sizes = [1];
  for (const { kind, at, other } of steps) {
    const [i, j] = [at % made.length, other % made.length];
    const [value, second] = [made[i]!, made[j]!];
    const put = (ref: Ref, bound: number): void => {
      if (bound > 64) return;
      made.push(ref);
      sizes.push(bound);
    };
    const [p, q] = [sizes[i]!, sizes[j]!];
    if (kind === 'add') put(ops.add(value, second), p + q);
    if (kind === 'subtract') put(ops.subtract(value, second), p + q);
    if (kind === 'scale') put(ops.scale(value, 0.3), p);
    if (kind === 'offset') put(ops.offset(value, -0.7), p + 1);
    if (kind === 'square') put(ops.square(value), p * p);
    if (kind === 'multiply') put(ops.multiply(value, second), p * q);
    if (kind === 'weight') put(ops.matmul(value, w), 4 * p);
    if (kind === 'matmul') put(ops.matmul(value, second), 4 * p * q);
    if (kind === 'transpose') put(ops.transposed(value), p);
    if (kind === 'slices') put(ops.concat([ops.slice(value, 1, 2, 4), ops.slice(value, 1, 0, 2)], 1), p);
    if (kind === 'mean') put(ops.subtract(value, ops.scale(ops.sum(value, [1]), 0.25)), 2 * p);
    if (kind === 'plus') put(ops.add(value, b), p + 1);
  }
  return ops.offset(made.at(-1)!, 0);
}

const tensor = (shape: readonly number[], seed: number): Tensor => ({ shape, values: numbers(size(shape), seed) });

describe('random programs', () => {
  it('keep their values in fixed point, open every wire once and make every truncation once', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 9 }), fc.nat(1000), async (steps, seed) => {
        const program = trace((ops) => ({ y: build(ops, steps) }));
        const weights = new Map([
          ['w', tensor([4, 4], seed)],
          ['b', tensor([4], seed + 1)],
        ]);
        const inputs = new Map([['x', tensor([4, 4], seed + 2)]]);
        const exact = (await (await referenceBackend().compile(program, weights)).run(inputs)).get('y')!;
        const lowered = lower(program);
        const kernels = createWasmKernels(64);
        const read = (tensors: Map<string, Tensor>) => async (name: string) => tensors.get(name)!;
        const got = (await simulate(lowered, { kernels, weights: read(weights), inputs: read(inputs) })).get('y')!;
        got.values.forEach((value, i) => {
          // Values below 64, at most nine operations: each loses a few units of 2^-16, magnified by its factors.
          expect(Math.abs(value - exact.values[i]!)).toBeLessThan(0.02);
        });
        expect(kernels.allocatedBytes).toBe(0);
        const opened = openings(lowered).map(({ operation, inputs }) => `${operation} ${inputs[0]}`);
        expect(new Set(opened).size).toBe(opened.length);
        const cut = truncations(lowered).map(
          ({ operation, inputs, parameters }) => `${operation} ${inputs[0]} ${(parameters as { bits: number }).bits}`,
        );
        expect(new Set(cut).size).toBe(cut.length);
      }),
      { numRuns: 60 },
    );
  });
});

describe('an opening', () => {
  it('is sent once for a square, a product, a transpose and slices of one wire', () => {
    const program = lower(
      trace((ops) => {
        const x = ops.input('x', [4, 6], 'client');
        const scores = ops.matmul(x, ops.transposed(x));
        const left = ops.multiply(ops.slice(x, 1, 0, 3), ops.slice(x, 1, 3, 6));
        return { squares: ops.square(x), scores, left };
      }),
    );
    expect(elements(openings(program))).toBe(24);
  });

  it('of a cached key serves every later query: a decode step opens its own key and query only', () => {
    const program = lower(
      trace((ops) => {
        let keys = ops.input('key.0', [5, 8], 'client');
        const outputs: Record<string, Ref> = {};
        for (let i = 0; i < 4; i++) {
          ops.scope(`step.${i}`, () => {
            if (i > 0) keys = ops.concat([keys, ops.input(`key.${i}`, [1, 8], 'client')], 0);
            outputs[`scores.${i}`] = ops.matmul(ops.input(`query.${i}`, [1, 8], 'client'), ops.transposed(keys));
          });
        }
        return outputs;
      }),
    );
    const opened = (scope: string): number => elements(openings(program).filter((node) => node.scope === scope));
    expect([0, 1, 2, 3].map((i) => opened(`step.${i}`))).toEqual([48, 16, 16, 16]);
  });

  // A full-width wire may be opened in both forms: once for its square, once for its product with a narrow value.
  it('is never repeated in one form in a program with a cache, norms and a gate', () => {
    const program = lower(toyProgram({ tokens: 3, width: 8, exponent: 4, steps: 3 }));
    const opened = openings(program).map(({ operation, inputs }) => `${operation} ${inputs[0]}`);
    expect(new Set(opened).size).toBe(opened.length);
  });
});

describe('hops', () => {
  const hops = (program: (ops: Ops<Ref>, x: Ref) => Ref): number =>
    schedule(lower(trace((ops) => ({ y: program(ops, ops.input('x', [4, 4], 'client')) })))).length;
  const table = { rangeBits: 4, indexBits: 6, extraBits: 0 };

  // An input and an output are a hop each.
  it('count an input and an output', () => expect(hops((_, x) => x)).toBe(2));
  it('are two for a server’s matrix and its truncation', () =>
    expect(hops((ops, x) => ops.matmul(x, ops.input('w', [4, 4], 'server')))).toBe(4));
  it('are two for a square and its truncation together', () => expect(hops((ops, x) => ops.square(x))).toBe(4));
  it('are two for a product and its truncation together', () =>
    expect(hops((ops, x) => ops.matmul(x, ops.transposed(x)))).toBe(4));
  it('are two for many independent ones side by side', () =>
    expect(
      hops((ops, x) => ops.add(ops.square(x), ops.add(ops.matmul(x, ops.transposed(x)), ops.square(ops.offset(x, 1))))),
    ).toBe(4));
  it('are four for two squares, one after the other', () => expect(hops((ops, x) => ops.square(ops.square(x)))).toBe(6));
  it('are none for moves, sums and public factors', () =>
    expect(hops((ops, x) => ops.sum(ops.scale(ops.transposed(x), 2), [1]))).toBe(2));
  it('are at most six more for a row function with interpolation', () =>
    expect(hops((ops, x) => ops.reciprocal(x, { epsilon: 0.1, table }))).toBeLessThanOrEqual(8));
});

describe('maps by weights', () => {
  const weight = (ops: Ops<Ref>, name: string): Ref => ops.input(name, [4, 4], 'server');
  const lowered = (parameters: { bits: number; fraction: number }, f: (ops: Ops<Ref>, x: Ref) => Ref): RingProgram =>
    quantise(
      trace((ops) => ({ y: f(ops, ops.input('x', [4, 4], 'client')) })),
      parameters,
    );
  const maps = (program: RingProgram): RingNode[] => nodesOf(program, 'linear');
  const fine = (program: RingProgram): number[] => nodesOf(program, 'serverInput').map(({ fraction }) => fraction);
  const mapped = (ops: Ops<Ref>, x: Ref): Ref => ops.matmul(ops.square(x), weight(ops, 'w'));
  const normed = (rangeBits: number) => (ops: Ops<Ref>, x: Ref) =>
    ops.rmsNorm(ops.add(x, mapped(ops, x)), { epsilon: 1e-5, table: { rangeBits, indexBits: 11, extraBits: 0 } });

  it('live in the ring that their operand leaves: nothing is truncated before or behind them', () => {
    const program = lowered(ring, (ops, x) => ops.square(mapped(ops, x)));
    expect(maps(program).map(({ modulus }) => modulus)).toEqual([48]);
    expect(nodesOf(program, 'truncate').map(({ scope }) => scope)).toEqual(['output']);
    expect(nodesOf(lowered(ring, mapped), 'truncate')).toEqual([]);
    expect(nodesOf(lowered(ring, mapped), 'reveal').map(({ modulus }) => modulus)).toEqual([32]);
  });

  it.each([
    ['a product of two secrets', (ops: Ops<Ref>, x: Ref) => ops.matmul(mapped(ops, x), ops.transposed(x))],
    ['a public factor', (ops: Ops<Ref>, x: Ref) => ops.scale(mapped(ops, x), 0.3)],
    ['a function', (ops: Ops<Ref>, x: Ref) => ops.gelu(mapped(ops, x))],
    ['a norm whose table reaches beyond the integers of the smaller ring', normed(30)],
  ] as const)('live in the whole ring where the result is read by %s', (_, f) => {
    expect(maps(lowered(ring, f))[0]).not.toHaveProperty('modulus');
  });
  it('live in the smaller one where a norm reads it', () => expect(maps(lowered(ring, normed(11)))[0]!.modulus).toBe(48));

  it.each([
    { bits: 32, fraction: 9, most: 13 },
    { bits: 32, fraction: 10, most: 12 },
    { bits: 48, fraction: 14, most: 18 },
    { bits: 48, fraction: 16, most: 16 },
  ])(
    'have weights of $most fraction bits in $bits bits with $fraction, where what reads the result drops them',
    ({ bits, fraction, most }) => {
      const parameters = { bits, fraction };
      expect(fine(lowered(parameters, (ops, x) => ops.square(mapped(ops, x))))).toEqual([most]);
      // An output, a score and what a function reads would send them.
      expect(fine(lowered(parameters, mapped))).toEqual([fraction]);
      expect(fine(lowered(parameters, (ops, x) => ops.matmul(mapped(ops, x), ops.transposed(x))))).toEqual([fraction]);
    },
  );
});

/** A BERT-base-shaped layer: RMSNorm, fused projections, power attention without a causal mask, a square between two matrices. */
function layer(exponent: number): Program {
  const [n, d, heads, inner] = [128, 768, 12, 3072];
  const norm = { epsilon: 1e-5, table: { rangeBits: 11, indexBits: 11, extraBits: 0 } };
  const table = exponent === 8 ? { rangeBits: 15, indexBits: 14, extraBits: 10 } : { rangeBits: 9, indexBits: 12, extraBits: 6 };
  return trace((ops) => {
    const weight = (name: string, shape: readonly number[]): Ref => ops.input(name, shape, 'server');
    const x = ops.input('x', [n, d], 'client');
    const y = ops.scope('layer', () => {
      const qkv = ops.matmul(ops.rmsNorm(x, norm), weight('qkv', [d, 3 * d]));
      const split = (i: number): Ref =>
        ops.transpose(ops.reshape(ops.slice(qkv, 1, i * d, (i + 1) * d), [n, heads, d / heads]), [1, 0, 2]);
      const [q, k, v] = [split(0), split(1), split(2)];
      const everyKey = ops.constant(new Float64Array(n * n).fill(1), [n, n]);
      const inverse = ops.constant(new Float64Array(n).fill(1 / n), [n, 1]);
      const scores = ops.matmul(q, ops.transposed(k));
      const mixed = ops.powerAttention(scores, v, everyKey, inverse, { exponent, epsilon: 1e-3, table });
      const merged = ops.reshape(ops.transpose(mixed, [1, 0, 2]), [n, d]);
      const middle = ops.add(x, ops.matmul(merged, weight('o', [d, d])));
      const up = ops.matmul(ops.rmsNorm(middle, norm), weight('up', [d, inner]));
      return ops.add(middle, ops.matmul(ops.square(up), weight('down', [inner, d])));
    });
    return { y };
  });
}

describe('one layer with 128 tokens', () => {
  it.each([
    { exponent: 2, megabytes: 16.5, most: 20 },
    { exponent: 4, megabytes: 19, most: 20 },
    { exponent: 8, megabytes: 21.5, most: 22 },
  ])('with exponent $exponent stays within $megabytes MB and $most hops', ({ exponent, megabytes, most }) => {
    const { online } = forecast(lower(layer(exponent))).perScope.find(({ scope }) => scope === 'layer')!;
    expect((online.clientToServerBytes + online.serverToClientBytes) / 1e6).toBeLessThanOrEqual(megabytes);
    expect(online.hops).toBeLessThanOrEqual(most);
  });
});
