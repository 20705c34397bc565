import { describe, expect, it } from 'vitest';
import { simulate } from '../../src/backends/fixed/index.ts';
import { referenceBackend } from '../../src/backends/reference/index.ts';
import { quantise } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { type Tensor, trace } from '../../src/program/index.ts';
import { toyProgram, toyTokens, toyWeights } from './toy.ts';

const read = (tensors: ReadonlyMap<string, Tensor>) => async (name: string) => tensors.get(name)!;

describe('the fixed backend', () => {
  it('has room for a product of fourteen integer bits times a public factor below one', async () => {
    const side = Math.sqrt(0.97 * 2 ** 14);
    const program = trace((ops) => {
      const [x, y] = [ops.input('x', [1], 'client'), ops.input('y', [1], 'client')];
      return { out: ops.scale(ops.multiply(x, y), 0.7) };
    });
    const inputs = new Map<string, Tensor>(['x', 'y'].map((name) => [name, { shape: [1], values: Float64Array.of(side) }]));
    const lowered = quantise(program, { bits: 64, fraction: 16 });
    const got = await simulate(lowered, { kernels: createWasmKernels(64), weights: read(inputs), inputs: read(inputs) });
    expect(got.get('out')!.values[0]).toBeCloseTo(0.7 * side ** 2, 0);
  });

  it.each([
    { bits: 64, fraction: 16, tolerance: 2e-2 },
    { bits: 48, fraction: 14, tolerance: 5e-2 },
    { bits: 32, fraction: 9, tolerance: 0.5 },
  ])('stays near the float reference in a ring of $bits bits', async ({ bits, fraction, tolerance }) => {
    const options = { tokens: 4, width: 8, exponent: 2, steps: 2 };
    const program = toyProgram(options);
    const [weights, tokens] = [toyWeights(8, 3), toyTokens(options)];
    const exact = await (await referenceBackend().compile(program, weights)).run(tokens);
    const kernels = createWasmKernels(bits <= 32 ? 32 : 64);
    const outputs = await simulate(quantise(program, { bits, fraction }), {
      kernels,
      weights: read(weights),
      inputs: read(tokens),
    });
    for (const [name, expected] of exact) {
      const got = outputs.get(name)!;
      expect(got.shape).toEqual(expected.shape);
      const error = Math.max(...Array.from(got.values, (value, i) => Math.abs(value - expected.values[i]!)));
      expect(error, name).toBeLessThan(tolerance);
    }
    expect(kernels.allocatedBytes).toBe(0);
  });

  it('names the scope of a value that leaves the range', async () => {
    const options = { tokens: 3, width: 8, exponent: 4, steps: 0 };
    const weights = toyWeights(8, 3);
    weights.get('qkv')!.values.forEach((value, i, all) => {
      all[i] = value * 3000;
    });
    const run = simulate(quantise(toyProgram(options), { bits: 40, fraction: 12 }), {
      kernels: createWasmKernels(64),
      weights: read(weights),
      inputs: read(toyTokens(options)),
    });
    await expect(run).rejects.toMatchObject({ kind: 'range', place: { scope: 'layers.0' } });
  });

  it('says which entry of a table was asked for, in entries', async () => {
    const table = { rangeBits: 4, indexBits: 6, extraBits: 0 };
    const program = trace((ops) => {
      const x = ops.input('x', [2], 'client');
      return { y: ops.scope('norm', () => ops.reciprocal(x, { epsilon: 0.1, table })) };
    });
    const run = (value: number): Promise<unknown> =>
      simulate(quantise(program, { bits: 64, fraction: 16 }), {
        kernels: createWasmKernels(64),
        weights: read(new Map()),
        inputs: async () => ({ shape: [2], values: Float64Array.of(1, value) }),
      });
    await expect(run(17.5)).rejects.toMatchObject({
      kind: 'range',
      reason: 'lookup: index 70 of a table of 64 entries',
      place: { scope: 'norm' },
    });
    await expect(run(15.5)).resolves.toBeDefined();
  });
});
