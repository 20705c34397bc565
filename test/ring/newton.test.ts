import { describe, expect, it } from 'vitest';
import { forecast } from '../../src/backends/cost/index.ts';
import { simulate } from '../../src/backends/fixed/index.ts';
import { quantise, schedule, wordBitsOf } from '../../src/backends/ring/index.ts';
import { newtonSteps } from '../../src/backends/ring/newton.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import { newtonIterations, type RowFunction, rowValue } from '../../src/math/index.ts';
import { type Bounded, type Ops, type Program, type Ref, type Tensor, trace } from '../../src/program/index.ts';
import { both } from '../mpc/piecewise.ts';

const read = (tensors: ReadonlyMap<string, Tensor>) => async (name: string) => tensors.get(name)!;

/** f of a client's secret plus a server's. */
function programOf(f: (ops: Ops<Ref>, x: Ref) => Ref, count: number): Program {
  return trace((ops) => {
    const x = ops.add(ops.input('x', [count], 'client'), ops.input('w', [count], 'server'));
    return { out: ops.scope('function', () => f(ops, x)) };
  });
}

const apply =
  ({ power, factor, epsilon }: RowFunction, table: Bounded) =>
  (ops: Ops<Ref>, x: Ref): Ref =>
    power === -1 ? ops.reciprocal(x, { epsilon, table }) : ops.inverseSquareRoot(x, { factor, epsilon, table });

const secrets = (values: readonly number[]): Map<string, Tensor> =>
  new Map([
    ['x', { shape: [values.length], values: Float64Array.from(values, (value, at) => value - (at % 3)) }],
    ['w', { shape: [values.length], values: Float64Array.from(values, (_, at) => at % 3) }],
  ]);

/** Over the whole range, evenly by ratio. */
const spread = (low: number, high: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => low * (high / low) ** (i / (count - 1)));

interface Given {
  readonly name: string;
  readonly f: RowFunction;
  readonly low: number;
  readonly high: number;
}
const functions: readonly Given[] = [
  { name: '1/x of means between 1 and 4', f: { power: -1, factor: 1, epsilon: 1e-3 }, low: 1, high: 4 },
  { name: '1/x of means between 0.5 and 40', f: { power: -1, factor: 1, epsilon: 1e-3 }, low: 0.5, high: 40 },
  { name: '1/√ of row sums between 8 and 250', f: { power: -0.5, factor: 1 / 24, epsilon: 1e-5 }, low: 8, high: 250 },
  { name: '1/√ of row sums between 30 and 2000', f: { power: -0.5, factor: 1 / 768, epsilon: 1e-5 }, low: 30, high: 2000 },
];
const rings = [
  { bits: 64, fraction: 16 },
  { bits: 48, fraction: 14 },
  { bits: 32, fraction: 9 },
];

describe.each(rings)('Newton’s iteration in a ring of $bits bits', (ring) => {
  it.each(functions)('$name stays within its stated error over the range', async ({ f, low, high }) => {
    for (const extra of [0, 1]) {
      const iterations = newtonIterations(f, { low, high }, 1e-4) + extra;
      const table = { method: 'newton', low, high, iterations } as const;
      const { error, distance } = newtonSteps(f, table, ring);
      expect(distance).toBeLessThan(1.5e-4);
      const values = spread(low, high, 400);
      // The output has F bits alone, so the result is shown as a factor of its argument, which is what it is for.
      const scale = 2 ** -Math.ceil(Math.log2(high * rowValue(f, high)));
      const program = quantise(
        programOf((ops, x) => ops.multiply(ops.scale(x, scale), apply(f, table)(ops, x)), values.length),
        ring,
      );
      const kernels = createWasmKernels(wordBitsOf(ring.bits));
      const all = secrets(values);
      const got = (await simulate(program, { kernels, weights: read(all), inputs: read(all) })).get('out')!.values;
      // The argument has F bits, the result enters the product with at least F + 2, and the product is rounded to F.
      const unit = 2 ** -ring.fraction;
      values.forEach((x, i) => {
        const due = scale * x * rowValue(f, x);
        expect(Math.abs(got[i]! / due - 1)).toBeLessThan(error + unit / due + unit / (scale * x) + unit / 4 / rowValue(f, x));
      });
      expect(kernels.allocatedBytes).toBe(0);
    }
  });

  it.each(functions)('$name: a private run equals the simulation bit for bit and the forecast byte for byte', async (given) => {
    const { f, low, high } = given;
    const table = { method: 'newton', low, high, iterations: 3 } as const;
    const values = spread(low, high, 23);
    const lowered = quantise(programOf(apply(f, table), values.length), ring);
    const all = secrets(values);
    const { run, exact, held } = await both(lowered, all, all);
    expect(run.outputs.get('out')).toEqual(exact.get('out'));
    expect(run.measured).toEqual(forecast(lowered).total);
    expect(held).toBe(0);
    expect(lowered.nodes.some(({ operation }) => operation === 'lookup' || operation === 'piecewise')).toBe(false);
  });

  it('takes two hops an iteration', () => {
    const hops = (iterations: number): number => {
      const { f, low, high } = functions[1]!;
      const table = { method: 'newton', low, high, iterations } as const;
      return schedule(
        quantise(
          programOf((ops, x) => ops.square(apply(f, table)(ops, ops.square(x))), 4),
          ring,
        ),
      ).length;
    };
    expect([hops(2) - hops(1), hops(5) - hops(4)]).toEqual([2, 2]);
  });

  it('refuses an argument outside of its range with its scope', async () => {
    const { f, low, high } = functions[1]!;
    const program = quantise(programOf(apply(f, { method: 'newton', low, high, iterations: 4 }), 2), ring);
    for (const value of [low * 0.5, high * 1.2]) {
      const all = secrets([low, value]);
      const run = simulate(program, { kernels: createWasmKernels(wordBitsOf(ring.bits)), weights: read(all), inputs: read(all) });
      await expect(run).rejects.toMatchObject({ kind: 'range', place: { scope: 'function' } });
    }
  });
});

it('needs more iterations for wider ranges, and each brings it nearer', () => {
  const ring = rings[0]!;
  for (const { f } of functions) {
    const needed = [2, 4, 16, 64, 256].map((ratio) => newtonIterations(f, { low: 1, high: ratio }, 1e-4));
    expect(needed).toEqual([...needed].sort((a, b) => a - b));
    const at = [1, 2, 3, 4, 5].map(
      (iterations) => newtonSteps(f, { method: 'newton', low: 1, high: 20, iterations }, ring).distance,
    );
    expect(at).toEqual([...at].sort((a, b) => b - a));
  }
});
