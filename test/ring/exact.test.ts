import { describe, expect, it } from 'vitest';
import { forecast } from '../../src/backends/cost/index.ts';
import { simulate } from '../../src/backends/fixed/index.ts';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { quantise, wordBitsOf } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { type Ops, type Program, type Ref, size, type Tensor, trace } from '../../src/program/index.ts';
import { both } from '../mpc/piecewise.ts';
import { numbers } from './toy.ts';

const read = (tensors: ReadonlyMap<string, Tensor>) => async (name: string) => tensors.get(name)!;

/** f of a client's secret plus a server's: shapes, and the range that values are drawn from. */
function programOf(f: (ops: Ops<Ref>, x: Ref, y: Ref) => Ref, shape: readonly number[]): Program {
  return trace((ops) => {
    const sum = (name: string): Ref => ops.add(ops.input(name, shape, 'client'), ops.input(`${name}.server`, shape, 'server'));
    return { out: ops.scope('function', () => f(ops, sum('x'), sum('y'))) };
  });
}

function tensors(shape: readonly number[], low: number, high: number, seed: number) {
  const all = new Map<string, Tensor>();
  for (const [i, name] of ['x', 'y'].entries()) {
    const values = numbers(size(shape), seed + i).map((value) => low + ((value + 1) / 2) * (high - low));
    const server = numbers(size(shape), seed + 7 + i).map((value) => value * 4);
    all.set(name, { shape, values: values.map((value, at) => value - server[at]!) });
    all.set(`${name}.server`, { shape, values: server });
  }
  return all;
}

async function compared(program: Program, all: ReadonlyMap<string, Tensor>, ring: { bits: number; fraction: number }) {
  const lowered = quantise(program, ring);
  const kernels = createWasmKernels(wordBitsOf(ring.bits));
  const outputs = await simulate(lowered, { kernels, weights: read(all), inputs: read(all) });
  const exact = await (await referenceBackend().compile(program, all)).run(all);
  const [got, expected] = [outputs.get('out')!, exact.get('out')!];
  expect(got.shape).toEqual(expected.shape);
  expect(kernels.allocatedBytes).toBe(0);
  return { got: Array.from(got.values), expected: Array.from(expected.values) };
}

interface Case {
  readonly name: string;
  readonly f: (ops: Ops<Ref>, x: Ref, y: Ref) => Ref;
  readonly shape?: readonly number[];
  readonly low?: number;
  readonly high?: number;
  /** In the rings of 64, 48 and 32 bits. */
  readonly tolerance: readonly [number, number, number];
}

const rowed = [3, 2, 21];
const cases: readonly Case[] = [
  { name: 'relu', f: (ops, x) => ops.relu(x), tolerance: [1e-4, 4e-4, 6e-3] },
  { name: 'relu of a product', f: (ops, x, y) => ops.relu(ops.multiply(x, y)), low: -4, high: 4, tolerance: [3e-4, 1e-3, 3e-2] },
  { name: 'maximum', f: (ops, x, y) => ops.maximum(x, y), tolerance: [1e-4, 4e-4, 6e-3] },
  { name: 'sigmoid', f: (ops, x) => ops.sigmoid(x), tolerance: [3e-4, 5e-4, 6e-3] },
  { name: 'tanh', f: (ops, x) => ops.tanh(x), tolerance: [4e-4, 6e-4, 8e-3] },
  { name: 'erf', f: (ops, x) => ops.erf(x), tolerance: [4e-4, 6e-4, 8e-3] },
  { name: 'silu', f: (ops, x) => ops.silu(x), tolerance: [6e-4, 1e-3, 8e-3] },
  { name: 'gelu', f: (ops, x) => ops.gelu(x), tolerance: [1e-3, 1e-3, 8e-3] },
  { name: 'exp', f: (ops, x) => ops.exp(x), low: -30, high: 1.9, tolerance: [6e-3, 6e-3, 3e-2] },
  { name: 'max over the last axis', f: (ops, x) => ops.max(x, 2), shape: rowed, tolerance: [1e-4, 4e-4, 6e-3] },
  { name: 'max over the first axis', f: (ops, x) => ops.max(x, 0), shape: [5, 2, 3], tolerance: [1e-4, 4e-4, 6e-3] },
  { name: 'softmax', f: (ops, x) => ops.softmax(x), shape: rowed, tolerance: [2e-3, 2e-3, 1e-2] },
  {
    name: 'softmax attention under a causal mask',
    f: (ops, x, y) => ops.softmaxAttention(x, y, ops.constant(causal(6), [6, 6])),
    shape: [2, 6, 6],
    low: -8,
    high: 8,
    tolerance: [2e-2, 2e-2, 0.1],
  },
  {
    name: 'rmsNorm without a table',
    f: (ops, x) => ops.rmsNorm(x, { epsilon: 1e-5 }),
    shape: rowed,
    low: -4,
    high: 5,
    tolerance: [2e-3, 2e-3, 3e-2],
  },
  {
    name: 'rmsNorm of small values without a table',
    f: (ops, x) => ops.rmsNorm(x, { epsilon: 1e-5 }),
    shape: rowed,
    low: -0.2,
    high: 0.2,
    tolerance: [3e-3, 8e-3, 0.15],
  },
  {
    name: 'layerNorm far from zero without a table',
    f: (ops, x) => ops.layerNorm(x, { epsilon: 1e-5 }),
    shape: rowed,
    low: 12,
    high: 18,
    tolerance: [2e-3, 4e-3, 4e-2],
  },
  {
    name: 'layerNorm without a table',
    f: (ops, x) => ops.layerNorm(x, { epsilon: 1e-5 }),
    shape: rowed,
    low: -4,
    high: 5,
    tolerance: [2e-3, 3e-3, 3e-2],
  },
  {
    name: 'division',
    f: (ops, x, y) => ops.divide(x, ops.offset(ops.square(y), 1)),
    low: -4,
    high: 4,
    tolerance: [4e-3, 4e-3, 4e-2],
  },
];

function causal(tokens: number): Float64Array {
  return Float64Array.from({ length: tokens * tokens }, (_, at) => (at % tokens <= Math.floor(at / tokens) ? 1 : 0));
}

const rings = [
  { bits: 64, fraction: 16 },
  { bits: 48, fraction: 14 },
  { bits: 32, fraction: 9 },
];

describe.each(rings)('exact functions in a ring of $bits bits', (ring) => {
  it.each(cases)('$name stays near float', async ({ f, shape = [60], low = -18, high = 18, tolerance }) => {
    const program = programOf(f, shape);
    const bound = tolerance[rings.indexOf(ring)]!;
    for (const seed of [3, 50]) {
      const { got, expected } = await compared(program, tensors(shape, low, high, seed), ring);
      const error = Math.max(...got.map((value, i) => Math.abs(value - expected[i]!)));
      expect(error).toBeLessThan(bound);
    }
  });

  it.each(cases)('$name: a private run equals the simulation bit for bit and the forecast byte for byte', async (one) => {
    const { f, shape = [60], low = -18, high = 18 } = one;
    const lowered = quantise(programOf(f, shape), ring);
    const all = tensors(shape, low, high, 5);
    const { run, exact, held } = await both(lowered, all, all);
    expect(run.outputs.get('out')).toEqual(exact.get('out'));
    expect(run.measured).toEqual(forecast(lowered).total);
    expect(held).toBe(0);
  });

  it('step is one above zero and zero at and below it', async () => {
    const unit = 2 ** -ring.fraction;
    const values = [-5, -unit, 0, unit, 0.25, 60];
    const all = new Map<string, Tensor>([
      ['x', { shape: [6], values: Float64Array.from(values) }],
      ['x.server', { shape: [6], values: new Float64Array(6) }],
      ['y', { shape: [6], values: new Float64Array(6) }],
      ['y.server', { shape: [6], values: new Float64Array(6) }],
    ]);
    const { run } = await both(
      quantise(
        programOf((ops, x) => ops.step(x), [6]),
        ring,
      ),
      all,
      all,
    );
    expect([...run.outputs.get('out')!.values]).toEqual([0, 0, 0, 1, 1, 1]);
  });

  it('argmax reveals the first index of the largest and nothing else', async () => {
    const [rows, extent] = [7, 37];
    const program = programOf((ops, x) => ops.argmax(x), [rows, extent]);
    const all = tensors([rows, extent], -18, 18, 11);
    const [x, own] = [all.get('x')!.values, all.get('x.server')!.values];
    // Row 2 is all equal, row 3 has its largest twice.
    for (let at = 0; at < extent; at++) {
      x[2 * extent + at] = 1 - own[2 * extent + at]!;
      if (at === 9 || at === 30) x[3 * extent + at] = 20 - own[3 * extent + at]!;
    }
    for (const values of [x, own])
      values.forEach((value, at) => {
        values[at] = Math.round(value * 2 ** 6) / 2 ** 6;
      });
    const lowered = quantise(program, ring);
    const { run, exact } = await both(lowered, all, all);
    const expected = Array.from({ length: rows }, (_, row) => {
      const sums = Array.from({ length: extent }, (_, at) => x[row * extent + at]! + own[row * extent + at]!);
      return sums.indexOf(Math.max(...sums));
    });
    expect([...run.outputs.get('out')!.values]).toEqual(expected);
    expect(exact.get('out')).toEqual(run.outputs.get('out'));
    expect(run.measured).toEqual(forecast(lowered).total);
    expect(expected[2]).toBe(0);
    expect(expected[3]).toBe(9);
  });

  it('an argument out of range is a range error with its scope', async () => {
    for (const [f, value] of [
      [(ops: Ops<Ref>, x: Ref) => ops.exp(x), 2.5],
      [(ops: Ops<Ref>, x: Ref) => ops.gelu(x), 5000],
    ] as const) {
      const all = tensors([2], value, value + 0.1, 1);
      const run = compared(programOf(f, [2]), all, ring);
      await expect(run).rejects.toMatchObject({ kind: 'range', place: { scope: 'function' } });
    }
  });
});
