import { describe, expect, it } from 'vitest';
import { forecast } from '../../src/backends/cost/index.ts';
import { simulate } from '../../src/backends/fixed/index.ts';
import { RingBuilder } from '../../src/backends/ring/builder.ts';
import { messagesOf, type Piecewise, packedBytes, type RingProgram, wordBitsOf } from '../../src/backends/ring/index.ts';
import { createWasmKernels } from '../../src/kernels/index.ts';
import type { Tensor } from '../../src/program/index.ts';
import { numbers } from '../ring/toy.ts';
import { both } from './piecewise.ts';

const none = {
  knots: [] as readonly number[],
  offsets: [] as readonly number[],
  slopes: [] as readonly number[],
  start: 0,
  coefficients: [] as readonly (readonly number[])[],
};
const piece = (parameters: { bits: number; drop: number } & Partial<typeof none>): Piecewise => {
  const all = { ...none, ...parameters };
  return {
    ...all,
    knots: Float64Array.from(all.knots),
    offsets: Float64Array.from(all.offsets),
    slopes: Float64Array.from(all.slopes),
    coefficients: all.coefficients.map((values) => Float64Array.from(values)),
  };
};

/** x + w, through one piecewise polynomial, revealed as integers. */
function programOf(bits: number, count: number, parameters: Piecewise): RingProgram {
  const ring = new RingBuilder({ bits, fraction: 0 });
  const pinned = { shape: [count], state: 'pinned', fraction: 0 } as const;
  const x = ring.push('clientInput', [], { name: 'x', encoding: 'real', fraction: 0 }, pinned);
  const w = ring.push('serverInput', [], { name: 'w', fraction: 0, factor: 1 }, { ...pinned, state: 'server' });
  const sum = ring.push('addServer', [x, w], {}, pinned);
  const made = ring.push('piecewise', [sum], parameters, { ...pinned, state: 'floating' });
  ring.push('reveal', [made], { name: 'y', fraction: 0 }, pinned);
  return ring.program();
}

function secrets(values: readonly number[], spread: number): { weights: Map<string, Tensor>; inputs: Map<string, Tensor> } {
  const w = numbers(values.length, 5).map((value) => Math.round(value * spread));
  return {
    weights: new Map([['w', { shape: [values.length], values: w }]]),
    inputs: new Map([['x', { shape: [values.length], values: Float64Array.from(values, (value, at) => value - w[at]!) }]]),
  };
}

const edge = (bits: number, drop: number): number[] => {
  const most = 2 ** (bits - 1);
  const small = [-3, -2, -1, 0, 1, 2, 3];
  return [
    -most + 2 ** drop,
    -most + 2 ** drop + 1,
    most - 1,
    most - 2,
    ...small,
    ...small.map((value) => value * 2 ** drop),
  ].filter((value) => value >= -most + (drop > 0 ? 2 ** drop : 0) && value < most);
};

describe.each([32, 48, 64])('piecewise polynomials in a ring of %i bits', (L) => {
  const random = (bits: number, drop: number, count = 60): number[] =>
    Array.from(numbers(count, bits + drop), (value) => Math.round(value * (2 ** (bits - 1) - 2 ** drop - 1)));

  it.each([2, 3, 8, 20, 31])('compare and rectify exactly over %i bits', async (bits) => {
    const values = [...edge(bits, 0), ...random(bits, 0)];
    const { weights, inputs } = secrets(values, 1000);
    for (const [offset, slope] of [
      [1, 0],
      [0, 1],
      [-5, 3],
    ] as const) {
      const program = programOf(
        Math.min(64, L),
        values.length,
        piece({ bits, drop: 0, knots: [0], offsets: [offset], slopes: [slope] }),
      );
      const safe = L === 32 && bits > 28 ? values.map((value) => (slope === 0 ? value : Math.trunc(value / 8))) : values;
      const { inputs: given, weights: held } = secrets(safe, 1000);
      const { run } = await both(program, held, given);
      expect(Array.from(run.outputs.get('y')!.values)).toEqual(safe.map((value) => (value >= 0 ? offset + slope * value : 0)));
    }
    expect(inputs.size + weights.size).toBe(2);
  });

  it('equal the simulation bit for bit, with many knots, a table of every degree, and any offset', async () => {
    for (const [bits, drop] of [
      [10, 0],
      [12, 4],
      [24, 13],
    ] as const) {
      const values = [...edge(bits, drop), ...random(bits, drop, 120)];
      for (const degree of [0, 1, 2]) {
        const [knots, offsets, slopes] = [
          [-20, -3, 0, 1, 40],
          [7, -100, 3, 0, -9],
          [0, 2, -1, 5, 1],
        ];
        const span = 2 ** (bits - drop - 1);
        const fitting = knots.filter((knot) => Math.abs(knot) < span);
        const coefficients = [
          [1, 2, 3, 4, 5, 6, 7, 8],
          [3, -1, 4, -1, 5, -9, 2, -6],
          [1, 0, -1, 0, 1, 0, -1, 0],
        ].slice(0, degree + 1);
        const parameters = piece({
          bits,
          drop,
          knots: fitting,
          offsets: offsets.slice(0, fitting.length),
          slopes: slopes.slice(0, fitting.length),
          start: -5,
          coefficients,
        });
        for (const seed of [1, 2]) {
          const { weights, inputs } = secrets(values, 100_000);
          const { run, exact, held } = await both(programOf(L, values.length, parameters), weights, inputs, seed);
          expect(run.outputs.get('y')).toEqual(exact.get('y'));
          expect(held).toBe(0);
        }
      }
    }
  });

  it('send and store what they declare, to the byte', async () => {
    const values = random(20, 6, 33);
    const { weights, inputs } = secrets(values, 1000);
    for (const slopes of [[0], [1]]) {
      const parameters = piece({
        bits: 20,
        drop: 6,
        knots: [3],
        offsets: [1],
        slopes,
        start: -8,
        coefficients: [Array(16).fill(2)],
      });
      const program = programOf(L, values.length, parameters);
      const { run } = await both(program, weights, inputs);
      expect(run.measured).toEqual(forecast(program).total);
      const at = program.nodes.findIndex((node) => node.operation === 'piecewise');
      expect(run.client.nodes.get(at)?.serverToClient).toBe(packedBytes(values.length, 20));
      expect(messagesOf(program.nodes[at]!, program)).toEqual({ serverToClient: [{ count: values.length, width: 20 }] });
    }
  });

  it('refuse an argument outside of the declared bits in the simulation', async () => {
    const program = programOf(L, 1, piece({ bits: 8, drop: 2, knots: [0], offsets: [1], slopes: [0] }));
    for (const value of [128, -125, 3000]) {
      const { weights, inputs } = secrets([value], 10);
      const run = simulate(program, {
        kernels: createWasmKernels(wordBitsOf(L)),
        weights: async (name) => weights.get(name)!,
        inputs: async (name) => inputs.get(name)!,
      });
      await expect(run).rejects.toMatchObject({ kind: 'range' });
    }
  });
});
