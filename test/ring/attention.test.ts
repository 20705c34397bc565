import { describe, expect, it } from 'vitest';
import { forecast } from '../../src/backends/cost/index.ts';
import { simulate } from '../../src/backends/fixed/index.ts';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { quantise, wordBitsOf } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import type { Plan } from '../../src/models/plan.ts';
import { checkRanges } from '../../src/models/ranges.ts';
import { type Bounded, type PowerArgument, type Program, size, type Tensor, trace } from '../../src/program/index.ts';
import { both } from '../mpc/piecewise.ts';
import { numbers } from './toy.ts';

const read = (tensors: ReadonlyMap<string, Tensor>) => async (name: string) => tensors.get(name)!;

interface Form {
  readonly name: string;
  readonly argument: PowerArgument;
  readonly exponent: number;
  /** What is added to scores within ±1.5. */
  readonly shift: number;
  readonly table?: Bounded;
}
const table = { rangeBits: 4, indexBits: 9, extraBits: 2 };
const wide = { rangeBits: 6, indexBits: 11, extraBits: 4 };
const forms: readonly Form[] = [
  { name: 'a centred fourth power', argument: 'centred', exponent: 4, shift: 0, table: wide },
  { name: '2quad', argument: 'plain', exponent: 2, shift: 3, table: wide },
  { name: '2relu with a table', argument: 'rectified', exponent: 1, shift: 1, table },
  { name: '2relu without a table', argument: 'rectified', exponent: 1, shift: 1 },
  {
    name: '2quad by Newton’s iteration',
    argument: 'plain',
    exponent: 2,
    shift: 3,
    table: { method: 'newton', low: 1, high: 24, iterations: 5 },
  },
];

const [heads, tokens, width] = [2, 7, 3];
const shapes = { x: [heads, tokens, tokens], v: [heads, tokens, width] };

function programOf({ argument, exponent, shift, table }: Form, causal: boolean): Program {
  const seen = (row: number): number => (causal ? row + 1 : tokens);
  const mask = Float64Array.from({ length: tokens ** 2 }, (_, at) => (at % tokens < seen(Math.floor(at / tokens)) ? 1 : 0));
  const inverse = Float64Array.from({ length: tokens }, (_, row) => 1 / seen(row));
  return trace((ops) => {
    const secret = (name: 'x' | 'v') =>
      ops.add(ops.input(name, shapes[name], 'client'), ops.input(`${name}.server`, shapes[name], 'server'));
    const [scores, values] = [ops.offset(secret('x'), shift), secret('v')];
    const out = ops.scope('weights', () =>
      ops.powerAttention(scores, values, ops.constant(mask, [tokens, tokens]), ops.constant(inverse, [tokens, 1]), {
        argument,
        exponent,
        epsilon: 0.05,
        table,
      }),
    );
    return { out };
  });
}

function secrets(seed: number): Map<string, Tensor> {
  const all = new Map<string, Tensor>();
  Object.entries(shapes).forEach(([name, shape], i) => {
    for (const [j, part] of ['', '.server'].entries())
      all.set(name + part, { shape, values: numbers(size(shape), seed + 10 * i + 3 * j).map((value) => 0.75 * value) });
  });
  return all;
}

const rings = [
  { bits: 64, fraction: 16, tolerance: 4e-3 },
  { bits: 48, fraction: 14, tolerance: 5e-3 },
  { bits: 32, fraction: 9, tolerance: 6e-2 },
];
const cases = rings.flatMap((ring) => [false, true].map((causal) => ({ ...ring, causal })));

describe.each(cases)('attention in a ring of $bits bits, causal: $causal', ({ bits, fraction, tolerance, causal }) => {
  it.each(forms)('$name stays near float, and a private run equals the simulation and the forecast', async (form) => {
    const program = programOf(form, causal);
    const lowered = quantise(program, { bits, fraction });
    for (const seed of [3, 40]) {
      const all = secrets(seed);
      const float = (await (await referenceBackend().compile(program, all)).run(all)).get('out')!.values;
      const kernels = createWasmKernels(wordBitsOf(bits));
      const got = (await simulate(lowered, { kernels, weights: read(all), inputs: read(all) })).get('out')!.values;
      for (let i = 0; i < float.length; i++) expect(Math.abs(got[i]! - float[i]!)).toBeLessThan(tolerance);
      expect(kernels.allocatedBytes).toBe(0);
    }
    const all = secrets(5);
    const { run, exact, held } = await both(lowered, all, all);
    expect(run.outputs.get('out')).toEqual(exact.get('out'));
    expect(run.measured).toEqual(forecast(lowered).total);
    expect(held).toBe(0);
  });

  it.each(forms)('$name sends of its scores only what the mask leaves', (form) => {
    const lowered = quantise(programOf(form, causal), { bits, fraction });
    const seen = causal ? (heads * tokens * (tokens + 1)) / 2 : heads * tokens ** 2;
    const sent = lowered.nodes.filter(
      ({ operation, shape }) =>
        ['open', 'openNarrow', 'truncate', 'narrow', 'pin', 'piecewise'].includes(operation) &&
        size(shape) > heads * tokens * width,
    );
    expect(sent.length).toBeGreaterThan(0);
    for (const { shape } of sent) expect(size(shape)).toBe(seen);
  });
});

it('weighs rows of very different lengths alike in a narrow ring', async () => {
  const [rows, count] = [2, 300];
  const lengths = [3, 300];
  const program = trace((ops) => {
    const scores = ops.input('x', [1, rows, count], 'client');
    const values = ops.input('v', [1, count, 1], 'client');
    const mask = Float64Array.from({ length: rows * count }, (_, at) => (at % count < lengths[Math.floor(at / count)]! ? 1 : 0));
    const inverse = lengths.map((length) => 1 / length);
    const options = { exponent: 2, epsilon: 1e-3, table: { rangeBits: 3, indexBits: 9, extraBits: 2 } };
    return {
      out: ops.powerAttention(scores, values, ops.constant(mask, [rows, count]), ops.constant(inverse, [rows, 1]), options),
    };
  });
  const all = new Map<string, Tensor>([
    ['x', { shape: [1, rows, count], values: numbers(rows * count, 4).map((value) => 0.8 * value + 1) }],
    ['v', { shape: [1, count, 1], values: numbers(count, 9) }],
  ]);
  const float = (await (await referenceBackend().compile(program, new Map())).run(all)).get('out')!.values;
  for (const [bits, fraction, tolerance] of [
    [32, 9, 0.03],
    [48, 14, 2e-3],
  ] as const) {
    const kernels = createWasmKernels(wordBitsOf(bits));
    const lowered = quantise(program, { bits, fraction });
    const got = (await simulate(lowered, { kernels, weights: read(all), inputs: read(all) })).get('out')!.values;
    for (let i = 0; i < rows; i++) expect(Math.abs(got[i]! - float[i]!)).toBeLessThan(tolerance);
  }
});

describe('what a row divides by its length', () => {
  const count = 67;
  /** One head of one query over 67 keys that all weigh 1: 1/67 is rounded to 16 bits, where it has not fewer. */
  const program = trace((ops) => {
    const scores = ops.input('x', [1, 1, count], 'client');
    const values = ops.input('v', [1, count, 1], 'client');
    const options = { exponent: 2, epsilon: 1e-3, table: { rangeBits: 2, indexBits: 9, extraBits: 0 } };
    return { out: ops.powerAttention(scores, values, ops.constant([1], [1]), ops.constant([1 / count], [1]), options) };
  });
  const attended = async (value: number, fraction: number): Promise<number> => {
    const inputs = new Map<string, Tensor>([
      ['x', { shape: [1, 1, count], values: new Float64Array(count) }],
      ['v', { shape: [1, count, 1], values: new Float64Array(count).fill(value) }],
    ]);
    const lowered = quantise(program, { bits: 64, fraction });
    const outputs = await simulate(lowered, { kernels: createWasmKernels(64), weights: read(inputs), inputs: read(inputs) });
    return outputs.get('out')!.values[0]!;
  };
  const plan = (maxAverage: number): Plan => ({ layers: [], finalNorm: {}, ranges: { here: { maxAbs: 1, maxAverage } } });

  it.each([16, 15, 14])('may be as large as a plan says that it may, with %i fraction bits', async (fraction) => {
    const most = 2 ** (64 - 2 - 16 - 2 * fraction);
    const fitting = 0.99 * most;
    expect(() => checkRanges(plan(fitting), { bits: 64, fraction }, 'config.json')).not.toThrow();
    expect((await attended(fitting, fraction)) / fitting).toBeCloseTo(1 / 1.001, 3);
    expect(() => checkRanges(plan(2.1 * most), { bits: 64, fraction }, 'config.json')).toThrow(/66 bits/);
    await expect(attended(2.1 * most, fraction)).rejects.toMatchObject({ kind: 'range' });
  });
});
